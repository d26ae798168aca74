//! Pulling from and pushing to real and hostile registries on loopback.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod debian;
mod elsewhere;
mod fetch;
mod hostile;
mod limits;
mod mirrors;
mod push;
mod server;
mod tls;
mod upload_server;
