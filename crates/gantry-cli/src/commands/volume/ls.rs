//! `gantry volume ls`

use gantry_api::volume::{Volume, VolumeList};
use gotmpl::Value;

use crate::client::talk;
use crate::commands::container::ls::{Filter, filters};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::format::{Listing, by_label, human_size, natural};

pub(crate) const COMMAND: Command = Command {
    names: &["volume ls", "volume list"],
    about: "List volumes",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct LsFlags {
        /// Provide filter values (e.g. "dangling=true")
        filter: Checked<Filter> = "filter" short "f";
        /// Format output using a custom template:
        ///
        /// 'table':            Print output in table format with column headers (default)
        ///
        /// 'table TEMPLATE':   Print output in table format using the given Go template
        ///
        /// 'json':             Print in JSON format
        ///
        /// 'TEMPLATE':         Print output using the given Go template.
        format: Option<String> = "format";
        /// Only display volume names
        quiet: bool = "quiet" short "q";
    }
}

const FIELDS: &[(&str, &str)] = &[
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Group", "GROUP"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
    ("Label", "LABEL"),
];

const TABLE: &str = "{{.Driver}}\t{{.Name}}";

/// Volumes as a list; what they take is only there where it was asked for.
pub(in crate::commands) fn listing(volumes: &[Volume]) -> Listing {
    let text = |text: &str| Value::String(text.into());
    let rows = volumes.iter().map(|volume| {
        let labels: Vec<String> = volume
            .labels
            .iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let usage = volume.usage_data.as_ref();
        let links = usage.map_or("N/A".to_owned(), |usage| usage.ref_count.to_string());
        let size = usage.map_or("N/A".to_owned(), |usage| human_size(usage.size as f64));
        vec![
            text("N/A"),
            text(&volume.driver),
            text("N/A"),
            text(&labels.join(",")),
            text(&links),
            text(&volume.mountpoint),
            text(&volume.name),
            text(&volume.scope),
            text(&size),
            text("N/A"),
            by_label(volume.labels.clone().unwrap_or_default()),
        ]
    });
    Listing {
        fields: FIELDS,
        go: "*formatter.volumeContext",
        rows: rows.collect(),
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = LsFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        let mut list: VolumeList = client
            .get("/volumes")
            .query_if("filters", filters(&flags.filter.items).as_deref())
            .json()
            .await?;
        list.volumes.sort_by(|a, b| natural(&a.name, &b.name));
        let listing = listing(&list.volumes);
        let shown = match (flags.quiet, flags.format.as_deref()) {
            (true, None) => listing.render(Some("{{.Name}}"), TABLE),
            (_, format) => listing.render(format, TABLE),
        };
        cx.print(&shown.map_err(Failure::new)?)?;
        Ok(0)
    })
}
