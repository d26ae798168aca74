//! `_ping`, `version`, `info`, `system/df`.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use gantry_engine::{Engine, system};
use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderName, HeaderValue, Method, StatusCode};

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::GET, "/_ping", ping),
        route(Method::HEAD, "/_ping", ping),
        route(Method::GET, "/version", version),
        route(Method::GET, "/info", info),
        route(Method::GET, "/plugins", plugins),
        route(Method::GET, "/system/df", disk_usage).for_client(),
    ]
}

async fn ping(_call: Call) -> Result<Response> {
    let mut response = reply::text(StatusCode::OK, "OK");
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    // Which builder a client is to use: 1 is Docker's own, 2 is BuildKit.
    headers.insert(
        HeaderName::from_static("builder-version"),
        HeaderValue::from_static("1"),
    );
    headers.insert(
        HeaderName::from_static("swarm"),
        HeaderValue::from_static("inactive"),
    );
    Ok(response)
}

async fn version(_call: Call) -> Result<Response> {
    Ok(reply::ok(&system::version()))
}

async fn info(call: Call) -> Result<Response> {
    Ok(reply::ok(&call.state.info().await?))
}

async fn plugins(_call: Call) -> Result<Response> {
    Ok(reply::ok::<[(); 0]>(&[]))
}

async fn disk_usage(call: Call) -> Result<Response> {
    let mut parts = system::DiskUsageParts::default();
    let mut asked = false;
    for kind in call.query.all("type") {
        asked = true;
        match kind {
            "container" => parts.containers = true,
            "image" => parts.images = true,
            "volume" => parts.volumes = true,
            "build-cache" => parts.build_cache = true,
            other => return Err(ApiError::invalid(format!("unknown object type: {other}"))),
        }
    }
    if !asked {
        parts = system::DiskUsageParts::all();
    }
    Ok(reply::ok(&call.state.disk_usage(parts).await?))
}
