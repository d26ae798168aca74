//! Answers: their bodies, and the headers that every one carries.

use crate::hijack::Hijack;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use std::io;

/// A body that is whole or comes piece by piece; an error cuts the connection.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Response = http::Response<Body>;

/// What a handler gives back.
pub(crate) enum Reply {
    Http(Response),
    /// The connection leaves HTTP.
    Hijack(Hijack),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Http(response)
    }
}

impl From<Hijack> for Reply {
    fn from(hijack: Hijack) -> Self {
        Self::Hijack(hijack)
    }
}

pub(crate) const JSON: &str = "application/json";

fn response(status: StatusCode, kind: Option<&'static str>, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// No body and no content type.
pub(crate) fn empty(status: StatusCode) -> Response {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    response(status, None, body)
}

/// A JSON body, ended by a newline as Go's encoder writes it.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            response(status, Some(JSON), whole(bytes))
        }
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON form");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// 200 with a JSON body.
pub(crate) fn ok<T: Serialize + ?Sized>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

/// Plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    response(
        status,
        Some("text/plain; charset=utf-8"),
        whole(text.into()),
    )
}

/// 200 with a body that comes piece by piece; the head goes out at once.
pub(crate) fn stream<S>(kind: &'static str, pieces: S) -> Response
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    response(StatusCode::OK, Some(kind), BodyExt::boxed_unsync(body))
}

/// The headers of every answer to a known route.
pub(crate) fn add_engine_headers(headers: &mut HeaderMap) {
    let versions = gantry_api::version::CURRENT.to_string();
    if let Ok(value) = HeaderValue::from_str(&versions) {
        headers.insert(HeaderName::from_static("api-version"), value);
    }
    headers.insert(
        HeaderName::from_static("docker-experimental"),
        HeaderValue::from_static("false"),
    );
    headers.insert(
        HeaderName::from_static("ostype"),
        HeaderValue::from_static("linux"),
    );
    // COMPAT: Docker's client reads the system out of `Docker/<version> (<system>)`.
    let server = format!("Docker/{} (linux)", gantry_api::version::server_version());
    if let Ok(value) = HeaderValue::from_str(&server) {
        headers.insert(http::header::SERVER, value);
    }
}
