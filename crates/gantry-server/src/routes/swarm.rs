//! Swarm: there is none. Docker's answer to a node that is in no swarm, so that clients say the right thing.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::Response;
use crate::router::{Route, route};
use gantry_engine::Engine;
use http::{Method, StatusCode};

pub(super) fn routes() -> Vec<Route<Engine>> {
    let get = [
        "/swarm",
        "/swarm/unlockkey",
        "/services",
        "/services/{id}",
        "/services/{id}/logs",
        "/nodes",
        "/nodes/{id}",
        "/tasks",
        "/tasks/{id}",
        "/tasks/{id}/logs",
        "/secrets",
        "/secrets/{id}",
        "/configs",
        "/configs/{id}",
    ];
    let post = [
        "/swarm/update",
        "/swarm/unlock",
        "/services/create",
        "/services/{id}/update",
        "/nodes/{id}/update",
        "/secrets/create",
        "/secrets/{id}/update",
        "/configs/create",
        "/configs/{id}/update",
    ];
    let delete = [
        "/services/{id}",
        "/nodes/{id}",
        "/secrets/{id}",
        "/configs/{id}",
    ];
    let mut routes = Vec::new();
    routes.extend(get.map(|path| route(Method::GET, path, no_swarm)));
    routes.extend(post.map(|path| route(Method::POST, path, no_swarm)));
    routes.extend(delete.map(|path| route(Method::DELETE, path, no_swarm)));
    routes.extend(
        ["/swarm/init", "/swarm/join"].map(|path| route(Method::POST, path, not_supported)),
    );
    routes.push(route(Method::POST, "/swarm/leave", not_part));
    routes
}

async fn no_swarm(_call: Call) -> Result<Response> {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
         this node to swarm and try again.",
    ))
}

// COMPAT: there is no swarm mode.
async fn not_supported(_call: Call) -> Result<Response> {
    Err(ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "swarm mode is not supported by this engine",
    ))
}

async fn not_part(_call: Call) -> Result<Response> {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not part of a swarm",
    ))
}
