//! Builds: what there is of them.

use super::Call;
use crate::error::{ApiError, Result};
use crate::reply::{self, Response};
use crate::router::{Route, route};
use gantry_engine::Engine;
use http::Method;
use serde::Serialize;

pub(super) fn routes() -> Vec<Route<Engine>> {
    vec![route(Method::POST, "/build/prune", prune)]
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pruned {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// Removes build caches, of which there are none as long as nothing is built here.
async fn prune(call: Call) -> Result<Response> {
    call.query.filters()?;
    for limit in [
        "keep-storage",
        "reserved-space",
        "max-used-space",
        "min-free-space",
    ] {
        if let Some(text) = call.query.given(limit)
            && text.parse::<i64>().is_err()
        {
            let words = format!("{limit} is in bytes and expects an integer, got {text}");
            return Err(ApiError::invalid(words));
        }
    }
    Ok(reply::ok(&Pruned::default()))
}
