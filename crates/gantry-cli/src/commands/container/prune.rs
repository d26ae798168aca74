//! `gantry container prune`

use gantry_api::container::PruneResponse;

use super::ls::{Filter, filters};
use crate::client::talk;
use crate::commands::each::confirm;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::{Checked, flags};
use crate::format::human_size;

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
        let call = client.post("/containers/prune");
        let call = call.query_if("filters", filters(&wanted).as_deref());
        let pruned = call.json::<PruneResponse>().await?;
        let mut text = String::new();
        let deleted = pruned.containers_deleted.unwrap_or_default();
        let mut reclaimed = 0;
        if !deleted.is_empty() {
            text = format!("Deleted Containers:\n{}\n\n", deleted.join("\n"));
            reclaimed = pruned.space_reclaimed;
        }
        let size = human_size(reclaimed as f64);
        cx.print(&format!("{text}Total reclaimed space: {size}\n"))?;
        Ok(0)
    })
}
