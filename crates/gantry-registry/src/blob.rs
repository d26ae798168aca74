//! Blobs as streams that survive a broken connection.

use crate::host::{Host, Request};
use crate::{BlobStream, Credentials, RegistryError, RemoteLayer, words};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, try_unfold};
use gantry_oci::Reference;
use reqwest::StatusCode;
use std::sync::Arc;
use std::time::Duration;

/// Failures that are taken in a row, without a byte in between.
const IN_A_ROW: u32 = 3;
/// Failures that are taken for one blob.
const IN_ALL: u32 = 12;
/// Wait before the first new try; each further one in a row waits twice as long.
const PAUSE: Duration = Duration::from_millis(200);

type Pieces = BoxStream<'static, reqwest::Result<Bytes>>;

/// Where a download stands.
struct Download {
    host: Arc<Host>,
    reference: Reference,
    layer: RemoteLayer,
    credentials: Option<Credentials>,
    /// The next byte to hand out.
    offset: u64,
    /// Bytes that the present answer repeats.
    skip: u64,
    pieces: Option<Pieces>,
    in_a_row: u32,
    in_all: u32,
}

pub(crate) async fn stream(
    host: Arc<Host>,
    reference: Reference,
    layer: RemoteLayer,
    offset: u64,
    credentials: Option<Credentials>,
) -> Result<BlobStream, RegistryError> {
    let mut download = Download {
        host,
        reference,
        layer,
        credentials,
        offset,
        skip: 0,
        pieces: None,
        in_a_row: 0,
        in_all: 0,
    };
    // What the registry refuses, it refuses before the stream begins.
    if download.offset < download.layer.size || download.layer.size == 0 {
        download.connect().await?;
    }
    Ok(try_unfold(download, |mut download| async move {
        let piece = download.next().await?;
        Ok(piece.map(|piece| (piece, download)))
    })
    .boxed())
}

impl Download {
    async fn connect(&mut self) -> Result<(), RegistryError> {
        let request = Request {
            reference: &self.reference,
            path: format!("blobs/{}", self.layer.digest),
            accept: None,
            offset: self.offset,
        };
        let response = self.host.get(&request, self.credentials.as_ref()).await?;
        // A registry without ranges sends all of it again.
        self.skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => 0,
            _ => self.offset,
        };
        self.pieces = Some(response.bytes_stream().boxed());
        Ok(())
    }

    /// The next piece; `None` at the blob's end.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let failure = match &mut self.pieces {
                None if self.offset == self.layer.size => return Ok(None),
                None => match self.connect().await {
                    Ok(()) => continue,
                    Err(error @ (RegistryError::Unreachable(_) | RegistryError::Protocol(_))) => {
                        error.to_string()
                    }
                    Err(error) => return Err(error),
                },
                Some(pieces) => {
                    match tokio::time::timeout(self.host.idle_timeout, pieces.next()).await {
                        Ok(Some(Ok(piece))) => match self.take(piece)? {
                            Some(piece) => return Ok(Some(piece)),
                            None => continue,
                        },
                        Ok(None) if self.offset == self.layer.size => return Ok(None),
                        Ok(None) => "unexpected EOF".to_owned(),
                        Ok(Some(Err(error))) if error.is_timeout() => self.silence(),
                        Ok(Some(Err(error))) => words::failure("Get", &self.url(), &error).await,
                        Err(_) => self.silence(),
                    }
                }
            };
            self.pieces = None;
            self.again(failure).await?;
        }
    }

    /// Takes a piece off the wire; `None` where it was seen before.
    fn take(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let seen = self.skip.min(piece.len() as u64);
        self.skip -= seen;
        let piece = piece.split_off(seen as usize);
        if piece.is_empty() {
            return Ok(None);
        }
        self.offset += piece.len() as u64;
        if self.offset > self.layer.size {
            return Err(RegistryError::Protocol(format!(
                "the blob {} is longer than the {} bytes that its manifest says",
                self.layer.digest, self.layer.size
            )));
        }
        self.in_a_row = 0;
        Ok(Some(piece))
    }

    /// Waits for the next try, or gives up.
    async fn again(&mut self, failure: String) -> Result<(), RegistryError> {
        self.in_a_row += 1;
        self.in_all += 1;
        if self.in_a_row > IN_A_ROW || self.in_all > IN_ALL {
            return Err(RegistryError::Protocol(failure));
        }
        tracing::info!(blob = %self.layer.digest, offset = self.offset, failure, "a download begins again");
        tokio::time::sleep(PAUSE * 2u32.pow(self.in_a_row - 1)).await;
        Ok(())
    }

    fn silence(&self) -> String {
        format!(
            "the registry sent nothing for {} s in the middle of {}",
            self.host.idle_timeout.as_secs_f32(),
            self.layer.digest
        )
    }

    /// What a failure is about.
    fn url(&self) -> String {
        let Reference { domain, path, .. } = &self.reference;
        format!("{domain}/v2/{path}/blobs/{}", self.layer.digest)
    }
}
