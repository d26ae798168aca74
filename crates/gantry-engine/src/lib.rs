//! Containers, images, networks and events: what the daemon does, without a word of HTTP.
//!
//! Owns: one service for each noun behind a small `Engine`.
//! Never: mentions HTTP.
//! Start here: `Engine::open`, then `containers::start`.

pub mod error;
pub mod events;

pub use error::{Error, ErrorKind, Result};
