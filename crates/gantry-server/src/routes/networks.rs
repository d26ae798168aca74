//! Networks.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use gantry_engine::Engine;
use http::Method;
use serde::Serialize;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![route(Method::POST, "/networks/prune", prune)]
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    networks_deleted: Option<Vec<String>>,
}

/// Removes networks of users that nothing is in; the engine's own stay, and there are no others yet.
async fn prune(call: Call) -> Result<Response> {
    let filters = call.query.filters()?;
    filters
        .validate(&["label", "label!", "until"])
        .map_err(|error| ApiError::invalid(error.0))?;
    Ok(reply::ok(&Pruned::default()))
}
