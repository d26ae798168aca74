//! `gantry volume prune`

use gantry_api::volume::VolumesPruned;

use crate::client::{ApiError, Client, talk};
use crate::commands::container::ls::{Filter, filters};
use crate::commands::each::{confirm, told};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};

pub(crate) const COMMAND: Command = Command {
    names: &["volume prune"],
    about: "Remove unused local volumes",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct PruneFlags {
        /// Remove all unused volumes, not just anonymous ones
        all: bool = "all" short "a";
        /// Provide filter values (e.g. "label=<label>")
        filter: Checked<Filter> = "filter" kind "filter";
        /// Do not prompt for confirmation
        force: bool = "force" short "f";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = PruneFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let mut wanted = cx.config().with_prune_filters(flags.filter.items);
    if flags.all {
        if wanted.iter().any(|(key, _)| key == "all") {
            let text = "conflicting options: cannot specify both --all and --filter all=1";
            return Err(Failure::new(text));
        }
        wanted.push(("all".to_owned(), "true".to_owned()));
    }
    let which = if flags.all { "all" } else { "anonymous" };
    let warning = format!(
        "WARNING! This will remove {which} local volumes not used by at least one container.\n\
         Are you sure you want to continue?"
    );
    // COMPAT: a no is no failure, and nothing more is said.
    if !flags.force && !confirm(cx, &warning)? {
        return Ok(0);
    }
    talk(cx, async |client| told(cx, prune(&client, &wanted).await?))
}

/// Prunes volumes: the bytes that are free again, and what is shown.
pub(in crate::commands) async fn prune(
    client: &Client,
    wanted: &[(String, String)],
) -> Result<(u64, String), ApiError> {
    let call = client.post("/volumes/prune");
    let call = call.query_if("filters", filters(wanted).as_deref());
    let pruned = call.json::<VolumesPruned>().await?;
    if pruned.volumes_deleted.is_empty() {
        return Ok((0, String::new()));
    }
    let text = format!("Deleted Volumes:\n{}\n", pruned.volumes_deleted.join("\n"));
    Ok((pruned.space_reclaimed, text))
}
