//! The part of `gantry system prune` that is about networks.

use serde::Deserialize;

use crate::client::{ApiError, Client};
use crate::commands::container::ls::filters;
use crate::format::or_default;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Pruned {
    #[serde(deserialize_with = "or_default")]
    networks_deleted: Vec<String>,
}

/// Prunes networks: no bytes, and what is shown.
pub(in crate::commands) async fn prune(
    client: &Client,
    wanted: &[(String, String)],
) -> Result<(u64, String), ApiError> {
    let call = client.post("/networks/prune");
    let call = call.query_if("filters", filters(wanted).as_deref());
    let pruned = call.json::<Pruned>().await?;
    let mut text = String::new();
    if !pruned.networks_deleted.is_empty() {
        text = format!(
            "Deleted Networks:\n{}\n",
            pruned.networks_deleted.join("\n")
        );
    }
    Ok((0, text))
}
