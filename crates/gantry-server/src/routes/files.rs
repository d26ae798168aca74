//! A container's files: changes, archive, export, commit.

use super::Call;
use crate::error::Result;
use crate::reply::{self, Response};
use crate::router::{Route, route};
use gantry_engine::Engine;
use http::Method;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![route(Method::GET, "/containers/{id}/changes", changes).for_client()]
}

async fn changes(call: Call) -> Result<Response> {
    Ok(reply::ok(
        &call.state.containers.changes(call.name("id")).await?,
    ))
}
