//! Reading a request's body.

use crate::error::{ApiError, Result};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;

/// The most bytes of a JSON body.
// COMPAT: Docker has no limit.
const LIMIT: usize = 8 << 20;

/// Refuses a body that does not say that it is JSON.
pub(crate) fn check_for_json(headers: &HeaderMap, body: &Incoming) -> Result<()> {
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

fn says_length(headers: &HeaderMap, body: &Incoming) -> bool {
    headers.contains_key(CONTENT_LENGTH) || !body.is_end_stream()
}

/// All of a small body.
pub(crate) async fn read(body: Incoming) -> Result<Bytes> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(ApiError::invalid(format!(
            "cannot read the request body: {error}"
        ))),
    }
}

/// A JSON value that must be there.
pub(crate) async fn value(headers: &HeaderMap, body: Incoming) -> Result<serde_json::Value> {
    check_for_json(headers, &body)?;
    let bytes = read(body).await?;
    gantry_api::go::json::parse(&bytes).map_err(refuse)
}

/// A JSON body; an empty one is the type's default.
pub(crate) async fn optional<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Incoming,
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
