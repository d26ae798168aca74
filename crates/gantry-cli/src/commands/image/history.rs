//! `gantry history`

use gotmpl::Value;
use serde::Deserialize;

use super::load::platform_json;
use crate::client::{encode, talk};
use crate::commands::formats::TableFormat;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::{Listing, ago, ellipsis, human_size_short, rfc3339, short_id};

pub(crate) const COMMAND: Command = Command {
    names: &["image history", "history"],
    about: "Show the history of an image",
    usage: "[OPTIONS] IMAGE",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct HistoryFlags {
        /// Print sizes and dates in human readable format
        human: bool = "human" short "H" default "true";
        /// Don't truncate output
        no_trunc: bool = "no-trunc";
        /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g.,
        /// "linux/amd64")
        platform: Option<String> = "platform";
        /// Only show image IDs
        quiet: bool = "quiet" short "q";
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Step {
    id: String,
    created: i64,
    created_by: String,
    size: i64,
    comment: String,
}

const FIELDS: &[(&str, &str)] = &[
    ("Comment", "COMMENT"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("CreatedSince", "CREATED"),
    ("ID", "IMAGE"),
    ("Size", "SIZE"),
];
const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
const EXACT_TABLE: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
/// Year 0001, which Go has where no date was set.
const NO_DATE: i64 = -62_135_596_800;

fn row(step: &Step, flags: &HistoryFlags) -> Vec<Value> {
    let text = |text: String| Value::String(text.into());
    let by = step.created_by.replace('\t', " ");
    let id = match flags.no_trunc {
        true => step.id.clone(),
        false => short_id(&step.id).to_owned(),
    };
    let since = match (flags.human, step.created <= NO_DATE) {
        (_, true) => "N/A".to_owned(),
        (true, false) => ago(step.created),
        (false, false) => rfc3339(step.created),
    };
    let size = match flags.human {
        true => human_size_short(step.size as f64),
        false => step.size.to_string(),
    };
    vec![
        text(step.comment.clone()),
        text(rfc3339(step.created)),
        text(if flags.no_trunc {
            by
        } else {
            ellipsis(&by, 45)
        }),
        text(since),
        text(id),
        text(size),
    ]
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TableFormat::default();
    let mut flags = HistoryFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    let platform = platform_json(flags.platform.as_deref())?;
    talk(cx, async |client| {
        let call = client.get(format!("/images/{}/history", encode(&args[0])));
        let steps: Vec<Step> = call
            .query_if("platform", platform.as_deref())
            .json()
            .await?;
        let listing = Listing {
            fields: FIELDS,
            go: "*image.historyContext",
            rows: steps.iter().map(|step| row(step, &flags)).collect(),
        };
        let table = if flags.human { TABLE } else { EXACT_TABLE };
        let text = match (flags.quiet, &shown.format) {
            (true, None) => listing.render(Some("{{.ID}}"), table),
            (_, format) => listing.render(format.as_deref(), table),
        };
        cx.print(&text.map_err(Failure::new)?)?;
        Ok(0)
    })
}
