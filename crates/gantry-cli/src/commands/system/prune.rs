//! `gantry system prune`

use crate::client::talk;
use crate::commands::builder::prune as builder;
use crate::commands::container::ls::Filter;
use crate::commands::container::prune as containers;
use crate::commands::each::confirm;
use crate::commands::image::prune as images;
use crate::commands::network::prune as networks;
use crate::commands::volume::prune as volumes;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::format::human_size;

pub(crate) const COMMAND: Command = Command {
    names: &["system prune"],
    about: "Remove unused data",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct PruneFlags {
        /// Remove all unused images not just dangling ones
        all: bool = "all" short "a";
        /// Provide filter values (e.g. "label=<key>=<value>")
        filter: Checked<Filter> = "filter" kind "filter";
        /// Do not prompt for confirmation
        force: bool = "force" short "f";
        /// Prune anonymous volumes
        volumes: bool = "volumes";
    }
}

/// What will go, in words.
fn warning(flags: &PruneFlags, wanted: &[(String, String)]) -> String {
    let mut lines = vec![
        "all stopped containers",
        "all networks not used by at least one container",
    ];
    if flags.volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.extend(match flags.all {
        true => [
            "all images without at least one container associated to them",
            "all build cache",
        ],
        false => ["all dangling images", "unused build cache"],
    });
    let mut text = "WARNING! This will remove:".to_owned();
    for line in lines {
        text.push_str(&format!("\n  - {line}"));
    }
    text.push('\n');
    let mut shown: Vec<String> = wanted
        .iter()
        .filter(|(key, _)| matches!(key.as_str(), "label" | "label!" | "until"))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if !shown.is_empty() {
        shown.sort();
        shown.dedup();
        text.push_str("\n  Items to be pruned will be filtered with:");
        for filter in shown {
            text.push_str(&format!("\n  - {filter}"));
        }
        text.push('\n');
    }
    text + "\nAre you sure you want to continue?"
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = PruneFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    if flags.volumes && flags.filter.items.iter().any(|(key, _)| key == "until") {
        let text = "ERROR: The \"until\" filter is not supported with \"--volumes\"";
        return Err(Failure::new(text));
    }
    let wanted = cx.config().with_prune_filters(flags.filter.items.clone());
    // COMPAT: a no is no failure, and nothing more is said.
    if !flags.force && !confirm(cx, &warning(&flags, &wanted))? {
        return Ok(0);
    }
    talk(cx, async |client| {
        let mut reclaimed = 0;
        let mut tell = |(bytes, text): (u64, String)| -> Result<(), Failure> {
            reclaimed += bytes;
            if text.is_empty() {
                return Ok(());
            }
            cx.print(&format!("{text}\n"))
        };
        tell(containers::prune(&client, &wanted).await?)?;
        tell(networks::prune(&client, &wanted).await?)?;
        if flags.volumes {
            tell(volumes::prune(&client, &wanted).await?)?;
        }
        tell(images::prune(&client, &wanted, flags.all).await?)?;
        tell(builder::prune(&client, &wanted, flags.all, 0).await?)?;
        let size = human_size(reclaimed as f64);
        cx.print(&format!("Total reclaimed space: {size}\n"))?;
        Ok(0)
    })
}
