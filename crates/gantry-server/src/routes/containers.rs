//! Containers: all but their streams.

use super::Call;
use crate::body;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use bytes::Bytes;
use futures_util::stream;
use gantry_api::container::{ContainerConfig, CreateBody, HostConfig, NetworkingConfig};
use gantry_api::go::{json, number};
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::containers::list::ListOptions;
use gantry_engine::containers::phase::WaitCondition;
use http::{Method, StatusCode};
use serde::Deserialize;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::POST, "/containers/create", create),
        route(Method::GET, "/containers/json", list),
        route(Method::POST, "/containers/prune", prune),
        route(Method::GET, "/containers/{id..}/json", inspect),
        route(Method::POST, "/containers/{id..}/start", start),
        route(Method::POST, "/containers/{id..}/stop", stop),
        route(Method::POST, "/containers/{id..}/restart", restart),
        route(Method::POST, "/containers/{id..}/kill", kill),
        route(Method::POST, "/containers/{id..}/wait", wait).for_client(),
        route(Method::POST, "/containers/{id..}/resize", resize),
        route(Method::POST, "/containers/{id..}/rename", rename),
        route(Method::DELETE, "/containers/{id..}", remove),
    ]
}

/// What a create request has beside the container's own configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Beside {
    host_config: HostConfig,
    networking_config: NetworkingConfig,
}

async fn create(call: Call) -> Result<Response> {
    let name = call.query.given("name").map(str::to_owned);
    let platform = match call.version >= ApiVersion::new(1, 41) {
        true => gantry_engine::images::platform(call.query.text("platform"))?,
        false => None,
    };
    let containers = call.state.containers.clone();
    let value = call.json_value().await?;
    let config: ContainerConfig = json::decode(&value).map_err(body::refuse)?;
    let beside: Beside = json::decode(&value).map_err(body::refuse)?;
    let body = CreateBody {
        config,
        host_config: beside.host_config,
        networking_config: beside.networking_config,
    };
    let created = containers.create(name.as_deref(), platform, body).await?;
    Ok(reply::json(StatusCode::CREATED, &created))
}

async fn list(call: Call) -> Result<Response> {
    let query = &call.query;
    let options = ListOptions {
        all: query.truth("all"),
        limit: query.integer("limit")?.unwrap_or(0),
        size: query.truth("size"),
        filters: query.filters()?,
    };
    Ok(reply::ok(&call.state.containers.list(options).await?))
}

async fn prune(call: Call) -> Result<Response> {
    let filters = call.query.filters()?;
    Ok(reply::ok(&call.state.containers.prune(&filters).await?))
}

async fn inspect(call: Call) -> Result<Response> {
    let size = call.query.truth("size");
    let containers = &call.state.containers;
    Ok(reply::ok(&containers.inspect(call.name("id"), size).await?))
}

async fn start(call: Call) -> Result<Response> {
    call.state.containers.start(call.name("id")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// Seconds that a container has to end by itself.
fn timeout(call: &Call) -> Result<Option<i64>> {
    let text = call.query.given("t");
    text.map(number::atoi)
        .transpose()
        .map_err(ApiError::invalid)
}

async fn stop(call: Call) -> Result<Response> {
    let signal = call.query.given("signal");
    let timeout = timeout(&call)?;
    let containers = &call.state.containers;
    let stopped = containers.stop(call.name("id"), signal, timeout).await?;
    Ok(reply::empty(match stopped {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::NOT_MODIFIED,
    }))
}

async fn restart(call: Call) -> Result<Response> {
    let signal = call.query.given("signal");
    let timeout = timeout(&call)?;
    let containers = &call.state.containers;
    containers.restart(call.name("id"), signal, timeout).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn kill(call: Call) -> Result<Response> {
    let signal = call.query.text("signal");
    call.state.containers.kill(call.name("id"), signal).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// The head is sent at once, so that the client knows that an exit from now on is seen.
async fn wait(call: Call) -> Result<Response> {
    let condition = WaitCondition::parse(call.query.text("condition"))?;
    let exit = call.state.containers.wait(call.name("id"), condition)?;
    let answer = stream::once(async move {
        let mut line = serde_json::to_vec(&exit.await)?;
        line.push(b'\n');
        Ok(Bytes::from(line))
    });
    Ok(reply::stream(reply::JSON, answer))
}

/// The terminal's size that a request asks for: rows, columns.
pub(super) fn size(call: &Call) -> Result<(u16, u16)> {
    let side = |name: &str, what: &str| {
        let text = call.query.text(name);
        number::integer(text)
            .and_then(|size| u16::try_from(size).map_err(|_| number::NumberError::Range))
            .map_err(|error| {
                ApiError::invalid(format!(
                    "invalid resize {what} {}: {error}",
                    number::quote(text)
                ))
            })
    };
    Ok((side("h", "height")?, side("w", "width")?))
}

async fn resize(call: Call) -> Result<Response> {
    let (rows, columns) = size(&call)?;
    call.state
        .containers
        .resize(call.name("id"), rows, columns)
        .await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn rename(call: Call) -> Result<Response> {
    let new = call.query.text("name");
    call.state.containers.rename(call.name("id"), new).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn remove(call: Call) -> Result<Response> {
    if call.query.truth("link") {
        call.state.containers.remove_link(call.name("id"))?;
        return Ok(reply::empty(StatusCode::NO_CONTENT));
    }
    let (force, volumes) = (call.query.truth("force"), call.query.truth("v"));
    let containers = &call.state.containers;
    containers.remove(call.name("id"), force, volumes).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
