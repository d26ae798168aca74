//! Developer commands: `cargo xtask <command>`.
//!
//! Owns: what is done around the code: building the shipped binary, installing what that needs, showing,
//! measuring, testing and tidying it.
//! Never: ships.
//! Start here: [`COMMANDS`].

mod bench;
mod binary;
mod debian;
mod demo;
mod fuzz;
mod leaks;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;

/// A command: its name, one line about it, and what it does with its arguments.
type Command = (&'static str, &'static str, fn(&[String]) -> Result<()>);

const COMMANDS: &[Command] = &[
    (
        "demo",
        "build Gantry and show what it does on this machine",
        demo::run,
    ),
    (
        "bench",
        "measure it, beside Docker Engine and Podman where they are",
        bench::run,
    ),
    (
        "test",
        "install what tests need, run all of them, count; a word chooses by name",
        test::run,
    ),
    (
        "fuzz",
        "try the parsers of foreign bytes with made-up inputs, for a minute each",
        fuzz::run,
    ),
    (
        "tidy",
        "hold the house's rules: dependencies, sizes, names, licences",
        tidy::run,
    ),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = args.split_first() else {
        return usage();
    };
    let Some((_, _, run)) = COMMANDS.iter().find(|(known, ..)| known == name) else {
        eprintln!("xtask: there is no command {name:?}\n");
        return usage();
    };
    match run(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("Usage: cargo xtask COMMAND\n");
    for (name, about, _) in COMMANDS {
        eprintln!("  {name:<8} {about}");
    }
    ExitCode::FAILURE
}
