//! One layer: from the registry's stream into the store, through a short channel.

use super::Puller;
use crate::error::{Error, Result};
use crate::images::ProgressSender;
use crate::images::push::retrying;
use crate::images::report::Bar;
use bytes::{Buf, Bytes};
use futures_util::TryStreamExt;
use gantry_api::progress::Progress;
use gantry_oci::{Digest, Reference};
use gantry_registry::{Credentials, RemoteLayer};
use gantry_store::StoreError;
use gantry_store::layers::Expected;
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pieces that wait between the network and the disk.
const WAITING: usize = 16;

/// What is to be done for one layer.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) puller: &'a Puller,
    pub(super) reference: &'a Reference,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) progress: &'a ProgressSender,
    pub(super) remote: &'a RemoteLayer,
    pub(super) diff_id: &'a Digest,
}

impl Job<'_> {
    fn bar(&self) -> Bar<'_> {
        // COMPAT: a layer is called by the first 12 digits of its blob's digest.
        Bar::new(
            self.progress,
            &self.remote.digest.hex()[..12],
            self.remote.size,
        )
    }

    async fn is_there(&self) -> Result<bool> {
        let (store, diff_id) = (self.puller.store.clone(), self.diff_id.clone());
        let found = crate::blocking(move || store.layers.get(&diff_id)).await??;
        Ok(found.is_some())
    }

    /// Says what there is to do.
    pub(super) async fn announce(&self) -> Result<()> {
        let text = match self.is_there().await? {
            true => "Already exists",
            false => "Pulling fs layer",
        };
        self.bar().step(text).await;
        Ok(())
    }

    /// Fetches the layer, where it is not there yet.
    pub(super) async fn run(&self) -> Result<()> {
        // One at a time: who comes second finds the layer there.
        let turn = self.puller.busy.of(self.diff_id);
        let mut held = turn.try_lock().ok();
        let waits = held.is_none();
        if waits {
            self.bar().step("Waiting").await;
            held = Some(turn.lock().await);
        }
        if self.is_there().await? {
            if waits {
                self.bar().step("Already exists").await;
            }
            return Ok(());
        }
        let downloads = self.puller.transfers.downloads();
        let permit = match downloads.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                self.bar().step("Waiting").await;
                let permit = downloads.acquire().await;
                permit.map_err(|e| Error::caused("no download is possible", e))?
            }
        };
        let done = self.download().await;
        drop((permit, held));
        done
    }

    /// Fetches what is not there of the blob, and has it unpacked meanwhile.
    async fn download(&self) -> Result<()> {
        let expected = Expected {
            blob: Some(self.remote.digest.clone()),
            size: Some(self.remote.size),
            diff_id: Some(self.diff_id.clone()),
        };
        let store = self.puller.store.clone();
        let (asks, mut asked) = mpsc::channel::<Ask>(1);
        let unpacking = tokio::task::spawn_blocking(move || {
            let mut open = |offset| {
                let (to, from) = mpsc::channel(WAITING);
                let ask = Ask { offset, to };
                asks.blocking_send(ask)
                    .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
                Ok(Box::new(Pieces::new(from)) as Box<dyn Read + Send>)
            };
            store.layers.receive(&expected, &mut open)
        });
        // The store asks again where what was there of the blob turns out to be broken.
        let mut fetched = Ok(());
        while let Some(ask) = asked.recv().await {
            fetched = self.feed(ask).await;
        }
        let unpacked = unpacking
            .await
            .map_err(|e| Error::caused("a layer's thread failed", e))?;
        fetched?;
        unpacked.map_err(|error| self.refused(error))?;
        self.bar().step("Pull complete").await;
        Ok(())
    }

    /// Hands the blob on from an offset; the end's mark comes when all of it was there.
    async fn feed(&self, ask: Ask) -> Result<()> {
        let mut bar = self.bar();
        let registry = &self.puller.registry;
        let (progress, id) = (self.progress.clone(), bar.id().to_owned());
        let told = move |pause| {
            let _ = progress.try_send(Progress::of(&id, retrying(pause)));
        };
        let (offset, told) = (ask.offset, Some(Arc::new(told) as _));
        let stream = registry.blob(self.reference, self.remote, offset, self.credentials, told);
        let mut stream = stream.await?;
        let mut current = offset;
        while let Some(piece) = stream.try_next().await? {
            current += piece.len() as u64;
            bar.at("Downloading", current);
            if ask.to.send(Some(piece)).await.is_err() {
                // Unpacking failed; it says why.
                return Ok(());
            }
        }
        bar.step("Verifying Checksum").await;
        bar.step("Download complete").await;
        bar.whole("Extracting").await;
        let _ = ask.to.send(None).await;
        Ok(())
    }

    /// Why the store did not take the layer.
    fn refused(&self, error: StoreError) -> Error {
        match error {
            // COMPAT: moby's words (distribution/pull_v2.go).
            StoreError::DigestMismatch {
                expected, found, ..
            } => {
                tracing::warn!(%expected, %found, "a layer has another digest");
                Error::system(format!(
                    "filesystem layer verification failed for digest {}",
                    self.remote.digest
                ))
            }
            other => {
                let error = Error::from(other);
                Error::system(format!("failed to register layer: {}", error.message))
            }
        }
    }
}

/// The store's wish for a blob from an offset on.
#[derive(Debug)]
struct Ask {
    offset: u64,
    to: mpsc::Sender<Option<Bytes>>,
}

/// The reading end: `None` marks the end; a channel that closes without it is a broken download.
struct Pieces {
    from: mpsc::Receiver<Option<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl Pieces {
    fn new(from: mpsc::Receiver<Option<Bytes>>) -> Self {
        Self {
            from,
            piece: Bytes::new(),
            ended: false,
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.from.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
