//! A container's processes: pause, unpause, their limits, what they use, and their list.

use super::Call;
use crate::body;
use crate::error::Result;
use crate::reply::{self, Response};
use crate::router::{Route, route};
use bytes::Bytes;
use futures_util::StreamExt;
use gantry_api::container::HostConfig;
use gantry_api::go::json;
use gantry_api::update::{Changes, UpdateBody};
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::containers::stats::StatsOptions;
use http::{Method, StatusCode};
use serde::Deserialize;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::POST, "/containers/{id..}/pause", pause),
        route(Method::POST, "/containers/{id..}/unpause", unpause),
        route(Method::POST, "/containers/{id..}/update", update),
        route(Method::GET, "/containers/{id..}/stats", stats).for_client(),
        route(Method::GET, "/containers/{id..}/top", top),
    ]
}

async fn pause(call: Call) -> Result<Response> {
    call.state.containers.pause(call.name("id")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn unpause(call: Call) -> Result<Response> {
    call.state.containers.unpause(call.name("id")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// What an update request has beside Docker's limits and restart policy.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Beside {
    kernel_memory: i64,
    gantry_update: Changes,
}

async fn update(call: Call) -> Result<Response> {
    let name = call.name("id").to_owned();
    let (containers, version) = (call.state.containers.clone(), call.version);
    let value = call.json_value().await?;
    let mut host_config: HostConfig = json::decode(&value).map_err(body::refuse)?;
    let beside: Beside = json::decode(&value).map_err(body::refuse)?;
    // COMPAT: each came, or went, with a version of the API.
    if version < ApiVersion::new(1, 40) {
        host_config.pids_limit = None;
    }
    let kernel_memory = match version < ApiVersion::new(1, 42) {
        true => beside.kernel_memory,
        false => 0,
    };
    let body = UpdateBody {
        host_config,
        kernel_memory,
        gantry_update: beside.gantry_update,
    };
    Ok(reply::ok(&containers.update(&name, body).await?))
}

async fn stats(call: Call) -> Result<Response> {
    let options = StatsOptions {
        stream: call.query.truth_or("stream", true),
        one_shot: call.version >= ApiVersion::new(1, 41) && call.query.truth("one-shot"),
    };
    let containers = &call.state.containers;
    let pieces = containers.stats(call.name("id"), options).await?;
    let lines = pieces.map(|stats| {
        let mut line = serde_json::to_vec(&stats)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    Ok(reply::stream(reply::JSON, lines))
}

async fn top(call: Call) -> Result<Response> {
    let ps_args = call.query.text("ps_args");
    let containers = &call.state.containers;
    Ok(reply::ok(&containers.top(call.name("id"), ps_args).await?))
}
