//! The registry client: pull.
//!
//! Owns: the distribution protocol, authentication, choice of platform.
//! Never: knows containers; writes to the store (the engine connects the two).
//! Start here: [`Registry::resolve`], [`Registry::blob`].

use bytes::Bytes;
use gantry_oci::{Digest, Reference};

/// Credentials of one registry (`X-Registry-Auth`).
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub identity_token: String,
}

/// `os/arch[/variant]`.
#[derive(Debug, Clone)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

/// Settings of the client (daemon.json).
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Registries spoken to by HTTP or with any certificate, beside loopback ones.
    pub insecure: Vec<String>,
    /// PEM files of more certificate authorities (`/etc/docker/certs.d/<host>/*.crt`).
    pub certificate_folder: Option<std::path::PathBuf>,
}

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
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
}

/// An image in a registry, chosen for a platform.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Digest of what the reference named (an index or a manifest): what RepoDigests shows.
    pub digest: Digest,
    /// The manifest's exact bytes (verified).
    pub manifest: Bytes,
    /// The index's bytes, where the reference named one.
    pub index: Option<Bytes>,
    /// The configuration's exact bytes (verified).
    pub config: Bytes,
    pub layers: Vec<RemoteLayer>,
}

#[derive(Debug, Clone)]
pub struct RemoteLayer {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
}

/// A client of all registries.
#[derive(Debug, Clone)]
pub struct Registry {}

impl Registry {
    pub fn new(_options: RegistryOptions) -> Result<Self, RegistryError> {
        todo!()
    }
    /// Fetches manifest and configuration for a reference.
    pub async fn resolve(
        &self,
        _reference: &Reference,
        _platform: &Platform,
        _credentials: Option<&Credentials>,
    ) -> Result<Remote, RegistryError> {
        todo!()
    }
    /// Streams a blob; an idle connection ends with an error after a bounded time. `offset`: resume.
    pub async fn blob(
        &self,
        _reference: &Reference,
        _layer: &RemoteLayer,
        _offset: u64,
        _credentials: Option<&Credentials>,
    ) -> Result<futures_util::stream::BoxStream<'static, Result<Bytes, RegistryError>>, RegistryError>
    {
        todo!()
    }
}
