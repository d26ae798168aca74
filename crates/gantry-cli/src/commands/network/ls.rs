//! `gantry network ls`

use gantry_api::container::Map;
use gotmpl::Value;
use serde::Deserialize;

use crate::client::talk;
use crate::commands::container::ls::{Filter, filters};
use crate::commands::formats::{Named, TableFormat};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::{Checked, flags};
use crate::format::{Listing, by_label, go_time, natural, or_default, short_id};

pub(crate) const COMMAND: Command = Command {
    names: &["network ls", "network list"],
    about: "List networks",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct LsFlags {
        /// Provide filter values (e.g. "driver=bridge")
        filter: Checked<Filter> = "filter" short "f";
        /// Do not truncate the output
        no_trunc: bool = "no-trunc";
        /// Only display network IDs
        quiet: bool = "quiet" short "q";
    }
}

/// A network in a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Summary {
    name: String,
    id: String,
    created: String,
    scope: String,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    ipv6: bool,
    internal: bool,
    #[serde(deserialize_with = "or_default")]
    labels: Map,
}

const FIELDS: &[(&str, &str)] = &[
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("ID", "NETWORK ID"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Name", "NAME"),
    ("Scope", "SCOPE"),
    ("Label", "LABEL"),
];

const NAMED: Named = Named {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet_table: "{{.ID}}",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    quiet_raw: "network_id: {{.ID}}",
};

fn row(of: &Summary, whole: bool) -> Vec<Value> {
    let text = |text: &str| Value::String(text.into());
    let pairs = of
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let id = if whole { &of.id } else { short_id(&of.id) };
    vec![
        text(&go_time(&of.created)),
        text(&of.driver),
        text(id),
        text(&of.ipv4.to_string()),
        text(&of.ipv6.to_string()),
        text(&of.internal.to_string()),
        text(&pairs.collect::<Vec<_>>().join(",")),
        text(&of.name),
        text(&of.scope),
        by_label(of.labels.clone()),
    ]
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TableFormat::default();
    let mut flags = LsFlags::default();
    cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    talk(cx, async |client| {
        let call = client.get("/networks");
        let call = call.query_if("filters", filters(&flags.filter.items).as_deref());
        let mut networks: Vec<Summary> = call.json().await?;
        networks.sort_by(|a, b| natural(&a.name, &b.name));
        let rows = networks.iter().map(|of| row(of, flags.no_trunc));
        let listing = Listing {
            fields: FIELDS,
            go: "*network.networkContext",
            rows: rows.collect(),
        };
        let configured = cx.config().networks_format.as_deref();
        NAMED.show(cx, &listing, flags.quiet, &shown, configured)
    })
}
