//! `gantryd`: flags and daemon.json become settings, settings become an engine and a server.
//!
//! A stop (SIGTERM, SIGINT) ends the daemon, not the containers: their shims go on, and the next daemon takes them up.

mod flags;
mod networks;
mod registries;
mod run;
mod settings;

use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the daemon until it is told to stop.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let flags = flags::Flags::parse_from(args);
    match run::run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to start daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}
