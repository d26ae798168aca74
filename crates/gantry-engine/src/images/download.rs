//! `import URL`: the archive comes from a web server.

use super::archives::Import;
use super::report::{line, say};
use super::{Images, ProgressSender};
use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use futures_util::TryStreamExt;
use gantry_api::progress::Progress;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Pieces that wait between the network and the disk.
const WAITING: usize = 16;
/// Time between two lines of progress.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn import(
    images: &Arc<Images>,
    import: Import,
    source: &str,
    progress: ProgressSender,
) -> Result<()> {
    // COMPAT: an address without a scheme is one of http.
    let address = match source.contains("://") {
        true => source.to_owned(),
        false => format!("http://{source}"),
    };
    let fetched = images.context.registry.fetch(&address).await?;
    say(
        &progress,
        Progress::status(format!("Downloading from {address}")),
    )
    .await;
    let (sender, pieces) = mpsc::channel(WAITING);
    let (this, told) = (images.clone(), progress.clone());
    let importing = tokio::task::spawn_blocking(move || {
        let archive = Pieces {
            from: pieces,
            piece: Bytes::new(),
            ended: false,
        };
        this.import_blocking(import, Box::new(archive), &told)
    });
    let mut stream = fetched.stream;
    let (mut current, mut last) = (0, None::<Instant>);
    let total = fetched.size.unwrap_or(0);
    loop {
        let piece = match stream.try_next().await {
            Ok(Some(piece)) if piece.is_empty() => continue,
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => {
                let _ = sender.send(Ok(Bytes::new())).await;
                break;
            }
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        let broken = piece.is_err();
        if let Ok(piece) = &piece {
            current += piece.len() as u64;
            let now = Instant::now();
            let whole = current == total;
            if whole || last.is_none_or(|last| now - last >= INTERVAL) {
                last = Some(now);
                let mut told = line("", "Importing", current, total);
                told.id = None;
                // Nobody is held up for progress that is not read.
                let _ = progress.try_send(told);
            }
        }
        // Where the import gives up, it says why.
        if sender.send(piece).await.is_err() || broken {
            break;
        }
    }
    drop(sender);
    let done = importing.await;
    done.map_err(|e| Error::caused("the import's thread failed", e))?
}

/// The reading end: an empty piece marks the end; a channel that closes without it is a download that was given up.
struct Pieces {
    from: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            self.piece = self.from.blocking_recv().unwrap_or_else(|| {
                let why = "the download was given up";
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
            })?;
            self.ended = self.piece.is_empty();
        }
        let n = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}
