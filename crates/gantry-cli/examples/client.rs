//! The client alone, without the daemon's half of the binary: for trying it against any daemon, and for
//! the tests of this crate.

fn main() -> std::process::ExitCode {
    gantry_cli::main(std::env::args_os().collect())
}
