//! `gantry network prune`

use gantry_api::network::NetworksPruned;

use crate::client::{ApiError, Client, talk};
use crate::commands::container::ls::{Filter, filters};
use crate::commands::each::confirm;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::{Checked, flags};

pub(crate) const COMMAND: Command = Command {
    names: &["network prune"],
    about: "Remove all unused networks",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct PruneFlags {
        /// Provide filter values (e.g. "until=<timestamp>")
        filter: Checked<Filter> = "filter";
        /// Do not prompt for confirmation
        force: bool = "force" short "f";
    }
}

const WARNING: &str = "WARNING! This will remove all custom networks not used by at least one container.\n\
                       Are you sure you want to continue?";

fn run(cx: &Cx) -> Outcome {
    let mut flags = PruneFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let wanted = cx.config().with_prune_filters(flags.filter.items);
    // COMPAT: a no is no failure, and nothing more is said.
    if !flags.force && !confirm(cx, WARNING)? {
        return Ok(0);
    }
    talk(cx, async |client| {
        let (_, text) = prune(&client, &wanted).await?;
        if !text.is_empty() {
            cx.print(&format!("{text}\n"))?;
        }
        Ok(0)
    })
}

/// Prunes networks: no bytes, and what is shown.
pub(in crate::commands) async fn prune(
    client: &Client,
    wanted: &[(String, String)],
) -> Result<(u64, String), ApiError> {
    let call = client.post("/networks/prune");
    let call = call.query_if("filters", filters(wanted).as_deref());
    let gone = call.json::<NetworksPruned>().await?.networks_deleted;
    let text = match gone.unwrap_or_default() {
        gone if gone.is_empty() => String::new(),
        gone => format!("Deleted Networks:\n{}\n", gone.join("\n")),
    };
    Ok((0, text))
}
