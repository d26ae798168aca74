//! `gantry builder prune`

use serde::Deserialize;

use crate::client::{ApiError, Client, talk};
use crate::commands::container::ls::{Filter, filters};
use crate::commands::each::{confirm, told};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::{Checked, flags};
use crate::format::or_default;
use crate::request::Bytes;

pub(crate) const COMMAND: Command = Command {
    names: &["builder prune"],
    about: "Remove build cache",
    usage: "",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct PruneFlags {
        /// Remove all unused build cache, not just dangling ones
        all: bool = "all" short "a";
        /// Provide filter values (e.g. "until=24h")
        filter: Checked<Filter> = "filter" kind "filter";
        /// Do not prompt for confirmation
        force: bool = "force" short "f";
        /// Amount of disk space to keep for cache
        keep_storage: Bytes = "keep-storage";
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Pruned {
    #[serde(deserialize_with = "or_default")]
    caches_deleted: Vec<String>,
    space_reclaimed: u64,
}

/// Prunes build caches: the bytes that are free again, and what is shown.
pub(in crate::commands) async fn prune(
    client: &Client,
    wanted: &[(String, String)],
    all: bool,
    keep: i64,
) -> Result<(u64, String), ApiError> {
    let call = client.post("/build/prune").switch("all", all);
    let keep = (keep != 0).then(|| keep.to_string());
    let call = call
        .query_if("keep-storage", keep.as_deref())
        .query_if("filters", filters(wanted).as_deref());
    let pruned = call.json::<Pruned>().await?;
    let mut text = String::new();
    if !pruned.caches_deleted.is_empty() {
        let list = pruned.caches_deleted.join("\n");
        text = format!("Deleted build cache objects:\n{list}\n");
    }
    Ok((pruned.space_reclaimed, text))
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = PruneFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let which = if flags.all { "all" } else { "all dangling" };
    let warning = format!(
        "WARNING! This will remove {which} build cache. Are you sure you want to continue?"
    );
    // COMPAT: a no is no failure, and nothing more is said.
    if !flags.force && !confirm(cx, &warning)? {
        return Ok(0);
    }
    talk(cx, async |client| {
        let wanted = cx.config().with_prune_filters(flags.filter.items.clone());
        let keep = flags.keep_storage.0;
        told(cx, prune(&client, &wanted, flags.all, keep).await?)
    })
}
