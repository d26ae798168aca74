//! Spawner, shim and init: a container on the kernel.
//!
//! Owns: namespaces, cgroups, mounts, seccomp, capabilities, terminals, logs to file.
//! Never: depends on tokio; knows images, HTTP or the database.
//! Start here: [`spawn::Spawner::start`] (in the daemon), then `spawner`, `shim`, `init` (the processes).
//!
//! ```text
//! daemon: Spawner::start(StartRequest)  -- request memfd + fds over seqpacket -->  spawner
//! spawner: fork -> shim (setsid, own process)   shim: clone3 -> init -> exec
//! shim -- Started | StartError over the request's own reply socket --> daemon
//! ```

pub mod capabilities;
pub mod cgroup;
mod compile;
mod init;
pub mod live_mounts;
pub mod log;
pub mod pid1;
mod plan;
pub mod seccomp;
mod shim;
pub mod shim_client;
pub mod signal;
pub mod spawn;
pub mod spawner;
mod steps;
mod sys;
pub mod view;
