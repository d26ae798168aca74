//! One layer: found in the registry, or made and sent.

use super::Session;
use super::manifest::Plan;
use crate::error::{Error, Result};
use crate::images::report::Bar;
use flate2::Compression;
use flate2::write::GzEncoder;
use gantry_oci::media_type::OCI_LAYER_GZIP;
use gantry_oci::{Digest, Sha256};
use gantry_registry::{Outgoing, Sending, Source};
use gantry_store::Store;
use gantry_store::layers::LayerBlob;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Repositories that a blob is tried to be taken over from.
const MOUNTS: usize = 4;

/// What is to be done for one layer.
#[derive(Debug)]
pub(super) struct Job<'a> {
    session: &'a Session<'a>,
    pub(super) diff_id: &'a Digest,
    /// The blob that the known manifest has for it.
    wanted: Option<LayerBlob>,
}

/// A job for each layer, lowest first.
pub(super) fn jobs<'a>(
    session: &'a Session<'a>,
    plan: &Plan,
    diff_ids: &'a [Digest],
) -> Vec<Job<'a>> {
    let jobs = diff_ids.iter().enumerate().map(|(at, diff_id)| Job {
        session,
        diff_id,
        wanted: plan.blob(at),
    });
    jobs.collect()
}

impl Job<'_> {
    pub(super) fn bar(&self) -> Bar<'_> {
        self.bar_of(0)
    }

    fn bar_of(&self, total: u64) -> Bar<'_> {
        // COMPAT: in a push a layer is called by the first 12 digits of its diff ID.
        Bar::new(self.session.progress, &self.diff_id.hex()[..12], total)
    }

    /// Brings the layer there, where it is not yet.
    pub(super) async fn run(&self) -> Result<()> {
        let known = {
            let there = self.session.there.lock();
            let there = there.unwrap_or_else(PoisonError::into_inner);
            there.contains_key(self.diff_id)
        };
        if known {
            self.bar().step("Layer already exists").await;
            return Ok(());
        }
        let uploads = self.session.pusher.transfers.uploads();
        let _permit = match uploads.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                self.bar().step("Waiting").await;
                let permit = uploads.acquire().await;
                permit.map_err(|e| Error::caused("no upload is possible", e))?
            }
        };
        let blob = match self.find().await? {
            Some(blob) => blob,
            None => self.send().await?,
        };
        let (store, name) = (self.store(), self.session.repository.name());
        let (diff_id, noted) = (self.diff_id.clone(), blob.clone());
        let wanted = self.wanted.as_ref().map(|wanted| wanted.digest.clone());
        crate::blocking(move || {
            // What another registry's manifest says of a blob is no proof of what is in it.
            if Some(&noted.digest) != wanted.as_ref() {
                store.layers.add_blob(&diff_id, &noted)?;
            }
            store.layers.add_source(&noted.digest, &name)
        })
        .await??;
        let there = self.session.there.lock();
        let mut there = there.unwrap_or_else(PoisonError::into_inner);
        there.insert(self.diff_id.clone(), blob);
        Ok(())
    }

    fn store(&self) -> Arc<Store> {
        self.session.pusher.store.clone()
    }

    /// The forms that the layer is known by, the wanted one first, with the repositories that have them.
    async fn forms(&self) -> Result<Vec<(LayerBlob, Vec<String>)>> {
        let (store, diff_id, wanted) = (self.store(), self.diff_id.clone(), self.wanted.clone());
        let forms = crate::blocking(move || {
            let known = store.layers.blobs_of(&diff_id)?;
            let mut forms: Vec<LayerBlob> = Vec::new();
            for form in wanted.into_iter().chain(known) {
                if !forms.iter().any(|other| other.digest == form.digest) {
                    forms.push(form);
                }
            }
            let with_sources = |form: LayerBlob| {
                let sources = store.layers.sources(&form.digest)?;
                Ok((form, sources))
            };
            forms.into_iter().map(with_sources).collect()
        });
        let forms: gantry_store::Result<_> = forms.await?;
        Ok(forms?)
    }

    /// Looks for the layer in the repository, and in others of the registry.
    async fn find(&self) -> Result<Option<LayerBlob>> {
        let push = &self.session.push;
        for (form, sources) in self.forms().await? {
            if push.has(&form.digest, form.size).await? {
                self.bar().step("Layer already exists").await;
                return Ok(Some(form));
            }
            let ours = format!("{}/", self.session.repository.domain);
            let paths = sources.iter().filter_map(|name| name.strip_prefix(&ours));
            let others = paths.filter(|path| *path != self.session.repository.path);
            for path in others.take(MOUNTS) {
                if push.mount(&form.digest, path).await? {
                    let line = format!("Mounted from {path}");
                    self.bar().step(&line).await;
                    return Ok(Some(form));
                }
            }
        }
        Ok(None)
    }

    /// Sends the blob as it is kept, or a new one.
    async fn send(&self) -> Result<LayerBlob> {
        let push = &self.session.push;
        let (form, file, made) = self.blob().await?;
        if made && push.has(&form.digest, form.size).await? {
            // Made before, and forgotten here.
            self.bar().step("Layer already exists").await;
            return Ok(form);
        }
        let blob = Outgoing {
            digest: form.digest.clone(),
            size: form.size,
            source: Source::File(Arc::new(file)),
        };
        let bar = Mutex::new(self.bar_of(form.size));
        let tell = |sending| {
            let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
            match sending {
                Sending::At(current) => bar.at("Pushing", current),
                Sending::Waiting(pause) => bar.now(&retrying(pause)),
            }
        };
        push.upload(&blob, &tell).await?;
        self.bar().step("Pushed").await;
        Ok(form)
    }

    /// A form of the layer and its bytes; whether it was made just now.
    async fn blob(&self) -> Result<(LayerBlob, File, bool)> {
        let (store, diff_id) = (self.store(), self.diff_id.clone());
        let forms = self.forms().await?;
        let found = crate::blocking(move || {
            for (form, _) in forms {
                if let Some(file) = store.layers.blob_file(&form.digest)? {
                    return Ok((form, file, false));
                }
            }
            let (form, file) = compress(&store, &diff_id)?;
            Ok((form, file, true))
        });
        found.await?
    }
}

/// Docker's words for a pause before the next try.
pub(in crate::images) fn retrying(pause: Duration) -> String {
    let seconds = pause.as_secs_f64().ceil() as u64;
    let s = if seconds == 1 { "" } else { "s" };
    format!("Retrying in {seconds} second{s}")
}

/// Makes the layer's gzip form: always the same one.
fn compress(store: &Store, diff_id: &Digest) -> Result<(LayerBlob, File)> {
    let spool = store.spool()?;
    let buffered = BufWriter::with_capacity(256 << 10, Counted::new(&spool));
    // COMPAT: the level of Go's gzip.NewWriter.
    let mut encoder = GzEncoder::new(buffered, Compression::new(6));
    store.layers.write_tar(diff_id, &mut encoder)?;
    let failed = |e| Error::caused("cannot write the layer's compressed form", e);
    let buffered = encoder.finish().map_err(failed)?;
    let counted = buffered.into_inner();
    let Counted { hash, bytes, .. } = counted.map_err(|e| failed(e.into_error()))?;
    let form = LayerBlob {
        digest: hash.finish(),
        size: bytes,
        media_type: OCI_LAYER_GZIP.to_owned(),
    };
    Ok((form, spool))
}

/// Counts and hashes what goes into a file.
struct Counted<'a> {
    file: &'a File,
    hash: Sha256,
    bytes: u64,
}

impl<'a> Counted<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            file,
            hash: Sha256::default(),
            bytes: 0,
        }
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
