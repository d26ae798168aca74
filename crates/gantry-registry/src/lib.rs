//! The registry client: pull and push.
//!
//! Owns: the distribution protocol, authentication, mirrors and proxies, choice of platform.
//! Never: knows containers; writes to the store (the engine connects the two).
//! Start here: [`Registry::resolve`], [`Registry::blob`], [`Registry::push`].
//!
//! A registry is a stranger: every document is bounded in size and checked against its digest, every wait has
//! an end. What a blob holds is checked by the store, which hashes it while unpacking.
#![forbid(unsafe_code)]

mod answer;
mod auth;
mod blob;
mod challenge;
mod document;
mod error;
mod fetch;
mod host;
mod inspect;
mod login;
mod options;
mod proxy;
mod push;
mod redirect;
mod search;
mod signatures;
mod tags;
mod tls;
mod upload;
mod words;

pub use error::RegistryError;
pub use fetch::Fetched;
pub use inspect::{Document, Inspection};
pub use options::{Insecure, RegistryOptions, insecure, mirror};
pub use proxy::{Proxies, masked};
pub use push::{Outgoing, Push, Sending, Source};
pub use search::Found;
pub use signatures::Signature;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use gantry_oci::{Digest, Reference};
use host::{HUB, Host, Name};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Credentials of one registry (`X-Registry-Auth`).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub identity_token: String,
    /// A token that is shown as it is.
    pub registry_token: String,
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

/// Called when a download waits for its next try.
pub type Told = Arc<dyn Fn(Duration) + Send + Sync>;

/// A client of all registries. Clones share connections, tokens and settings.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: RwLock<Arc<RegistryOptions>>,
    hosts: Mutex<HashMap<Name, Known>>,
}

#[derive(Debug)]
struct Known {
    host: Arc<Host>,
    /// What its certificates were made from.
    certificates: tls::Stamp,
}

impl Registry {
    /// Makes a client; no file is read and nothing is connected before the first use.
    pub fn new(options: RegistryOptions) -> Self {
        Self(Arc::new(Shared {
            options: RwLock::new(Arc::new(options)),
            hosts: Mutex::default(),
        }))
    }

    /// The present settings.
    pub fn options(&self) -> Arc<RegistryOptions> {
        let options = self.0.options.read();
        options.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the settings, for what begins from now on.
    pub fn configure(&self, options: RegistryOptions) {
        let mut held = self
            .0
            .options
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(options);
        self.lock_hosts().clear();
    }

    fn lock_hosts(&self) -> MutexGuard<'_, HashMap<Name, Known>> {
        self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches manifest and configuration for a reference.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        credentials: Option<&Credentials>,
    ) -> Result<Remote, RegistryError> {
        for mirror in self.mirrors(reference).await {
            match document::resolve(&mirror, reference, platform, credentials).await {
                Ok(remote) => return Ok(remote),
                Err(why) => passed_over(reference, &why),
            }
        }
        let host = self.host(&reference.domain).await?;
        document::resolve(&host, reference, platform, credentials).await
    }

    /// The digest of what a tag stands for, where a registry tells it; an error where none is there.
    pub async fn digest(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Digest>, RegistryError> {
        for mirror in self.mirrors(reference).await {
            if let Ok(Some(digest)) = document::digest(&mirror, reference, credentials).await {
                return Ok(Some(digest));
            }
        }
        let host = self.host(&reference.domain).await?;
        document::digest(&host, reference, credentials).await
    }

    /// All tags of a repository.
    pub async fn tags(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<String>, RegistryError> {
        for mirror in self.mirrors(reference).await {
            match tags::list(&mirror, reference, credentials).await {
                Ok(tags) => return Ok(tags),
                Err(why) => passed_over(reference, &why.pulling(reference)),
            }
        }
        let host = self.host(&reference.domain).await?;
        let tags = tags::list(&host, reference, credentials).await;
        tags.map_err(|why| why.pulling(reference))
    }

    /// Streams a blob from `offset` on. A broken or silent connection is made again and the blob taken up where
    /// it ended; when that does not help, the stream ends with an error after a bounded time.
    pub async fn blob(
        &self,
        reference: &Reference,
        layer: &RemoteLayer,
        offset: u64,
        credentials: Option<&Credentials>,
        told: Option<Told>,
    ) -> Result<BlobStream, RegistryError> {
        let mut hosts = self.mirrors(reference).await;
        hosts.push(self.host(&reference.domain).await?);
        let wanted = blob::Wanted {
            reference,
            layer,
            offset,
            credentials,
            told,
        };
        blob::stream(hosts, wanted).await
    }

    /// Opens a repository to be pushed to.
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Push, RegistryError> {
        let host = self.host(&reference.domain).await?;
        Push::open(host, reference, credentials).await
    }

    /// The mirrors that may have a repository: there are some for Docker Hub alone.
    async fn mirrors(&self, reference: &Reference) -> Vec<Arc<Host>> {
        let mut found = Vec::new();
        if reference.domain != HUB.0 {
            return found;
        }
        for mirror in &self.options().mirrors {
            let rest = mirror
                .split_once("://")
                .map_or(mirror.as_str(), |(_, rest)| rest);
            let name = Name {
                host: rest.split('/').next().unwrap_or_default().to_owned(),
                mirror: Some(mirror.clone()),
            };
            match self.known(name).await {
                Ok(host) if host.is_down() => {}
                Ok(host) => found.push(host),
                Err(error) => tracing::warn!(mirror, %error, "a mirror cannot be used"),
            }
        }
        found
    }

    async fn host(&self, domain: &str) -> Result<Arc<Host>, RegistryError> {
        let name = Name {
            host: domain.to_owned(),
            mirror: None,
        };
        self.known(name).await
    }

    async fn known(&self, name: Name) -> Result<Arc<Host>, RegistryError> {
        let options = self.options();
        let folder = tls::folder(options.certificate_folder.as_deref(), &name.host);
        let certificates = tls::stamp(folder.as_deref());
        if let Some(known) = self.lock_hosts().get(&name)
            && known.certificates == certificates
        {
            return Ok(known.host.clone());
        }
        let host = Arc::new(Host::new(&name, folder.as_deref(), &options).await?);
        let known = Known {
            host: host.clone(),
            certificates,
        };
        self.lock_hosts().insert(name, known);
        Ok(host)
    }
}

fn passed_over(reference: &Reference, why: &RegistryError) {
    let image = reference.familiar();
    tracing::info!(image, %why, "a mirror does not serve an image");
}
