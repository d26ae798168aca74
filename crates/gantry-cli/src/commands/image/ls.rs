//! `gantry images`

use gantry_api::image::ImageSummary;
use gotmpl::Value;
use serde::Deserialize;

use super::tree::drawn;
use crate::client::talk;
use crate::commands::container::ls::{Filter, filters};
use crate::commands::formats::{Named, TableFormat};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::format::{Listing, ago, date, human_size, human_size_short, or_default, short_id};

pub(crate) const COMMAND: Command = Command {
    names: &["image ls", "image list", "images"],
    about: "List images",
    usage: "[OPTIONS] [REPOSITORY[:TAG]]",
    args: Count::AtMost(1),
    mixed: true,
    run,
};

flags! {
    struct LsFlags {
        /// Show all images (default hides intermediate images)
        all: bool = "all" short "a";
        /// Show digests
        digests: bool = "digests";
        /// Filter output based on conditions provided
        filter: Checked<Filter> = "filter" short "f";
        /// Don't truncate output
        no_trunc: bool = "no-trunc";
        /// Only show image IDs
        quiet: bool = "quiet" short "q";
        /// List multi-platform images as a tree (EXPERIMENTAL)
        tree: bool = "tree";
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::commands) struct Summary {
    id: String,
    created: i64,
    #[serde(deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    repo_digests: Vec<String>,
    size: i64,
    shared_size: i64,
    pub(in crate::commands) containers: i64,
}

impl Summary {
    /// What no other image has; none where that was not counted.
    pub(in crate::commands) fn unique_size(&self) -> Option<i64> {
        let counted = self.size != -1 && self.shared_size != -1;
        counted.then_some(self.size - self.shared_size)
    }
}

const FIELDS: &[(&str, &str)] = &[
    ("Containers", "CONTAINERS"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("SharedSize", "SHARED SIZE"),
    ("Size", "SIZE"),
    ("Tag", "TAG"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
];

const NAMED: Named = Named {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    quiet_table: "{{.ID}}",
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
          virtual_size: {{.Size}}\n",
    quiet_raw: "image_id: {{.ID}}",
};
/// The same with `--digests`.
const DIGESTS: Named = Named {
    table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\n\
          created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    ..NAMED
};

/// What an absent part of a name shows.
const NONE: &str = "<none>";

/// One line of the list: repository, tag, digest.
type Name = (String, String, String);

/// The names of an image. A tag has a line for each digest of its repository where digests are shown.
fn names(of: &Summary, digests: bool) -> Vec<Name> {
    let none = || NONE.to_owned();
    let by_digest: Vec<(&str, &str)> = of
        .repo_digests
        .iter()
        .filter_map(|name| name.split_once('@'))
        .collect();
    let mut names = Vec::new();
    for full in of
        .repo_tags
        .iter()
        .filter(|name| !name.starts_with("<none>"))
    {
        let (repository, tag) = full.rsplit_once(':').unwrap_or((full, NONE));
        let mut own = by_digest
            .iter()
            .filter(|(of, _)| digests && *of == repository)
            .peekable();
        if own.peek().is_none() {
            names.push((repository.to_owned(), tag.to_owned(), none()));
        }
        names.extend(
            own.map(|(_, digest)| (repository.to_owned(), tag.to_owned(), (*digest).to_owned())),
        );
    }
    if names.is_empty() {
        let untagged = by_digest.iter().filter(|(of, _)| *of != NONE);
        names.extend(untagged.map(|(of, digest)| {
            let digest = if digests {
                (*digest).to_owned()
            } else {
                none()
            };
            ((*of).to_owned(), none(), digest)
        }));
        names.dedup();
    }
    if names.is_empty() {
        names.push((none(), none(), none()));
    }
    names
}

fn row(of: &Summary, (repository, tag, digest): Name, short: bool) -> Vec<Value> {
    let text = |text: String| Value::String(text.into());
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "N/A".to_owned());
    let sized = |bytes: i64| human_size(bytes as f64);
    vec![
        text(or_unknown(
            (of.containers != -1).then(|| of.containers.to_string()),
        )),
        text(date(of.created)),
        text(ago(of.created)),
        text(digest),
        text(if short {
            short_id(&of.id).to_owned()
        } else {
            of.id.clone()
        }),
        text(repository),
        text(or_unknown(
            (of.shared_size != -1).then(|| sized(of.shared_size)),
        )),
        text(human_size_short(of.size as f64)),
        text(tag),
        text(or_unknown(of.unique_size().map(sized))),
        text(sized(of.size)),
    ]
}

/// The list of `system df`: a line for each image, with its first tag.
pub(in crate::commands) fn usage(list: &[Summary], short: bool) -> Listing {
    let name = |image: &Summary| {
        let (repository, tag, _) = names(image, false).swap_remove(0);
        match tag.as_str() {
            NONE => (NONE.to_owned(), tag, String::new()),
            _ => (repository, tag, String::new()),
        }
    };
    Listing {
        fields: FIELDS,
        go: "*formatter.imageContext",
        rows: list
            .iter()
            .map(|image| row(image, name(image), short))
            .collect(),
    }
}

/// `--tree`
fn tree(cx: &Cx, shown: &TableFormat, flags: &LsFlags, name: Option<&String>) -> Outcome {
    for (given, flag) in [
        (flags.quiet, "quiet"),
        (flags.no_trunc, "no-trunc"),
        (flags.digests, "show-digest"),
        (
            shown
                .format
                .as_ref()
                .is_some_and(|format| !format.is_empty()),
            "format",
        ),
    ] {
        if given {
            let text = format!("--{flag} is not yet supported with --tree");
            return Err(Failure::new(text));
        }
    }
    let mut asked = flags.filter.items.clone();
    asked.extend(name.map(|name| ("reference".to_owned(), name.clone())));
    talk(cx, async |client| {
        let list: Vec<ImageSummary> = client
            .get("/images/json")
            .switch("all", flags.all)
            .query_if("filters", filters(&asked).as_deref())
            .query("manifests", "1")
            .json()
            .await?;
        cx.print(&drawn(&list, flags.all))?;
        Ok(0)
    })
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TableFormat::default();
    let mut flags = LsFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    if flags.tree {
        return tree(cx, &shown, &flags, args.first());
    }
    let configured = cx.config().images_format.as_deref();
    let mut asked = flags.filter.items.clone();
    asked.extend(
        args.first()
            .map(|name| ("reference".to_owned(), name.clone())),
    );
    talk(cx, async |client| {
        let list: Vec<Summary> = client
            .get("/images/json")
            .switch("all", flags.all)
            .query_if("filters", filters(&asked).as_deref())
            .json()
            .await?;
        let format = shown.format.as_deref().or(configured);
        let with_digests = flags.digests || format.is_some_and(|text| text.contains("{{.Digest}}"));
        let mut rows = Vec::new();
        for image in &list {
            for name in names(image, with_digests) {
                rows.push(row(image, name, !flags.no_trunc));
            }
        }
        let listing = Listing {
            fields: FIELDS,
            go: "*formatter.imageContext",
            rows,
        };
        let named = if flags.digests { DIGESTS } else { NAMED };
        named.show(cx, &listing, flags.quiet, &shown, configured)
    })
}
