//! A request's body and how it is read.
//!
//! A connection that is closed with bytes unread is reset, and the answer is lost with it: what a handler leaves of a
//! body is read all the same, for a while.

use crate::error::{ApiError, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, BodyStream, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The most bytes of a JSON body.
// COMPAT: Docker has no limit.
const LIMIT: usize = 8 << 20;

/// How long a body is read that nobody wants any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body whose rest is read and thrown away when its reader lets it go.
pub(crate) struct RequestBody(Option<Incoming>);

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.0.as_ref().map(Body::size_hint);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.0.take().filter(|body| !body.is_end_stream());
        let (Some(rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            let mut rest = BodyStream::new(rest);
            let all = async { while let Some(Ok(_)) = rest.next().await {} };
            let _ = tokio::time::timeout(PATIENCE, all).await;
        });
    }
}

/// Refuses a body that does not say that it is JSON.
pub(crate) fn check_for_json(headers: &HeaderMap, body: &RequestBody) -> Result<()> {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let empty = body.size_hint().exact() == Some(0) || !says_length(headers, body);
    if kind.is_empty() && empty {
        return Ok(());
    }
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    if essence.is_empty() {
        return Err(ApiError::invalid(
            "malformed Content-Type header (): mime: no media type",
        ));
    }
    Err(ApiError::invalid(format!(
        "unsupported Content-Type header ({kind}): must be 'application/json'"
    )))
}

fn says_length(headers: &HeaderMap, body: &RequestBody) -> bool {
    headers.contains_key(CONTENT_LENGTH) || !body.is_end_stream()
}

/// All of a small body.
pub(crate) async fn read(body: RequestBody) -> Result<Bytes> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(ApiError::invalid(format!(
            "cannot read the request body: {error}"
        ))),
    }
}

/// A JSON value that must be there.
pub(crate) async fn value(headers: &HeaderMap, body: RequestBody) -> Result<serde_json::Value> {
    check_for_json(headers, &body)?;
    let bytes = read(body).await?;
    gantry_api::go::json::parse(&bytes).map_err(refuse)
}

/// A JSON body; an empty one is the type's default.
pub(crate) async fn optional<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<T> {
    check_for_json(headers, &body)?;
    let bytes = read(body).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    gantry_api::go::json::from_slice(&bytes).map_err(refuse)
}

/// A body that is not the JSON it should be.
pub(crate) fn refuse(error: gantry_api::go::json::JsonError) -> ApiError {
    ApiError::invalid(match error.0.as_str() {
        "EOF" => "invalid JSON: got EOF while reading request body".to_owned(),
        "unexpected content after JSON" => error.0,
        other => format!("invalid JSON: {other}"),
    })
}
