//! `gantry image prune`

use gantry_api::image::PruneResponse;

use crate::client::talk;
use crate::commands::container::ls::{Filter, filters};
use crate::commands::each::confirm;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::{Checked, flags};
use crate::format::human_size;

pub(crate) const COMMAND: Command = Command {
    names: &["image prune"],
    about: "Remove unused images",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct PruneFlags {
        /// Remove all unused images, not just dangling ones
        all: bool = "all" short "a";
        /// Provide filter values (e.g. "until=<timestamp>")
        filter: Checked<Filter> = "filter" kind "filter";
        /// Do not prompt for confirmation
        force: bool = "force" short "f";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = PruneFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let which = match flags.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let warning = format!("WARNING! This will remove {which}.\nAre you sure you want to continue?");
    // COMPAT: a no is no failure, and nothing more is said.
    if !flags.force && !confirm(cx, &warning)? {
        return Ok(0);
    }
    talk(cx, async |client| {
        let mut wanted = cx.config().with_prune_filters(flags.filter.items);
        wanted.push(("dangling".to_owned(), (!flags.all).to_string()));
        let call = client.post("/images/prune");
        let call = call.query_if("filters", filters(&wanted).as_deref());
        let pruned = call.json::<PruneResponse>().await?;
        let mut text = String::new();
        let deleted = pruned.images_deleted.unwrap_or_default();
        let mut reclaimed = 0;
        if !deleted.is_empty() {
            text.push_str("Deleted Images:\n");
            for item in &deleted {
                match (&item.untagged, &item.deleted) {
                    (Some(name), _) => text.push_str(&format!("untagged: {name}\n")),
                    (None, deleted) => {
                        let id = deleted.as_deref().unwrap_or_default();
                        text.push_str(&format!("deleted: {id}\n"));
                    }
                }
            }
            text.push('\n');
            reclaimed = pruned.space_reclaimed;
        }
        let size = human_size(reclaimed as f64);
        cx.print(&format!("{text}Total reclaimed space: {size}\n"))?;
        Ok(0)
    })
}
