//! `gantry image prune`

use gantry_api::image::PruneResponse;

use crate::client::{ApiError, Client, talk};
use crate::commands::container::ls::{Filter, filters};
use crate::commands::each::{confirm, told};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::{Checked, flags};

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
        let wanted = cx.config().with_prune_filters(flags.filter.items);
        told(cx, prune(&client, &wanted, flags.all).await?)
    })
}

/// Prunes images: the bytes that are free again, and what is shown.
pub(in crate::commands) async fn prune(
    client: &Client,
    wanted: &[(String, String)],
    all: bool,
) -> Result<(u64, String), ApiError> {
    let mut wanted = wanted.to_vec();
    wanted.push(("dangling".to_owned(), (!all).to_string()));
    let call = client.post("/images/prune");
    let call = call.query_if("filters", filters(&wanted).as_deref());
    let pruned = call.json::<PruneResponse>().await?;
    let deleted = pruned.images_deleted.unwrap_or_default();
    if deleted.is_empty() {
        return Ok((0, String::new()));
    }
    let mut text = "Deleted Images:\n".to_owned();
    for item in &deleted {
        let line = match (&item.untagged, &item.deleted) {
            (Some(name), _) => format!("untagged: {name}\n"),
            (None, deleted) => format!("deleted: {}\n", deleted.as_deref().unwrap_or_default()),
        };
        text.push_str(&line);
    }
    Ok((pruned.space_reclaimed, text))
}
