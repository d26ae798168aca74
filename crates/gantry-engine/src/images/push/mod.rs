//! `push`: an image goes from the store into a registry.
//!
//! Nothing is sent that the registry has: each layer is asked for by the digests that it is known by, then taken over
//! from other repositories there, and only then made and sent. Where all of a manifest that the image came by is there,
//! that very manifest is named again, so that its digest stays.

mod layer;
mod manifest;

use super::report::say;
use super::transfers::Transfers;
use super::{ProgressSender, PushRequest, resolve};
use crate::error::{Error, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;
use gantry_api::progress::{Progress, ProgressDetail};
use gantry_oci::manifest::Platform;
use gantry_oci::{Digest, Reference};
use gantry_registry::{Outgoing, Push, Registry, Source};
use gantry_store::Store;
use gantry_store::images::Image;
use gantry_store::layers::LayerBlob;
pub(super) use layer::retrying;
use manifest::Plan;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Pushes images out of one store.
#[derive(Debug)]
pub(super) struct Pusher {
    store: Arc<Store>,
    registry: Registry,
    transfers: Arc<Transfers>,
}

/// One push: a repository that is open, and what is known of it.
#[derive(Debug)]
struct Session<'a> {
    pusher: &'a Pusher,
    push: Push,
    /// Without tag and digest.
    repository: Reference,
    /// The layers that are there, by diff ID.
    there: Mutex<HashMap<Digest, LayerBlob>>,
    progress: &'a ProgressSender,
}

impl Pusher {
    pub(super) fn new(store: Arc<Store>, registry: Registry, transfers: Arc<Transfers>) -> Self {
        Self {
            store,
            registry,
            transfers,
        }
    }

    /// Pushes one tag, or all of a repository.
    pub(super) async fn push(
        &self,
        reference: &Reference,
        request: &PushRequest,
        progress: &ProgressSender,
    ) -> Result<()> {
        let repository = Reference {
            tag: None,
            digest: None,
            ..reference.clone()
        };
        let line = format!("The push refers to repository [{}]", repository.name());
        say(progress, Progress::status(line)).await;
        let tags = self.tags(reference, &repository)?;
        let credentials = request.auth.as_ref().map(super::credentials);
        let push = self.registry.push(&repository, credentials.as_ref());
        let session = Session {
            pusher: self,
            push: push.await?,
            repository,
            there: Mutex::default(),
            progress,
        };
        for tag in &tags {
            let image = self.image(tag, request.platform.as_ref())?;
            session.push_tag(tag, &image).await?;
        }
        Ok(())
    }

    /// The image that is meant by a name.
    pub(super) fn image(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Arc<Image>> {
        resolve::find(&self.store, &reference.to_string(), platform)
    }

    /// The names that go, in order.
    // COMPAT: moby's words (distribution/push.go, push_v2.go).
    fn tags(&self, reference: &Reference, repository: &Reference) -> Result<Vec<Reference>> {
        let ours = |name: &&Reference| {
            (&name.domain, &name.path) == (&repository.domain, &repository.path)
        };
        let mut names = BTreeSet::new();
        let mut known = false;
        for image in self.store.images.all()? {
            known |= image.digests.iter().any(|name| ours(&name));
            let tags = image.tags.iter().filter(ours);
            names.extend(tags.filter_map(|name| name.tag.clone()));
        }
        let name = repository.familiar_name();
        if names.is_empty() && !known {
            return Err(Error::system(format!(
                "An image does not exist locally with the tag: {name}"
            )));
        }
        if reference.digest.is_some() {
            return Err(Error::system("cannot push a digest reference"));
        }
        if let Some(tag) = &reference.tag {
            if !names.contains(tag) {
                let name = reference.familiar();
                return Err(Error::system(format!("tag does not exist: {name}")));
            }
            return Ok(vec![reference.clone()]);
        }
        if names.is_empty() {
            return Err(Error::system(format!("no tags to push for {name}")));
        }
        let full = |tag| Reference {
            tag: Some(tag),
            ..repository.clone()
        };
        Ok(names.into_iter().map(full).collect())
    }
}

impl Session<'_> {
    async fn push_tag(&self, reference: &Reference, image: &Arc<Image>) -> Result<()> {
        let store = &self.pusher.store;
        let lease = store.layers.lease();
        let (from, to, of) = (store.clone(), self.repository.clone(), image.clone());
        let plan = crate::blocking(move || Plan::make(&from, &of, &to)).await??;
        let jobs = layer::jobs(self, &plan, &image.diff_ids);
        // COMPAT: the highest layer is told of first.
        for job in jobs.iter().rev() {
            job.bar().step("Preparing").await;
        }
        let mut unique = BTreeSet::new();
        let jobs = jobs.iter().rev().filter(|job| unique.insert(job.diff_id));
        try_join_all(jobs.map(layer::Job::run)).await?;
        let config = Bytes::from(self.push_config(&image.id).await?);
        let blobs: Vec<LayerBlob> = {
            let there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
            let blob = |diff_id| there.get(diff_id).cloned();
            image.diff_ids.iter().filter_map(blob).collect()
        };
        let (media_type, manifest) = plan.manifest(&image.id, config.len() as u64, &blobs)?;
        let tag = reference.tag.as_deref().unwrap_or_default();
        let bytes = Bytes::from(manifest);
        self.push
            .put_manifest(tag, &media_type, bytes.clone())
            .await?;
        self.note(reference, image, bytes.clone()).await?;
        drop(lease);
        self.tell_end(tag, &bytes).await;
        Ok(())
    }

    /// Sends the configuration, where it is not there; the answer is its bytes.
    async fn push_config(&self, id: &Digest) -> Result<Vec<u8>> {
        let (store, of) = (self.pusher.store.clone(), id.clone());
        let bytes = crate::blocking(move || store.blobs.read(&of)).await??;
        let size = bytes.len() as u64;
        if !self.push.has(id, size).await? {
            let blob = Outgoing {
                digest: id.clone(),
                size,
                source: Source::Bytes(bytes.clone().into()),
            };
            self.push.upload(&blob, &|_| {}).await?;
        }
        Ok(bytes)
    }

    /// Keeps what the repository has now.
    async fn note(&self, reference: &Reference, image: &Image, manifest: Bytes) -> Result<()> {
        let (store, id) = (self.pusher.store.clone(), image.id.clone());
        let (reference, name) = (reference.clone(), self.repository.name());
        crate::blocking(move || {
            if store.images.get(&id)?.is_none() {
                // Removed meanwhile; it went all the same.
                return Ok(());
            }
            store.manifests.add(&id, &name, &manifest)?;
            store.images.add_digest(&reference, &id, &manifest)
        })
        .await??;
        Ok(())
    }

    async fn tell_end(&self, tag: &str, manifest: &Bytes) {
        let (digest, size) = (Digest::of(manifest), manifest.len());
        let line = format!("{tag}: digest: {digest} size: {size}");
        say(self.progress, Progress::status(line)).await;
        let aux = serde_json::json!({"Tag": tag, "Digest": digest, "Size": size});
        let line = Progress {
            progress_detail: Some(ProgressDetail::default()),
            aux: Some(aux),
            ..Progress::default()
        };
        say(self.progress, line).await;
    }
}
