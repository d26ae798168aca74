//! A harness for end-to-end tests: the real binary as a daemon of its own, and a client for it.
//!
//! Owns: starting and ending a daemon with names that no other has, requests by hand, images to run, registries.
//! Never: ships.
//! Start here: [`Engine`].
//!
//! What goes wrong here panics: this crate is for tests, where a panic with a clear sentence is the failure.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    reason = "a panic is how a test fails; every function here may"
)]

mod client;
mod dice;
mod docker;
mod engine;
mod firewalls;
mod http;
mod kernel;
mod machine;
mod registry;
mod rootfs;
mod tokens;
mod wire;

pub use client::{Ran, ran};
pub use dice::Dice;
pub use docker::{compose_cli, docker_cli};
pub use engine::{Engine, Options};
pub use firewalls::Firewalls;
pub use http::{Answer, Hijacked, call, hijack, read_frames};
pub use machine::Machine;
pub use registry::{Certificates, Registry};
pub use rootfs::{busybox_tar, cache, debian_tar, servers_tar};
pub use tokens::TokenServer;
pub use wire::Wire;

use std::time::{Duration, Instant};

/// Asks until the answer is yes; panics with `what` when it is not within `patience`.
pub fn until(what: &str, patience: Duration, mut ask: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !ask() {
        assert!(Instant::now() < end, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
