//! Blobs as streams that survive a broken connection.

use crate::answer::Unanswered;
use crate::host::{Host, Request, pull_scope};
use crate::{BlobStream, Credentials, RegistryError, RemoteLayer, Told, words};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, try_unfold};
use gantry_oci::Reference;
use reqwest::StatusCode;
use reqwest::header::{HeaderValue, RANGE};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a connection brings at least while it may be silent (`idle_timeout`), bytes; less is as good as nothing.
const LEAST: u64 = 1024;
/// Failures that are taken for one blob, as a multiple of those in a row.
const IN_ALL: u32 = 4;

type Pieces = BoxStream<'static, reqwest::Result<Bytes>>;

/// Where a download stands.
struct Download {
    /// Mirrors first; the one that serves is the first of them.
    hosts: Vec<Arc<Host>>,
    reference: Reference,
    layer: RemoteLayer,
    scopes: [String; 1],
    credentials: Option<Credentials>,
    told: Option<Told>,
    /// The next byte to hand out.
    offset: u64,
    /// Bytes that the present answer repeats.
    skip: u64,
    pieces: Option<Pieces>,
    /// How long was waited, and how many bytes came meanwhile; looked at, it begins anew.
    waited: Duration,
    came: u64,
    /// Whether the present connection brings next to nothing.
    slow: bool,
    in_a_row: u32,
    in_all: u32,
}

/// What a download is about.
pub(crate) struct Wanted<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) layer: &'a RemoteLayer,
    pub(crate) offset: u64,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) told: Option<Told>,
}

pub(crate) async fn stream(
    hosts: Vec<Arc<Host>>,
    wanted: Wanted<'_>,
) -> Result<BlobStream, RegistryError> {
    let mut download = Download {
        hosts,
        reference: wanted.reference.clone(),
        layer: wanted.layer.clone(),
        scopes: [pull_scope(&wanted.reference.path)],
        credentials: wanted.credentials.cloned(),
        told: wanted.told,
        offset: wanted.offset,
        skip: 0,
        pieces: None,
        waited: Duration::ZERO,
        came: 0,
        slow: false,
        in_a_row: 0,
        in_all: 0,
    };
    // What the registry refuses, it refuses before the stream begins.
    if download.offset < download.layer.size || download.layer.size == 0 {
        while let Err(why) = download.connect().await {
            download.failed(why).await?;
        }
    }
    Ok(try_unfold(download, |mut download| async move {
        let piece = download.next().await?;
        Ok(piece.map(|piece| (piece, download)))
    })
    .boxed())
}

impl Download {
    fn host(&self) -> Result<&Arc<Host>, RegistryError> {
        let none = || RegistryError::Unreachable("no registry is left to ask".to_owned());
        self.hosts.first().ok_or_else(none)
    }

    async fn connect(&mut self) -> Result<(), Unanswered> {
        let path = format!("blobs/{}", self.layer.digest);
        let (scopes, credentials) = (&self.scopes, self.credentials.as_ref());
        let mut request = Request::get(&self.reference, &path, scopes, credentials);
        if self.offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.offset));
            let range = range.map_err(|e| RegistryError::Protocol(e.to_string()))?;
            request.headers.insert(RANGE, range);
        }
        let response = self.host()?.ask(&request).await?;
        // A registry without ranges sends all of it again.
        self.skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => 0,
            _ => self.offset,
        };
        (self.waited, self.came) = (Duration::ZERO, 0);
        self.pieces = Some(response.bytes_stream().boxed());
        Ok(())
    }

    /// After a request that brought no stream: another host, another try, or the end.
    async fn failed(&mut self, why: Unanswered) -> Result<(), RegistryError> {
        if self.host()?.mirror && self.hosts.len() > 1 {
            let why = why.pulling(&self.reference);
            tracing::info!(blob = %self.layer.digest, %why, "a mirror does not serve a blob");
            self.hosts.remove(0);
            return Ok(());
        }
        let passing = why.is_passing();
        let error = why.pulling(&self.reference);
        match passing {
            true => self.again(error).await,
            false => Err(error),
        }
    }

    /// The next piece; `None` at the blob's end.
    async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let idle = self.host()?.options.idle_timeout;
            let failure = match &mut self.pieces {
                None if self.offset == self.layer.size => return Ok(None),
                None => {
                    if let Err(why) = self.connect().await {
                        self.failed(why).await?;
                    }
                    continue;
                }
                Some(_) if std::mem::take(&mut self.slow) => self.silence(idle),
                Some(pieces) => {
                    let began = Instant::now();
                    let next = tokio::time::timeout(idle, pieces.next()).await;
                    self.waited += began.elapsed();
                    match next {
                        Ok(Some(Ok(piece))) => {
                            self.came += piece.len() as u64;
                            let piece = self.take(piece)?;
                            if self.is_slow(idle) {
                                self.slow = true;
                            }
                            match piece {
                                Some(piece) => return Ok(Some(piece)),
                                None => continue,
                            }
                        }
                        Ok(None) if self.offset == self.layer.size => return Ok(None),
                        Ok(None) => "unexpected EOF".to_owned(),
                        Ok(Some(Err(error))) if error.is_timeout() => self.silence(idle),
                        Ok(Some(Err(error))) => words::failure("Get", &self.url(), &error).await,
                        Err(_) => self.silence(idle),
                    }
                }
            };
            self.pieces = None;
            self.again(RegistryError::Protocol(failure)).await?;
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

    /// Whether too little came for the time that was waited.
    fn is_slow(&mut self, idle: Duration) -> bool {
        if self.waited < idle || self.offset == self.layer.size {
            return false;
        }
        let slow = self.came < LEAST;
        (self.waited, self.came) = (Duration::ZERO, 0);
        slow
    }

    /// Waits for the next try, or gives up.
    async fn again(&mut self, failure: RegistryError) -> Result<(), RegistryError> {
        self.in_a_row += 1;
        self.in_all += 1;
        let options = &self.host()?.options;
        if self.in_a_row >= options.attempts || self.in_all >= options.attempts * IN_ALL {
            return Err(failure);
        }
        let pause = options.pause_before(self.in_a_row);
        tracing::info!(blob = %self.layer.digest, offset = self.offset, %failure, "a download begins again");
        if let Some(told) = &self.told {
            told(pause);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn silence(&self, idle: Duration) -> String {
        format!(
            "the registry sent nothing or next to nothing for {} s in the middle of {}",
            idle.as_secs_f32(),
            self.layer.digest
        )
    }

    /// What a failure is about.
    fn url(&self) -> String {
        let Reference { domain, path, .. } = &self.reference;
        format!("{domain}/v2/{path}/blobs/{}", self.layer.digest)
    }
}
