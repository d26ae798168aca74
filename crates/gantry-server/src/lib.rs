//! The Docker Engine API over HTTP: versions 1.24 to 1.51, on unix sockets, TCP, TLS and sockets handed
//! over by systemd.
//!
//! Owns: HTTP, hijacked streams, API versions, the one map from an error's kind to a status ([`error`]).
//! Never: decides policy; it parses a request, calls the engine, and writes the answer.
//! Start here: [`serve`]; then `router`, `routes/<noun>.rs`, `connection` (how a request is answered) and
//! `hijack` (streams that leave HTTP).
//!
//! When a client goes away, what it alone waited for (a pull, a wait, logs, events) is dropped; what changes
//! a container runs to its end.

#![deny(unsafe_code)]

mod body;
mod call;
mod connection;
mod error;
mod hijack;
pub mod listener;
mod progress;
mod query;
mod reply;
mod router;
mod routes;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod upload;
mod websocket;

pub use listener::{Listener, TlsOptions};
pub use serve::serve;
pub use tokio_util::sync::CancellationToken;
