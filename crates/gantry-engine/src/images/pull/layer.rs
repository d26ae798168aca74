//! One layer: from the registry's stream into the store, through a short channel.

use super::Puller;
use super::report::Bar;
use crate::error::{Error, Result};
use crate::images::ProgressSender;
use bytes::{Buf, Bytes};
use futures_util::TryStreamExt;
use gantry_oci::{Digest, Reference};
use gantry_registry::{Credentials, RemoteLayer};
use gantry_store::StoreError;
use gantry_store::layers::Expected;
use std::io::{self, Read};
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
        let permit = match self.puller.downloads.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                self.bar().step("Waiting").await;
                let permit = self.puller.downloads.acquire().await;
                permit.map_err(|e| Error::caused("no download is possible", e))?
            }
        };
        let done = self.download().await;
        drop((permit, held));
        done
    }

    async fn download(&self) -> Result<()> {
        let mut bar = self.bar();
        let registry = &self.puller.registry;
        let stream = registry.blob(self.reference, self.remote, 0, self.credentials, None);
        let mut stream = stream.await?;
        let (sender, pieces) = mpsc::channel(WAITING);
        let expected = Expected {
            blob: Some(self.remote.digest.clone()),
            size: Some(self.remote.size),
            diff_id: Some(self.diff_id.clone()),
        };
        let store = self.puller.store.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let mut reader = Pieces::new(pieces);
            store.layers.unpack(&mut reader, &expected)
        });
        let mut current = 0;
        let fetched = loop {
            match stream.try_next().await {
                Ok(Some(piece)) => {
                    current += piece.len() as u64;
                    bar.at("Downloading", current);
                    if sender.send(Some(piece)).await.is_err() {
                        // Unpacking failed; it says why.
                        break Ok(());
                    }
                }
                Ok(None) => {
                    bar.step("Verifying Checksum").await;
                    bar.step("Download complete").await;
                    bar.whole("Extracting").await;
                    let _ = sender.send(None).await;
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        // Without the end's mark the reader fails, and nothing half-made is named.
        drop(sender);
        let unpacked = unpacking
            .await
            .map_err(|e| Error::caused("a layer's thread failed", e))?;
        fetched?;
        unpacked.map_err(|error| match error {
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
        })?;
        bar.step("Pull complete").await;
        Ok(())
    }
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
