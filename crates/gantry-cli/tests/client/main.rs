//! The client as a program, against a daemon that is played.
//!
//! `examples/client.rs` is run: it is the client alone. The daemon is a thread on a socket of its own, and
//! answers what the test tells it to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod daemon;
mod flow;
mod lists;
mod networks;
mod recorded;
mod registry;
mod terminal;
mod texts;

use std::path::PathBuf;
use std::process::Command;

/// The program under test, with nothing of this machine's environment that it would read.
fn client(host: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/client");
    assert!(path.exists(), "{} is built by cargo test", path.display());
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("DOCKER_HOST", host);
    command
}
