//! Containers, images, networks and events: what the daemon does, without a word of HTTP.
//!
//! Owns: one service for each noun behind a small [`Engine`].
//! Never: mentions HTTP.
//! Start here: [`Engine::open`], then [`containers`]'s `create` and `start`.

pub mod containers;
pub mod context;
pub mod engine;
pub mod error;
pub mod events;
pub mod images;
pub mod logs;
mod moment;
pub mod networks;
mod pieces;
pub mod system;
pub mod volumes;

pub use engine::{Engine, EngineConfig};
pub use error::{Error, ErrorKind, Result};
pub use gantry_store::Options as StoreOptions;

/// Runs blocking work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::caused("a worker thread failed", e))
}

/// Runs work to its end even when the caller, a client's request, goes away.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work)
        .await
        .map_err(|e| Error::caused("the operation failed", e))
}
