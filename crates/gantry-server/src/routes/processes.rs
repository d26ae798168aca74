//! A container's processes: pause, unpause.

use super::Call;
use crate::error::Result;
use crate::reply::{self, Response};
use crate::router::{Route, route};
use gantry_engine::Engine;
use http::{Method, StatusCode};

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![
        route(Method::POST, "/containers/{id}/pause", pause),
        route(Method::POST, "/containers/{id}/unpause", unpause),
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
