//! `gantry container prune`

use gantry_api::container::PruneResponse;

use super::ls::{Filter, filters};
use crate::client::{ApiError, Client, talk};
use crate::commands::each::{confirm, told};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::{Checked, flags};

pub(crate) const COMMAND: Command = Command {
    names: &["container prune"],
    about: "Remove all stopped containers",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct PruneFlags {
        /// Provide filter values (e.g. "until=<timestamp>")
        filter: Checked<Filter> = "filter" kind "filter";
        /// Do not prompt for confirmation
        force: bool = "force" short "f";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = PruneFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let warning =
        "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    // COMPAT: a no is no failure, and nothing more is said.
    if !flags.force && !confirm(cx, warning)? {
        return Ok(0);
    }
    talk(cx, async |client| {
        let wanted = cx.config().with_prune_filters(flags.filter.items);
        told(cx, prune(&client, &wanted).await?)
    })
}

/// Prunes containers: the bytes that are free again, and what is shown.
pub(in crate::commands) async fn prune(
    client: &Client,
    wanted: &[(String, String)],
) -> Result<(u64, String), ApiError> {
    let call = client.post("/containers/prune");
    let call = call.query_if("filters", filters(wanted).as_deref());
    let pruned = call.json::<PruneResponse>().await?;
    let deleted = pruned.containers_deleted.unwrap_or_default();
    if deleted.is_empty() {
        return Ok((0, String::new()));
    }
    let text = format!("Deleted Containers:\n{}\n", deleted.join("\n"));
    Ok((pruned.space_reclaimed, text))
}
