//! `gantry volume ls`

use gantry_api::volume::{Volume, VolumeList};
use gotmpl::Value;

use crate::client::talk;
use crate::commands::container::ls::{Filter, filters};
use crate::commands::formats::{Named, TableFormat};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
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

const NAMED: Named = Named {
    table: "{{.Driver}}\t{{.Name}}",
    quiet_table: "{{.Name}}",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
    quiet_raw: "name: {{.Name}}",
};

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
    let mut shown = TableFormat::default();
    let mut flags = LsFlags::default();
    cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    talk(cx, async |client| {
        let mut list: VolumeList = client
            .get("/volumes")
            .query_if("filters", filters(&flags.filter.items).as_deref())
            .json()
            .await?;
        list.volumes.sort_by(|a, b| natural(&a.name, &b.name));
        let listing = listing(&list.volumes);
        let configured = cx.config().volumes_format.as_deref();
        NAMED.show(cx, &listing, flags.quiet, &shown, configured)
    })
}
