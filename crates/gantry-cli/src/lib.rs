//! The command line, a client of the daemon's API as Docker's is.
//!
//! Owns: flags, commands (`commands/<noun>/<verb>.rs`), output formats, progress, the terminal.
//! Never: links the engine; all it knows it asks the daemon for.
//! Start here: [`main`], then `commands::container::run`.
//!
//! Nothing is done before the command is known: the table is static data, only the chosen command's
//! flags are read, and only a command that talks to the daemon makes a runtime.
#![forbid(unsafe_code)]

mod client;
mod commands;
mod config;
mod cx;
mod failure;
mod flags;
mod format;
mod overview;
mod request;
mod stream;

use std::ffi::OsString;
use std::process::ExitCode;

use cx::{Cx, GlobalFlags};
use failure::{Failure, Outcome};

/// Runs the command that `args` (with the program's name first) ask for.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut words = args
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned());
    let program = program_name(words.next().as_deref());
    match dispatch(program, words.collect()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("{}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Called as `docker`, the texts say `docker`.
fn program_name(called: Option<&str>) -> String {
    let base = called.unwrap_or_default().rsplit('/').next();
    match base {
        Some("docker") => "docker".to_owned(),
        _ => "gantry".to_owned(),
    }
}

fn dispatch(program: String, words: Vec<String>) -> Outcome {
    let mut globals = GlobalFlags::default();
    let mut rest = match flags::parse(words, &mut [&mut globals], false) {
        Ok(rest) => rest,
        Err(flags::Stop::Help(_)) => Vec::new(),
        Err(flags::Stop::Wrong(text)) => {
            return Err(Failure::new(format!(
                "{text}\n\nUsage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
            ))
            .with_code(125));
        }
    };
    if globals.version {
        println!("{}", overview::version_line());
        return Ok(0);
    }
    if rest.first().is_some_and(|word| word == "help") {
        rest.remove(0);
        rest.push("--help".to_owned());
    }
    let is_help = |word: &String| word == "--help" || word == "-h";
    if rest.first().is_none_or(is_help) {
        print!("{}", overview::root(&program));
        return Ok(0);
    }
    let noun = rest.remove(0);
    let is_group = commands::GROUPS.iter().any(|group| group.name == noun);
    if !is_group {
        return run(program, globals, noun, rest);
    }
    // COMPAT: unasked for, the help of a group goes to stderr.
    if rest.is_empty() {
        let blank = if noun == "manifest" { "\n" } else { "" };
        eprint!("{blank}{}", overview::group(&program, &noun));
        return Ok(0);
    }
    if rest.first().is_some_and(is_help) {
        print!("{}", overview::group(&program, &noun));
        return Ok(0);
    }
    let called = format!("{noun} {}", rest.remove(0));
    run(program, globals, called, rest)
}

fn run(program: String, globals: GlobalFlags, called: String, words: Vec<String>) -> Outcome {
    match commands::find(&called) {
        Some(command) => (command.run)(&Cx::new(program, globals, called, words)),
        None => Err(Failure::new(overview::unknown(&program, &called))),
    }
}
