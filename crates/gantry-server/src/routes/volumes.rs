//! Volumes.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use gantry_api::version::ApiVersion;
use gantry_api::volume::CreateVolume;
use gantry_engine::Engine;
use gantry_engine::context::Context;
use http::{Method, StatusCode};
use std::sync::Arc;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::GET, "/volumes", list),
        route(Method::POST, "/volumes/create", create),
        route(Method::POST, "/volumes/prune", prune),
        route(Method::GET, "/volumes/{name}", inspect),
        route(Method::DELETE, "/volumes/{name}", remove),
    ]
}

/// Before this version a prune took volumes with names, too.
const ANONYMOUS_ONLY: ApiVersion = ApiVersion::new(1, 42);

/// Runs work of the volume service, which may block.
async fn work<T: Send + 'static>(
    call: &Call,
    work: impl FnOnce(&Context) -> gantry_engine::Result<T> + Send + 'static,
) -> Result<T> {
    let context: Arc<Context> = call.state.context.clone();
    let done = tokio::task::spawn_blocking(move || work(&context)).await;
    Ok(done.map_err(|e| ApiError::system(e.to_string()))??)
}

async fn list(call: Call) -> Result<Response> {
    let filters = call.query.filters()?;
    let list = work(&call, move |context| context.volumes.list(&filters)).await?;
    Ok(reply::ok(&list))
}

async fn create(call: Call) -> Result<Response> {
    let context = call.state.context.clone();
    let request: CreateVolume = call.json().await?;
    let made = tokio::task::spawn_blocking(move || context.volumes.create(request)).await;
    let volume = made.map_err(|e| ApiError::system(e.to_string()))??;
    Ok(reply::json(StatusCode::CREATED, &volume))
}

async fn inspect(call: Call) -> Result<Response> {
    Ok(reply::ok(
        &call.state.context.volumes.inspect(call.name("name"))?,
    ))
}

async fn remove(call: Call) -> Result<Response> {
    let (name, force) = (call.name("name").to_owned(), call.query.truth("force"));
    work(&call, move |context| context.volumes.remove(&name, force)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn prune(call: Call) -> Result<Response> {
    let mut filters = call.query.filters()?;
    if call.version < ANONYMOUS_ONLY && !filters.contains("all") {
        filters.add("all", "true");
    }
    let pruned = work(&call, move |context| context.volumes.prune(&filters)).await?;
    Ok(reply::ok(&pruned))
}
