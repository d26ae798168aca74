//! Gantry: one binary, several personalities, chosen by the name it is called by or by its first word.
//!
//! Owns: that choice, and the daemon's wiring ([`daemon`]).
//! Never: holds logic.
//! Start here: [`main`].

mod daemon;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args
        .first()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    match called.rsplit('/').next().unwrap_or_default() {
        "gantry-spawner" => gantry_runtime::spawner::spawner_main(),
        "gantry-proxy" => gantry_network::proxy::proxy_main(),
        "docker-init" => gantry_runtime::pid1::init_main(),
        "gantryd" | "dockerd" => daemon::main(&args),
        _ if args.get(1).is_some_and(|word| word == "daemon") => {
            let rest = args[..1]
                .iter()
                .chain(&args[2..])
                .cloned()
                .collect::<Vec<_>>();
            daemon::main(&rest)
        }
        _ => gantry_cli::main(args),
    }
}
