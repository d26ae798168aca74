//! The registry's side of `manifest`.

use gantry_oci::manifest::{Descriptor, Manifest, Platform};
use gantry_oci::{Digest, Reference};
use gantry_registry::{Credentials, Document, Push, Registry, RegistryError, RegistryOptions};

use super::store::Stored;
use crate::config::key_of;
use crate::cx::Cx;
use crate::failure::Failure;

/// A registry, asked by the client itself.
#[derive(Debug)]
pub(super) struct Remote {
    registry: Registry,
    credentials: Option<Credentials>,
    insecure: bool,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Found {
    Manifest(Box<Stored>),
    List(Vec<Stored>),
}

fn no_such(name: &Reference) -> Failure {
    Failure::new(format!("no such manifest: {name}"))
}

fn told(error: RegistryError, name: &Reference) -> Failure {
    match error {
        RegistryError::NotFound(_) | RegistryError::Unauthorized(_) => no_such(name),
        other => failed(other),
    }
}

fn failed(error: RegistryError) -> Failure {
    Failure::new(match error {
        RegistryError::Unreachable(text) => {
            format!("failed to configure transport: error pinging v2 registry: {text}")
        }
        other => other.to_string(),
    })
}

impl Remote {
    /// The registry of a name. `insecure`: any certificate will do, or none.
    pub(super) fn of(cx: &Cx, name: &Reference, insecure: bool) -> Result<Remote, Failure> {
        let mut options = RegistryOptions::default();
        if insecure {
            let host = gantry_registry::insecure(&name.domain).map_err(Failure::new)?;
            options.insecure.push(host);
        }
        // A helper that fails is as good as none: the registry says what is missing.
        let stored = cx.config().credentials(key_of(&name.domain));
        let stored = stored.unwrap_or_default();
        let credentials = Credentials {
            username: stored.username,
            password: stored.password,
            identity_token: stored.identitytoken,
            registry_token: stored.registrytoken,
        };
        Ok(Remote {
            registry: Registry::new(options),
            credentials: Some(credentials).filter(|given| *given != Credentials::default()),
            insecure,
        })
    }

    /// A manifest; a list of them is none.
    pub(super) async fn manifest(&self, name: &Reference) -> Result<Stored, Failure> {
        let document = self.document(name).await?;
        match parsed(name, &document)? {
            Manifest::Image(image) => self.stored(name, document, &image.config).await,
            Manifest::Index(_) => Err(Failure::new(format!("{name} is a manifest list"))),
        }
    }

    /// A manifest, or all of a list.
    pub(super) async fn either(&self, name: &Reference) -> Result<Found, Failure> {
        let document = self.document(name).await?;
        let list = match parsed(name, &document)? {
            Manifest::Image(image) => {
                let stored = self.stored(name, document, &image.config).await?;
                return Ok(Found::Manifest(Box::new(stored)));
            }
            Manifest::Index(list) => list,
        };
        let mut all = Vec::new();
        for entry in list.manifests {
            let name = Reference {
                digest: Some(entry.digest),
                ..name.clone()
            };
            let document = self.document(&name).await?;
            let Manifest::Image(image) = parsed(&name, &document)? else {
                return Err(Failure::new(
                    "unsupported manifest type: *manifestlist.DeserializedManifestList",
                ));
            };
            let mut stored = self.stored(&name, document, &image.config).await?;
            // What the list says counts before the configuration.
            stored.descriptor.platform = Some(entry.platform.unwrap_or_default());
            all.push(stored);
        }
        Ok(Found::List(all))
    }

    async fn document(&self, name: &Reference) -> Result<Document, Failure> {
        // COMPAT: nothing is read from a registry without TLS unless --insecure says so.
        if !self.insecure && self.registry.is_plain(name).await.map_err(failed)? {
            return Err(no_such(name));
        }
        let document = self.registry.document(name, self.credentials.as_ref());
        document.await.map_err(|error| told(error, name))
    }

    async fn stored(
        &self,
        name: &Reference,
        document: Document,
        config: &Descriptor,
    ) -> Result<Stored, Failure> {
        let config = self
            .registry
            .configuration(name, config, self.credentials.as_ref())
            .await
            .map_err(|error| told(error, name))?;
        let platform: Platform = serde_json::from_slice(&config).unwrap_or_default();
        let descriptor = Descriptor {
            media_type: document.media_type,
            digest: document.digest,
            size: document.bytes.len() as u64,
            urls: Vec::new(),
            annotations: None,
            platform: Some(platform),
        };
        Stored::new(name, descriptor, &document.bytes)
    }

    /// Opens a repository to be written to.
    pub(super) async fn push(&self, name: &Reference) -> Result<Push, Failure> {
        if !self.insecure && self.registry.is_plain(name).await.map_err(failed)? {
            let why = "http: server gave HTTP response to HTTPS client";
            let text = format!("Get \"https://{}/v2/\": {why}", name.domain);
            return Err(failed(RegistryError::Unreachable(text)));
        }
        let push = self.registry.push(name, self.credentials.as_ref()).await;
        push.map_err(failed)
    }

    /// Names a manifest or a list in the registry.
    pub(super) async fn put(
        &self,
        name: &Reference,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<Digest, Failure> {
        let tag = match (&name.tag, &name.digest) {
            (Some(tag), _) => tag.clone(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => return Err(Failure::new(format!("{name} no tag or digest"))),
        };
        let digest = Digest::of(&bytes);
        let push = self.push(name).await?;
        let put = push.put_manifest(&tag, media_type, bytes.into()).await;
        put.map_err(|error| Failure::new(format!("failed to put manifest {name}: {error}")))?;
        Ok(digest)
    }
}

fn parsed(name: &Reference, document: &Document) -> Result<Manifest, Failure> {
    Manifest::parse(&document.bytes)
        .map_err(|error| Failure::new(format!("{name} is not a manifest: {error}")))
}
