//! `gantry ps`

use gantry_api::container::Map;
use gotmpl::Value;
use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;

use crate::client::talk;
use crate::commands::formats::TableFormat;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, Rule, flags};
use crate::format::{
    Listing, ago, by_label, date, ellipsis, human_size_short, or_default, short_id,
};

pub(crate) const COMMAND: Command = Command {
    names: &["container ls", "container list", "container ps", "ps"],
    about: "List containers",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct LsFlags {
        /// Show all containers (default shows just running)
        all: bool = "all" short "a";
        /// Filter output based on conditions provided
        filter: Checked<Filter> = "filter" short "f" kind "filter";
        /// Show n last created containers (includes all states)
        last: i64 = "last" short "n" default "-1";
        /// Show the latest created container (includes all states)
        latest: bool = "latest" short "l";
        /// Don't truncate output
        no_trunc: bool = "no-trunc";
        /// Only display container IDs
        quiet: bool = "quiet" short "q";
        /// Display total file sizes
        size: bool = "size" short "s";
    }
}

/// `--filter key=value`
#[derive(Debug)]
pub(crate) struct Filter;

impl Rule for Filter {
    const KIND: &'static str = "filter";
    type Item = (String, String);
    fn read(text: &str) -> Result<Self::Item, String> {
        let text = text.trim();
        match text.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_lowercase(), value.trim().to_owned())),
            None => Err("bad format of filter (expected name=value)".to_owned()),
        }
    }
}

/// The `filters` parameter: `{"name":{"x":true}}`; nothing without filters.
pub(crate) fn filters(items: &[(String, String)]) -> Option<String> {
    let mut all: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for (key, value) in items {
        all.entry(key).or_default().insert(value, true);
    }
    (!all.is_empty()).then(|| serde_json::json!(all).to_string())
}

/// What `/containers/json` tells of a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::commands) struct Summary {
    pub(super) id: String,
    #[serde(deserialize_with = "or_default")]
    names: Vec<String>,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: i64,
    #[serde(deserialize_with = "or_default")]
    ports: Vec<super::port::Port>,
    pub(in crate::commands) size_rw: i64,
    size_root_fs: i64,
    #[serde(deserialize_with = "or_default")]
    labels: Map,
    state: String,
    status: String,
    #[serde(deserialize_with = "or_default")]
    mounts: Vec<Json>,
    network_settings: Networks,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Networks {
    #[serde(deserialize_with = "or_default")]
    networks: BTreeMap<String, serde::de::IgnoredAny>,
}

const FIELDS: &[(&str, &str)] = &[
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Label", "LABEL"),
];

const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// `--format raw`, of old.
const RAW: &str = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
    state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n\
    ports: {{- pad .Ports 1 0}}\n";

fn run(cx: &Cx) -> Outcome {
    let mut shown = TableFormat::default();
    let mut flags = LsFlags::default();
    cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    let wanted = shown.format.as_deref();
    if flags.quiet && wanted.is_some_and(|format| !matches!(format, "" | "table" | "raw")) {
        eprintln!("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let format = wanted.or(cx.config().ps_format.as_deref().filter(|_| !flags.quiet));
    let last = if flags.latest && flags.last == -1 {
        1
    } else {
        flags.last
    };
    let with_size = flags.size
        || format.is_some_and(|format| {
            format.contains(".Size") || matches!(format.trim(), "{{json .}}" | "{{ json . }}")
        });
    talk(cx, async |client| {
        let limit = (last > 0).then(|| last.to_string());
        let list: Vec<Summary> = client
            .get("/containers/json")
            .switch("all", flags.all)
            .query_if("filters", filters(&flags.filter.items).as_deref())
            .query_if("limit", limit.as_deref())
            .switch("size", with_size)
            .json()
            .await?;
        if flags.quiet && wanted != Some("raw") {
            let mut text = String::new();
            for one in &list {
                let id = if flags.no_trunc {
                    &one.id
                } else {
                    short_id(&one.id)
                };
                text.push_str(id);
                text.push('\n');
            }
            cx.print(&text)?;
            return Ok(0);
        }
        let listing = listing(&list, !flags.no_trunc);
        let table = match flags.size {
            true => format!("{TABLE}\t{{{{.Size}}}}"),
            false => TABLE.to_owned(),
        };
        let raw = match (flags.quiet, flags.size) {
            (true, _) => "container_id: {{.ID}}".to_owned(),
            (false, false) => RAW.to_owned(),
            (false, true) => format!("{RAW}size: {{{{.Size}}}}\\n"),
        };
        let format = format.map(|format| if format == "raw" { &raw } else { format });
        let text = listing.render(format, &table).map_err(Failure::new)?;
        cx.print(&text)?;
        Ok(0)
    })
}

fn listing(list: &[Summary], short: bool) -> Listing {
    Listing {
        fields: FIELDS,
        go: "*formatter.ContainerContext",
        rows: list.iter().map(|one| row(one, short)).collect(),
    }
}

/// The list of `system df`, which shows what is the containers' own.
pub(in crate::commands) fn usage(list: &[Summary], short: bool) -> Listing {
    let mut listing = listing(list, short);
    let size = FIELDS.iter().position(|(field, _)| *field == "Size");
    for (row, one) in listing.rows.iter_mut().zip(list) {
        if let Some(cell) = size.and_then(|at| row.get_mut(at)) {
            *cell = Value::String(human_size_short(one.size_rw as f64).into());
        }
    }
    listing
}

impl Summary {
    /// Whether it runs, or is about to.
    pub(in crate::commands) fn is_active(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }
}

/// Names without their slash; those that stand for links to others are left out of a short list.
fn names(of: &Summary, short: bool) -> String {
    let names = of.names.iter().map(|name| name.trim_start_matches('/'));
    let own = names.filter(|name| !short || !name.contains('/'));
    own.collect::<Vec<_>>().join(",")
}

fn mounts(of: &Summary, short: bool) -> String {
    let name = |mount: &Json| {
        let name = mount["Name"].as_str().filter(|name| !name.is_empty());
        let name = name.or(mount["Source"].as_str()).unwrap_or_default();
        if short {
            ellipsis(name, 15)
        } else {
            name.to_owned()
        }
    };
    of.mounts.iter().map(name).collect::<Vec<_>>().join(",")
}

fn size(of: &Summary) -> String {
    let own = human_size_short(of.size_rw as f64);
    match of.size_root_fs {
        0 => own,
        all => format!("{own} (virtual {})", human_size_short(all as f64)),
    }
}

fn row(of: &Summary, short: bool) -> Vec<Value> {
    let command = if short {
        ellipsis(&of.command, 20)
    } else {
        of.command.clone()
    };
    let local = of
        .mounts
        .iter()
        .filter(|mount| mount["Driver"] == "local")
        .count();
    let networks: Vec<&str> = of
        .network_settings
        .networks
        .keys()
        .map(String::as_str)
        .collect();
    let labels: Vec<String> = of
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let image = match of.image.as_str() {
        "" => "<no image>",
        // An image that has lost its name is shown by its id.
        image if short && image == of.image_id => short_id(image),
        image => image,
    };
    let text = |text: String| Value::String(text.into());
    vec![
        text(quoted(&command)),
        text(date(of.created)),
        text(if short {
            short_id(&of.id).to_owned()
        } else {
            of.id.clone()
        }),
        text(image.to_owned()),
        text(labels.join(",")),
        text(local.to_string()),
        text(mounts(of, short)),
        text(names(of, short)),
        text(networks.join(",")),
        Value::Nil,
        text(super::port::summary(&of.ports)),
        text(ago(of.created)),
        text(size(of)),
        text(of.state.clone()),
        text(of.status.clone()),
        by_label(of.labels.clone()),
    ]
}

/// Go's `strconv.Quote`, for what commands hold.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            letter if letter.is_control() => out.push_str(&format!("\\x{:02x}", letter as u32)),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
