//! One blob on its way to a registry (distribution specification, "Pushing a blob").
//!
//! Small blobs go in one request; others in a PATCH whose connection may break: what the registry has by then is
//! asked for, and the rest is sent. A registry that has lost the upload, or gives it up when it breaks (as
//! distribution 2.8 does), gets the blob from its beginning again.

use crate::RegistryError;
use crate::answer::{Refusal, Unanswered};
use crate::host::{self, Host, Payload, Request, Target};
use crate::push::{Outgoing, Push, Sending, Source};
use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Largest blob that goes in one request, bytes.
const SMALL: u64 = 1 << 20;
/// Bytes of a file that are read at a time.
const PIECE: u64 = 256 << 10;
/// How often it is looked at how far a request is.
const TICK: Duration = Duration::from_millis(100);
/// Tries in a row in which nothing gets on.
pub(crate) const ATTEMPTS: u32 = 5;
/// Failures that are taken for one blob, as a multiple of those in a row.
const IN_ALL: u32 = 4;

/// A part of a file as a request's body.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) end: u64,
    /// Where the request is in the file.
    pub(crate) sent: Arc<AtomicU64>,
}

impl Part {
    pub(crate) fn length(&self) -> u64 {
        self.end - self.offset
    }

    /// Reads the file while it is sent.
    pub(crate) fn body(&self) -> Body {
        let part = self.clone();
        self.sent.store(self.offset, Ordering::Relaxed);
        Body::wrap_stream(stream::try_unfold(part, async |mut part| {
            part.sent.store(part.offset, Ordering::Relaxed);
            if part.offset == part.end {
                return io::Result::Ok(None);
            }
            let (file, offset) = (part.file.clone(), part.offset);
            let count = PIECE.min(part.length()) as usize;
            let piece = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; count];
                file.read_exact_at(&mut piece, offset).map(|()| piece)
            });
            let piece = piece.await.map_err(io::Error::other)??;
            part.offset += piece.len() as u64;
            Ok(Some((Bytes::from(piece), part)))
        }))
    }
}

/// An upload that the registry knows.
#[derive(Debug, Clone)]
struct Session {
    location: Url,
    /// Bytes that the registry has.
    offset: u64,
    /// Whether that has to be asked for.
    unsure: bool,
}

pub(crate) struct Upload<'a> {
    pub(crate) push: &'a Push,
    pub(crate) blob: &'a Outgoing,
    pub(crate) tell: &'a (dyn Fn(Sending) + Sync),
}

impl Upload<'_> {
    /// Sends the blob, however often the connection breaks, within bounds.
    pub(crate) async fn run(&self) -> Result<(), RegistryError> {
        let options = &self.push.host.options;
        let (mut session, mut furthest) = (None, 0);
        let (mut in_a_row, mut in_all) = (0, 0);
        loop {
            let failure = match self.step(&mut session).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if let Some(session) = &mut session {
                session.unsure = true;
            }
            if lost(&failure) {
                session = None;
                // The answer to the last request may be all that was lost.
                if self.push.has(&self.blob.digest, self.blob.size).await? {
                    return Ok(());
                }
            } else if !failure.is_passing() {
                return Err(failure.pushing());
            }
            let reached = session.as_ref().map_or(0, |session| session.offset);
            in_a_row = if reached > furthest { 1 } else { in_a_row + 1 };
            furthest = furthest.max(reached);
            in_all += 1;
            let error = failure.pushing();
            if in_a_row >= ATTEMPTS || in_all >= ATTEMPTS * IN_ALL {
                return Err(error);
            }
            let pause = options.pause_before(in_a_row);
            let digest = &self.blob.digest;
            tracing::info!(blob = %digest, offset = reached, failure = %error, "an upload begins again");
            (self.tell)(Sending::Waiting(pause));
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes the upload from where it is to its end.
    async fn step(&self, session: &mut Option<Session>) -> Result<(), Unanswered> {
        if let Some(known) = session.as_mut().filter(|known| known.unsure) {
            self.ask_status(known).await?;
        }
        let size = self.blob.size;
        let known = match session {
            Some(known) => known,
            None => session.insert(self.begin().await?),
        };
        if known.offset > size {
            return Err(lost_upload(&known.location));
        }
        if size <= SMALL && known.offset == 0 {
            return self.finish(known, self.payload(0, size)).await;
        }
        while known.offset < size {
            self.send_rest(known).await?;
        }
        self.finish(known, Payload::Nothing).await
    }

    fn request(&self, method: Method, target: Target) -> Request<'_> {
        self.push.request(method, target)
    }

    async fn begin(&self) -> Result<Session, Unanswered> {
        let path = format!("{}/blobs/uploads/", self.push.repository);
        let request = self.request(Method::POST, Target::Path(path));
        let response = self.push.host.ask(&request).await?;
        Ok(Session {
            location: location(&response)?,
            offset: 0,
            unsure: false,
        })
    }

    async fn ask_status(&self, session: &mut Session) -> Result<(), Unanswered> {
        let request = self.request(Method::GET, Target::Url(session.location.clone()));
        let response = self.push.host.ask(&request).await?;
        session.offset = offset(response.headers()).unwrap_or(0);
        if let Ok(location) = location(&response) {
            session.location = location;
        }
        session.unsure = false;
        Ok(())
    }

    async fn send_rest(&self, session: &mut Session) -> Result<(), Unanswered> {
        let (from, size) = (session.offset, self.blob.size);
        let target = Target::Url(session.location.clone());
        let mut request = self.request(Method::PATCH, target);
        request.headers.insert(CONTENT_TYPE, OCTETS);
        if from > 0 {
            let range = HeaderValue::from_str(&format!("{from}-{}", size - 1));
            let range = range.map_err(|e| RegistryError::Protocol(e.to_string()))?;
            request.headers.insert(CONTENT_RANGE, range);
        }
        request.payload = self.payload(from, size);
        let response = self.watched(request).await?;
        session.location = location(&response)?;
        session.offset = match offset(response.headers()) {
            // What a registry took less than all of is sent in the next request.
            Some(offset) if offset > from => offset,
            Some(_) => return Err(lost_upload(&session.location)),
            None => size,
        };
        Ok(())
    }

    async fn finish(&self, session: &Session, payload: Payload) -> Result<(), Unanswered> {
        let mut url = session.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", self.blob.digest.as_str());
        let mut request = self.request(Method::PUT, Target::Url(url));
        request.headers.insert(CONTENT_TYPE, OCTETS);
        request.payload = payload;
        self.watched(request).await.map(drop)
    }

    fn payload(&self, offset: u64, end: u64) -> Payload {
        match &self.blob.source {
            Source::Bytes(bytes) => Payload::Bytes(bytes.slice(offset as usize..end as usize)),
            Source::File(file) => Payload::File(Part {
                file: file.clone(),
                offset,
                end,
                sent: Arc::new(AtomicU64::new(offset)),
            }),
        }
    }

    /// Sends a request, tells how far it is, and gives up where nothing moves.
    async fn watched(&self, mut request: Request<'_>) -> Result<Response, Unanswered> {
        request.patient = true;
        let (sent, end) = match &request.payload {
            Payload::File(part) => (part.sent.clone(), part.end),
            _ => (Arc::default(), 0),
        };
        let options = &self.push.host.options;
        let asking = self.push.host.ask(&request);
        tokio::pin!(asking);
        let mut ticks = tokio::time::interval(TICK);
        let (mut at, mut moved) = (sent.load(Ordering::Relaxed), Instant::now());
        loop {
            tokio::select! {
                answer = &mut asking => return answer,
                _ = ticks.tick() => {}
            }
            let now = sent.load(Ordering::Relaxed);
            if now != at {
                (at, moved) = (now, Instant::now());
                (self.tell)(Sending::At(now));
            }
            let patience = match at == end {
                true => options.commit_timeout,
                false => options.idle_timeout,
            };
            if moved.elapsed() > patience {
                let text = format!(
                    "the registry took nothing for {} s in the middle of {}",
                    patience.as_secs_f32(),
                    self.blob.digest
                );
                return Err(RegistryError::Protocol(text).into());
            }
        }
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Where an upload goes on.
pub(crate) fn location(response: &Response) -> Result<Url, RegistryError> {
    let text = response.headers().get(LOCATION);
    let text = text.and_then(|value| value.to_str().ok()).ok_or_else(|| {
        RegistryError::Protocol("the registry does not say where an upload goes".to_owned())
    })?;
    host::named(response.url(), text)
}

/// How many bytes the registry has: `Range: 0-99` is a hundred; `0-0` is none.
fn offset(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.split_once('-')?.1.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

/// An upload that has to begin anew.
fn lost_upload(url: &Url) -> Unanswered {
    Unanswered::Refused(Refusal {
        url: url.to_string(),
        status: StatusCode::RANGE_NOT_SATISFIABLE,
        code: "BLOB_UPLOAD_INVALID".to_owned(),
        message: "blob upload invalid".to_owned(),
    })
}

/// Whether the registry does not know the upload any more, or not as it is known here.
fn lost(failure: &Unanswered) -> bool {
    let Unanswered::Refused(refusal) = failure else {
        return false;
    };
    let codes = [
        "BLOB_UPLOAD_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "RANGE_INVALID",
        "DIGEST_INVALID",
        "SIZE_INVALID",
    ];
    codes.contains(&refusal.code.as_str())
        || matches!(
            refusal.status,
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_FOUND | StatusCode::GONE
        ) && refusal.code.is_empty()
}

/// Gives an upload up.
pub(crate) async fn cancel(host: &Host, push: &Push, location: Url) {
    let request = push.request(Method::DELETE, Target::Url(location));
    if let Err(error) = host.ask(&request).await {
        let error = error.pushing();
        tracing::debug!(%error, "an upload could not be given up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let at = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, text.parse().unwrap());
            offset(&headers)
        };
        assert_eq!(at("0-0"), Some(0));
        assert_eq!(at("0-99"), Some(100));
        assert_eq!(at("bytes=0-99"), Some(100));
        assert_eq!(at("x"), None);
        assert_eq!(at("0-18446744073709551615"), None);
        assert_eq!(offset(&HeaderMap::new()), None);
    }
}
