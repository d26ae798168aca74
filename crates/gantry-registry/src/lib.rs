//! The registry client: pull.
//!
//! Owns: the distribution protocol, authentication, choice of platform.
//! Never: knows containers; writes to the store (the engine connects the two).
//! Start here: [`Registry::resolve`], [`Registry::blob`].
//!
//! A registry is a stranger: every document is bounded in size and checked against its digest, every wait has
//! an end. What a blob holds is checked by the store, which hashes it while unpacking.
#![forbid(unsafe_code)]

mod auth;
mod blob;
mod challenge;
mod document;
mod error;
mod host;
mod tls;
mod words;

pub use error::RegistryError;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use gantry_oci::{Digest, Reference};
use host::Host;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Credentials of one registry (`X-Registry-Auth`).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub identity_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// `os/arch[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Settings of the client (daemon.json).
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Registries (`host[:port]`) spoken to by HTTP or with any certificate, beside loopback ones.
    pub insecure: Vec<String>,
    /// PEM files of more certificate authorities: `<folder>/<host[:port]>/*.crt`.
    pub certificate_folder: Option<PathBuf>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a registry may be silent in the middle of an answer.
    pub idle_timeout: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            certificate_folder: Some(PathBuf::from("/etc/docker/certs.d")),
            connect_timeout: Duration::from_secs(8),
            idle_timeout: Duration::from_secs(30),
        }
    }
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
    /// Lowest first.
    pub layers: Vec<RemoteLayer>,
}

/// A layer's blob in a registry.
#[derive(Debug, Clone)]
pub struct RemoteLayer {
    pub digest: Digest,
    /// Bytes, as the manifest says.
    pub size: u64,
    pub media_type: String,
}

/// A blob as it comes. It ends after exactly the expected number of bytes, or with an error.
pub type BlobStream = BoxStream<'static, Result<Bytes, RegistryError>>;

/// A client of all registries. Clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Registry {
    options: Arc<RegistryOptions>,
    hosts: Arc<Mutex<HashMap<String, Arc<Host>>>>,
}

impl Registry {
    /// Makes a client; no file is read and nothing is connected before the first use.
    pub fn new(options: RegistryOptions) -> Self {
        Self {
            options: Arc::new(options),
            hosts: Arc::default(),
        }
    }

    /// Fetches manifest and configuration for a reference.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        credentials: Option<&Credentials>,
    ) -> Result<Remote, RegistryError> {
        let host = self.host(&reference.domain)?;
        document::resolve(&host, reference, platform, credentials).await
    }

    /// Streams a blob from `offset` on. A broken or silent connection is made again and the blob taken up where
    /// it ended; when that does not help, the stream ends with an error after a bounded time.
    pub async fn blob(
        &self,
        reference: &Reference,
        layer: &RemoteLayer,
        offset: u64,
        credentials: Option<&Credentials>,
    ) -> Result<BlobStream, RegistryError> {
        let host = self.host(&reference.domain)?;
        blob::stream(
            host,
            reference.clone(),
            layer.clone(),
            offset,
            credentials.cloned(),
        )
        .await
    }

    fn host(&self, domain: &str) -> Result<Arc<Host>, RegistryError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(domain) {
            return Ok(host.clone());
        }
        let host = Arc::new(Host::new(domain, &self.options)?);
        hosts.insert(domain.to_owned(), host.clone());
        Ok(host)
    }
}
