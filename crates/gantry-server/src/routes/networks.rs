//! Networks.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use gantry_api::network::{ConnectNetwork, CreateNetwork, DisconnectNetwork, NetworkCreated};
use gantry_api::version::ApiVersion;
use gantry_engine::Engine;
use gantry_engine::networks::ListOptions;
use http::{Method, StatusCode};

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::GET, "/networks", list),
        route(Method::GET, "/networks/", list),
        route(Method::POST, "/networks/create", create),
        route(Method::POST, "/networks/prune", prune),
        route(Method::POST, "/networks/{id..}/connect", connect),
        route(Method::POST, "/networks/{id..}/disconnect", disconnect),
        route(Method::GET, "/networks/{id..}", inspect),
        route(Method::DELETE, "/networks/{id..}", remove),
    ]
}

/// Before this version a list had every network's containers.
const SHORT_LISTS: ApiVersion = ApiVersion::new(1, 28);
/// Before this version every network had IPv4.
const WITHOUT_IPV4: ApiVersion = ApiVersion::new(1, 48);

async fn list(call: Call) -> Result<Response> {
    let options = ListOptions {
        filters: call.query.filters()?,
        detailed: call.version < SHORT_LISTS,
    };
    Ok(reply::ok(&call.state.networks.list(&options)?))
}

async fn create(call: Call) -> Result<Response> {
    let (engine, version) = (call.state.clone(), call.version);
    let mut request: CreateNetwork = call.json().await?;
    if version < WITHOUT_IPV4 {
        request.enable_ipv4 = None;
    }
    let made = NetworkCreated {
        id: engine.networks.create(request).await?,
        warning: String::new(),
    };
    Ok(reply::json(StatusCode::CREATED, &made))
}

async fn inspect(call: Call) -> Result<Response> {
    if let Some(text) = call.query.given("verbose") {
        // What is told beside, of services, needs a swarm.
        gantry_api::go::number::parse_bool(text).map_err(|why| {
            ApiError::invalid(format!("invalid value for verbose: {text}: {why}"))
        })?;
    }
    let scope = call.query.text("scope");
    let network = call.state.networks.inspect(call.name("id"), scope)?;
    Ok(reply::ok(&network))
}

async fn remove(call: Call) -> Result<Response> {
    call.state.networks.remove(call.name("id")).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn prune(call: Call) -> Result<Response> {
    let filters = call.query.filters()?;
    Ok(reply::ok(&call.state.networks.prune(&filters).await?))
}

async fn connect(call: Call) -> Result<Response> {
    let (engine, network) = (call.state.clone(), call.name("id").to_owned());
    let request: ConnectNetwork = call.json().await?;
    engine.networks.connect(&network, request).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn disconnect(call: Call) -> Result<Response> {
    let (engine, network) = (call.state.clone(), call.name("id").to_owned());
    let request: DisconnectNetwork = call.json().await?;
    engine.networks.disconnect(&network, request).await?;
    Ok(reply::empty(StatusCode::OK))
}
