//! `gantry system df`

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_api::volume::Volume;
use gotmpl::Value;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::talk;
use crate::commands::container::ls as containers;
use crate::commands::formats::TableFormat;
use crate::commands::image::ls as images;
use crate::commands::volume::ls as volumes;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::{Listing, Template, human_size, or_default};

pub(crate) const COMMAND: Command = Command {
    names: &["system df"],
    about: "Show gantry disk usage",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct DfFlags {
        /// Show detailed information on space usage
        verbose: bool = "verbose" short "v";
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Usage {
    layers_size: i64,
    #[serde(deserialize_with = "or_default")]
    images: Vec<images::Summary>,
    #[serde(deserialize_with = "or_default")]
    containers: Vec<containers::Summary>,
    #[serde(deserialize_with = "or_default")]
    volumes: Vec<Volume>,
    #[serde(deserialize_with = "or_default")]
    build_cache: Vec<Cache>,
}

/// A record of a build cache.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Cache {
    in_use: bool,
    shared: bool,
    size: i64,
}

const FIELDS: &[(&str, &str)] = &[
    ("Active", "ACTIVE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Size", "SIZE"),
    ("TotalCount", "TOTAL"),
    ("Type", "TYPE"),
];
const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
/// `--format raw`, of old.
const RAW: &str = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\n\
    reclaimable: {{.Reclaimable}}\n";
const VERBOSE_RAW: &str = "{{range .Images}}type: Image\nrepository: {{.Repository}}\ntag: {{.Tag}}\n\
    digest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n\n{{end -}}\n\
    {{range .Containers}}type: Container\ncontainer_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n\
    created_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
    labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\nsize: {{.Size}}\n\n{{end -}}\n\
    {{range .Volumes}}type: Volume\nname: {{.Name}}\ndriver: {{.Driver}}\n\n{{end -}}";

const IMAGES: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t\
    {{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t\
    {{.Status}}\t{{.Names}}";
const VOLUMES: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";
const CACHES: &str = "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t\
    {{.Shared}}";
const CACHE_FIELDS: &[(&str, &str)] = &[
    ("CacheType", "CACHE TYPE"),
    ("CreatedSince", "CREATED"),
    ("ID", "CACHE ID"),
    ("LastUsedSince", "LAST USED"),
    ("Shared", "SHARED"),
    ("Size", "SIZE"),
    ("UsageCount", "USAGE"),
];

/// What there is of one kind of things.
struct Sum {
    name: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    /// With the share of all.
    percent: bool,
}

impl Sum {
    fn row(&self) -> Vec<Value> {
        let text = |text: String| Value::String(text.into());
        let mut reclaimable = human_size(self.reclaimable as f64);
        if self.percent && self.size > 0 {
            reclaimable.push_str(&format!(" ({}%)", self.reclaimable * 100 / self.size));
        }
        vec![
            text(self.active.to_string()),
            text(reclaimable),
            text(human_size(self.size as f64)),
            text(self.total.to_string()),
            text(self.name.to_owned()),
        ]
    }
}

impl Usage {
    fn sums(&self) -> [Sum; 4] {
        let used = self.images.iter().filter(|image| image.containers != 0);
        let used = used.filter_map(images::Summary::unique_size).sum::<i64>();
        let idle = |one: &&containers::Summary| !one.is_active();
        let volume = |v: &Volume| v.usage_data.clone().unwrap_or_default();
        let sized = self
            .volumes
            .iter()
            .map(volume)
            .filter(|data| data.size != -1);
        let unused = self
            .volumes
            .iter()
            .map(volume)
            .filter(|data| data.ref_count == 0);
        let cached = |shared: bool| {
            let caches = self.build_cache.iter();
            caches.filter(move |cache| !cache.shared && (!shared || !cache.in_use))
        };
        [
            Sum {
                name: "Images",
                total: self.images.len(),
                active: self.images.iter().filter(|i| i.containers > 0).count(),
                size: self.layers_size,
                reclaimable: self.layers_size - used,
                percent: true,
            },
            Sum {
                name: "Containers",
                total: self.containers.len(),
                active: self.containers.iter().filter(|one| one.is_active()).count(),
                size: self.containers.iter().map(|one| one.size_rw).sum(),
                reclaimable: self
                    .containers
                    .iter()
                    .filter(idle)
                    .map(|one| one.size_rw)
                    .sum(),
                percent: true,
            },
            Sum {
                name: "Local Volumes",
                total: self.volumes.len(),
                active: self
                    .volumes
                    .iter()
                    .map(volume)
                    .filter(|d| d.ref_count > 0)
                    .count(),
                size: sized.map(|data| data.size).sum(),
                reclaimable: unused
                    .map(|data| data.size)
                    .filter(|size| *size != -1)
                    .sum(),
                percent: true,
            },
            Sum {
                name: "Build Cache",
                total: self.build_cache.len(),
                active: self.build_cache.iter().filter(|cache| cache.in_use).count(),
                size: cached(false).map(|cache| cache.size).sum(),
                reclaimable: cached(true).map(|cache| cache.size).sum(),
                percent: false,
            },
        ]
    }

    /// The lists of each kind, in the order of Go's struct.
    fn lists(&self, short: bool) -> [(&'static str, Listing); 4] {
        [
            ("Images", images::usage(&self.images, short)),
            ("Containers", containers::usage(&self.containers, short)),
            ("Volumes", volumes::listing(&self.volumes)),
            (
                "BuildCache",
                Listing {
                    fields: CACHE_FIELDS,
                    go: "*formatter.buildCacheContext",
                    rows: Vec::new(),
                },
            ),
        ]
    }

    fn tables(&self) -> Result<String, String> {
        let cached = self.sums()[3].size;
        let titles = [
            ("Images space usage:".to_owned(), IMAGES),
            ("\nContainers space usage:".to_owned(), CONTAINERS),
            ("\nLocal Volumes space usage:".to_owned(), VOLUMES),
            (
                format!("\nBuild cache usage: {}", human_size(cached as f64)),
                CACHES,
            ),
        ];
        let mut text = String::new();
        for ((title, table), (_, list)) in titles.into_iter().zip(self.lists(true)) {
            text.push_str(&format!("{title}\n\n{}", list.render(None, table)?));
        }
        Ok(text)
    }

    /// All of it by one template, without a line's end.
    fn by_template(&self, format: &str) -> Result<String, String> {
        let lists = self.lists(false);
        if matches!(format, "json" | "{{json .}}" | "{{ json . }}") {
            let mut parts = Vec::new();
            for (name, list) in &lists {
                let lines = list.render(Some("json"), "")?;
                let lines: Vec<&str> = lines.lines().collect();
                parts.push(format!("{name:?}:[{}]", lines.join(",")));
            }
            return Ok(format!("{{{}}}", parts.join(",")));
        }
        let source = match format {
            "raw" => VERBOSE_RAW.to_owned(),
            format => {
                let format = format.strip_prefix("table ").unwrap_or(format);
                format.replace("\\t", "\t").replace("\\n", "\n")
            }
        };
        let template =
            Template::parse(&source).map_err(|why| format!("template parsing error: {why}"))?;
        let data: BTreeMap<Arc<str>, Value> = lists
            .iter()
            .map(|(name, list)| (Arc::from(*name), list.values()))
            .collect();
        let text = template.render(&Value::Map(Arc::new(data)));
        text.map_err(
            |why| match why.split_once(": map has no entry for key \"") {
                Some((place, key)) => {
                    let key = key.trim_end_matches('"');
                    let owner = "*formatter.diskUsageContext";
                    format!("{place}: can't evaluate field {key} in type {owner}")
                }
                None => why,
            },
        )
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TableFormat::default();
    let mut flags = DfFlags::default();
    cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    let format = shown.format.as_deref().filter(|format| !format.is_empty());
    talk(cx, async |client| {
        let answer: Box<RawValue> = client.get("/system/df").json().await?;
        let usage: Usage = serde_json::from_str(answer.get())
            .map_err(|error| Failure::new(format!("the daemon's answer is unreadable: {error}")))?;
        let text = match (flags.verbose, format) {
            (true, None | Some("table")) => usage.tables(),
            (true, Some(format)) => usage.by_template(format.trim_matches(' ')),
            (false, format) => {
                let listing = Listing {
                    fields: FIELDS,
                    go: "*formatter.diskUsageImagesContext",
                    rows: usage.sums().iter().map(Sum::row).collect(),
                };
                let format = format.map(|format| if format == "raw" { RAW } else { format });
                listing.render(format, TABLE)
            }
        };
        cx.print(&text.map_err(Failure::new)?)?;
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_what_can_go() {
        let usage: Usage = serde_json::from_str(
            r#"{"LayersSize":1000,"Images":[
                {"Id":"a","Containers":1,"Size":600,"SharedSize":100},
                {"Id":"b","Containers":0,"Size":300,"SharedSize":100}],
            "Containers":[{"State":"running","SizeRw":70},{"State":"exited","SizeRw":30},{"State":"created"}],
            "Volumes":[{"UsageData":{"RefCount":1,"Size":5}},{"UsageData":{"RefCount":0,"Size":15}},
                {"UsageData":{"RefCount":0,"Size":-1}}],
            "BuildCache":null}"#,
        )
        .unwrap();
        let sums = usage.sums();
        let shown: Vec<_> = sums
            .iter()
            .map(|sum| (sum.total, sum.active, sum.size, sum.reclaimable))
            .collect();
        assert_eq!(
            shown,
            [
                (2, 1, 1000, 500),
                (3, 1, 100, 30),
                (3, 1, 20, 15),
                (0, 0, 0, 0)
            ]
        );
        assert_eq!(sums[0].row()[1].as_str(), Some("500B (50%)"));
    }
}
