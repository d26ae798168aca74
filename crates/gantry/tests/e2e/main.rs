//! The real binary on the real kernel: a daemon for each test, driven by the client and by requests.
//!
//! Run by `cargo xtask test`, which builds the binary and names it in `$GANTRY_BINARY`.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what its tests share"
)]

mod archives;
mod bad_input;
mod certificates;
mod conformance;
mod daemon;
mod drivers;
mod events;
mod everyday;
mod exec;
mod files;
mod health;
mod images;
mod layout;
mod live_mounts;
mod logs;
mod many;
mod mount_changes;
mod names;
mod network;
mod networks;
mod networks_api;
mod platforms;
mod policy;
mod processes;
mod pull;
mod push;
mod reclaim;
mod recovery;
mod registries;
mod rmi;
mod rootfs;
mod roundtrips;
mod run;
mod states;
mod streams;
mod survival;
mod tokens;
mod traps;
mod usage;
mod volumes;
