//! What goes wrong with a registry, in Docker's words.

/// Docker's words for what went wrong.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// `manifest for x:y not found: manifest unknown: manifest unknown`
    #[error("{0}")]
    NotFound(String),
    /// `pull access denied for x, repository does not exist or may require 'docker login': denied: ...`
    #[error("{0}")]
    Denied(String),
    /// No connection: `Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused`
    #[error("{0}")]
    Unreachable(String),
    /// The registry answered something broken, hung, or ended too early.
    #[error("{0}")]
    Protocol(String),
    /// `toomanyrequests: You have reached your pull rate limit. ...`
    #[error("{0}")]
    TooMany(String),
    /// The credentials are not the registry's.
    #[error("{0}")]
    Unauthorized(String),
    /// The settings for the registry, or what is asked for, cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// An index has nothing for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
}
