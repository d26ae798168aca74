//! Pulling from real and from hostile registries on loopback.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod debian;
mod hostile;
mod server;
mod tls;
