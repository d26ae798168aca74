//! `pull`: an image comes from a registry into the store.
//!
//! Layers are fetched side by side, three at a time; each one is hashed, decompressed and unpacked while it
//! comes. An image is named when all of it is there. Layers that were fetched for a pull that failed stay until
//! the store next collects what no image uses: the next try does not fetch them again.

mod layer;
#[cfg(test)]
mod tests;

use super::policy::Policy;
use super::transfers::Transfers;
use super::{PullRequest, archives, builtin, credentials, report};
use crate::error::{Error, ErrorKind, Result};
use crate::images::ProgressSender;
use futures_util::future::try_join_all;
use gantry_api::progress::Progress;
use gantry_oci::config::ImageConfig;
use gantry_oci::{Digest, Reference};
use gantry_registry::{Credentials, Platform, Registry, RegistryError, Remote};
use gantry_store::Store;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long a registry may take to answer before the built-in image is used instead.
const BUILTIN_PATIENCE: Duration = Duration::from_secs(4);

/// Pulls images into one store.
#[derive(Debug)]
pub(super) struct Puller {
    store: Arc<Store>,
    registry: Registry,
    transfers: Arc<Transfers>,
    policy: Policy,
    busy: Busy,
}

/// How the images of one pull are asked for.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    platform: &'a Platform,
    credentials: Option<&'a Credentials>,
    progress: &'a ProgressSender,
}

/// The layers that are on their way, so that two pulls do not fetch the same one.
#[derive(Debug, Default)]
struct Busy(Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>);

impl Busy {
    fn of(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = busy.get(diff_id).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        busy.insert(diff_id.clone(), Arc::downgrade(&turn));
        turn
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        let kind = match &error {
            RegistryError::NotFound(_) | RegistryError::NoPlatform(_) => ErrorKind::NotFound,
            // COMPAT: moby's notFoundError (distribution/errors.go): what one may not see is not there.
            RegistryError::Denied(text) if text.starts_with("pull access denied") => {
                ErrorKind::NotFound
            }
            RegistryError::Invalid(_) => ErrorKind::InvalidParameter,
            _ => ErrorKind::System,
        };
        Self::new(kind, error.to_string())
    }
}

impl Puller {
    pub(super) fn new(
        store: Arc<Store>,
        registry: Registry,
        transfers: Arc<Transfers>,
        policy: Policy,
    ) -> Self {
        Self {
            store,
            registry,
            transfers,
            policy,
            busy: Busy::default(),
        }
    }

    /// Pulls an image, or with all of its tags a repository that is named without one.
    pub(super) async fn pull(
        &self,
        reference: &Reference,
        request: &PullRequest,
        progress: &ProgressSender,
    ) -> Result<()> {
        let mut reference = reference.clone();
        if reference.familiar_name() == "scratch" {
            let text = "'scratch' is a reserved name";
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        let (os, architecture, variant) = archives::platform(&request.platform)?;
        let platform = Platform {
            os,
            architecture,
            variant: Some(variant).filter(|variant| !variant.is_empty()),
        };
        let credentials = request.auth.as_ref().map(credentials);
        let source = Source {
            platform: &platform,
            credentials: credentials.as_ref(),
            progress,
        };
        let mut changed = false;
        if reference.digest.is_some() {
            // COMPAT: the digest says all; Docker drops a tag beside it.
            reference.tag = None;
        } else if reference.tag.is_none() {
            let tags = self.registry.tags(&reference, source.credentials).await?;
            for tag in tags {
                let tag = Some(tag);
                let reference = Reference {
                    tag,
                    ..reference.clone()
                };
                changed |= self.pull_one(&reference, &source).await?;
            }
            report::end(&reference, changed, progress).await;
            return Ok(());
        }
        if builtin::is_named(&reference) {
            match self.resolve_soon(&reference, &source).await {
                Err(RegistryError::Unreachable(why)) => {
                    return self.use_builtin(&reference, &why, progress).await;
                }
                resolved => changed |= self.fetch(&reference, &resolved?, &source).await?,
            }
        } else {
            changed |= self.pull_one(&reference, &source).await?;
        }
        report::end(&reference, changed, progress).await;
        Ok(())
    }

    /// Pulls what one name stands for; says whether that is something new.
    async fn pull_one(&self, reference: &Reference, source: &Source<'_>) -> Result<bool> {
        if let Some(digest) = self.up_to_date(reference, source).await? {
            report::begin(reference, source.progress).await;
            let line = format!("Digest: {digest}");
            report::say(source.progress, Progress::status(line)).await;
            return Ok(false);
        }
        let (platform, credentials) = (source.platform, source.credentials);
        let remote = self.registry.resolve(reference, platform, credentials);
        self.fetch(reference, &remote.await?, source).await
    }

    /// The digest that a name stands for, where the very image for the platform came by it and is still named so.
    async fn up_to_date(
        &self,
        reference: &Reference,
        source: &Source<'_>,
    ) -> Result<Option<Digest>> {
        let images = &self.store.images;
        let named = images.named(reference);
        // A policy is asked about what the registry has, whatever is here.
        if named.is_empty() || self.policy.is_set() {
            return Ok(None);
        }
        let digest = match &reference.digest {
            Some(digest) => digest.clone(),
            None => match self.registry.digest(reference, source.credentials).await? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let by_digest = Reference {
            tag: None,
            digest: Some(digest.clone()),
            ..reference.clone()
        };
        let Platform {
            os,
            architecture,
            variant,
        } = source.platform;
        let variant = variant.as_deref().unwrap_or_default();
        let wanted = gantry_oci::manifest::Platform::of(os, architecture, variant);
        for id in images.named(&by_digest) {
            let image = images.get(&id)?;
            if named.contains(&id) && image.is_some_and(|image| image.platform().is_same(&wanted)) {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// What a name stands for that may come from the binary instead.
    async fn resolve_soon(
        &self,
        reference: &Reference,
        source: &Source<'_>,
    ) -> std::result::Result<Remote, RegistryError> {
        let (platform, credentials) = (source.platform, source.credentials);
        let resolved = self.registry.resolve(reference, platform, credentials);
        match tokio::time::timeout(BUILTIN_PATIENCE, resolved).await {
            Ok(resolved) => resolved,
            Err(_) => Err(RegistryError::Unreachable("no answer".to_owned())),
        }
    }

    async fn use_builtin(
        &self,
        reference: &Reference,
        why: &str,
        progress: &ProgressSender,
    ) -> Result<()> {
        self.policy.admit_name(reference, "the built-in image")?;
        tracing::info!(why, "the built-in hello-world image is used");
        let line =
            "Docker Hub cannot be reached: using the hello-world image that is built into Gantry";
        report::say(progress, Progress::status(line)).await;
        let (store, name) = (self.store.clone(), reference.clone());
        crate::blocking(move || builtin::load(&store, &name)).await??;
        let line = format!("Status: Loaded built-in image for {}", reference.familiar());
        report::say(progress, Progress::status(line)).await;
        Ok(())
    }

    /// Whether an image is here with all of its layers, which the pull's lease holds from now on.
    async fn is_here(&self, id: &Digest, diff_ids: &[Digest]) -> Result<bool> {
        if self.store.images.get(id)?.is_none() {
            return Ok(false);
        }
        let (store, diff_ids) = (self.store.clone(), diff_ids.to_vec());
        crate::blocking(move || {
            for diff_id in &diff_ids {
                if store.layers.get(diff_id)?.is_none() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?
    }

    /// Brings what is not here yet; says whether the name stands for something new.
    async fn fetch(
        &self,
        reference: &Reference,
        remote: &Remote,
        source: &Source<'_>,
    ) -> Result<bool> {
        let Source {
            credentials,
            progress,
            ..
        } = *source;
        self.policy
            .admit(reference, remote, &self.registry, credentials)
            .await?;
        let diff_ids = diff_ids(remote)?;
        report::begin(reference, progress).await;

        let lease = self.store.layers.lease();
        let jobs = diff_ids.iter().zip(&remote.layers);
        let jobs: Vec<_> = jobs
            .map(|(diff_id, remote)| layer::Job {
                puller: self,
                reference,
                credentials,
                progress,
                remote,
                diff_id,
            })
            .collect();
        // COMPAT: nothing is said of the layers of an image that is here.
        if !self.is_here(&Digest::of(&remote.config), &diff_ids).await? {
            for job in &jobs {
                job.announce().await?;
            }
            try_join_all(jobs.iter().map(layer::Job::run)).await?;
        }

        let (store, name, remote_image) = (self.store.clone(), reference.clone(), remote.clone());
        let changed =
            crate::blocking(move || name_image(&store, &name, &remote_image, &diff_ids)).await??;
        drop(lease);
        let store = self.store.clone();
        crate::blocking(move || store.images.collect_layers()).await??;

        let line = format!("Digest: {}", remote.digest);
        report::say(progress, Progress::status(line)).await;
        Ok(changed)
    }
}

/// The layers' diff IDs, which must be as many as the manifest's layers.
fn diff_ids(remote: &Remote) -> Result<Vec<Digest>> {
    let config: ImageConfig = serde_json::from_slice(&remote.config)
        .map_err(|e| Error::caused("the image's configuration is broken", e))?;
    if config.os != "linux" && !config.os.is_empty() {
        return Err(Error::system(format!(
            "image operating system {:?} cannot be used on this platform: operating system is not supported",
            config.os
        )));
    }
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != remote.layers.len() {
        // COMPAT: moby's errRootFSMismatch.
        return Err(Error::system(
            "layers from manifest don't match image configuration",
        ));
    }
    Ok(diff_ids)
}

/// Stores configuration and names; says whether the name stands for another image now.
fn name_image(
    store: &Store,
    reference: &Reference,
    remote: &Remote,
    diff_ids: &[Digest],
) -> Result<bool> {
    let before = store.images.named(reference);
    let id = store.images.put(&remote.config)?;
    // What the reference named is what the digest is of.
    let named = remote.index.as_ref().unwrap_or(&remote.manifest);
    store.images.add_digest(reference, &id, named)?;
    let repository = reference.name();
    store.manifests.add(&id, &repository, &remote.manifest)?;
    for (diff_id, layer) in diff_ids.iter().zip(&remote.layers) {
        // Only of what was unpacked from it is it certain what is in a blob.
        let known = store.layers.blobs_of(diff_id)?;
        if known.iter().any(|blob| blob.digest == layer.digest) {
            store.layers.add_source(&layer.digest, &repository)?;
        }
    }
    let changed = !before.contains(&id);
    if changed && reference.digest.is_none() {
        // What was pulled for other platforms stays.
        store.images.tag_platform(reference, &id)?;
    }
    Ok(changed)
}
