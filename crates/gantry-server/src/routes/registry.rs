//! What is asked of registries: `auth`, `images/search`, `distribution`.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use gantry_api::go::{json, number};
use gantry_api::system::AuthConfig;
use gantry_engine::Engine;
use gantry_engine::images::SearchRequest;
use http::Method;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::POST, "/auth", auth).for_client(),
        route(Method::GET, "/images/search", search).for_client(),
        route(Method::GET, "/distribution/{name..}/json", distribution).for_client(),
    ]
}

/// `X-Registry-Auth`: JSON in base64url, padded or not. What is broken is passed over, as Docker does.
pub(super) fn credentials(call: &Call) -> Option<AuthConfig> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url_safe = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    let text = call.header("x-registry-auth")?;
    let bytes = url_safe.decode(text.trim()).ok()?;
    json::from_slice(&bytes).ok()
}

/// Checks credentials with a registry.
async fn auth(call: Call) -> Result<Response> {
    let state = call.state.clone();
    let shown: AuthConfig = call.json().await?;
    Ok(reply::ok(&state.images.login(&shown).await?))
}

async fn search(call: Call) -> Result<Response> {
    let limit = call.query.given("limit").map_or(Ok(0), number::atoi);
    let limit = limit.map_err(|why| format!("invalid limit specified: {why}"));
    let limit = limit.and_then(|limit| match limit {
        // COMPAT: Docker answers nothing at all to a negative one.
        ..0 => Err(format!("invalid limit specified: {limit}")),
        limit => Ok(limit),
    });
    let request = SearchRequest {
        term: call.query.text("term").to_owned(),
        limit: limit.map_err(ApiError::invalid)?,
        filters: call.query.filters()?,
        auth: credentials(&call),
    };
    Ok(reply::ok(&call.state.images.search(&request).await?))
}

async fn distribution(call: Call) -> Result<Response> {
    let auth = credentials(&call);
    let images = &call.state.images;
    let found = images.distribution(call.name("name"), auth.as_ref());
    Ok(reply::ok(&found.await?))
}
