//! `gantry search`

use gantry_api::registry::SearchResult;
use gotmpl::Value;

use crate::client::talk;
use crate::commands::container::ls::{Filter, filters};
use crate::commands::{Command, Count};
use crate::config::{header, key_of};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::format::{Listing, ellipsis};

pub(crate) const COMMAND: Command = Command {
    names: &["search"],
    about: "Search Docker Hub for images",
    usage: "[OPTIONS] TERM",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct SearchFlags {
        automated: bool = "automated";
        /// Filter output based on conditions provided
        filter: Checked<Filter> = "filter" short "f" kind "filter";
        /// Pretty-print search using a Go template
        format: Option<String> = "format";
        /// Max number of search results
        limit: i64 = "limit";
        /// Don't truncate output
        no_trunc: bool = "no-trunc";
        stars: Option<i64> = "stars" short "s";
    }
}

const FIELDS: &[(&str, &str)] = &[
    ("Description", "DESCRIPTION"),
    ("IsOfficial", "OFFICIAL"),
    ("Name", "NAME"),
    ("StarCount", "STARS"),
];

const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

/// Characters of a description that are shown.
const LONGEST: usize = 45;

fn run(cx: &Cx) -> Outcome {
    let mut flags = SearchFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let term = &args[0];
    let mut wanted = std::mem::take(&mut flags.filter.items);
    // COMPAT: the flags of clients before 28, with what those said of them.
    if flags.automated {
        eprintln!("Flag --automated has been deprecated, use --filter=is-automated=true instead");
        wanted.push(("is-automated".to_owned(), "true".to_owned()));
    }
    if let Some(stars) = flags.stars {
        eprintln!("Flag --stars has been deprecated, use --filter=stars=3 instead");
        wanted.push(("stars".to_owned(), stars.to_string()));
    }
    if wanted.iter().any(|(key, _)| key == "is-automated") {
        eprintln!(
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not yield any results in future."
        );
    }
    // Without credentials the registry says itself what is missing.
    let auth = cx.config().credentials(key_of(domain_of(term)));
    let auth = header(&auth.unwrap_or_default());
    talk(cx, async |client| {
        let limit = (flags.limit > 0).then(|| flags.limit.to_string());
        let found: Vec<SearchResult> = client
            .get("/images/search")
            .query_if("filters", filters(&wanted).as_deref())
            .query_if("limit", limit.as_deref())
            .query("term", term)
            .header("x-registry-auth", auth)
            .json()
            .await?;
        let format = flags.format.as_deref();
        let whole = format
            .is_some_and(|format| matches!(format.trim(), "json" | "{{json .}}" | "{{ json . }}"));
        let rows = found.iter().map(|found| row(found, &flags, whole));
        let listing = Listing {
            fields: FIELDS,
            go: "*registry.searchContext",
            rows: rows.collect(),
        };
        let shown = listing.render(format, TABLE);
        cx.print(&shown.map_err(Failure::new)?)?;
        Ok(0)
    })
}

fn row(found: &SearchResult, flags: &SearchFlags, whole: bool) -> Vec<Value> {
    let text = |text: &str| Value::String(text.into());
    let mut description = found.description.replace(['\n', '\r'], " ");
    if !flags.no_trunc {
        description = ellipsis(&description, LONGEST);
    }
    let official = match (found.is_official, whole) {
        (true, true) => "true",
        (false, true) => "false",
        (true, false) => "[OK]",
        (false, false) => "",
    };
    vec![
        text(&description),
        text(official),
        text(&found.name),
        text(&found.star_count.to_string()),
    ]
}

/// The registry that a term names.
fn domain_of(term: &str) -> &str {
    match term.split_once('/') {
        Some((domain, _)) if domain.contains(['.', ':']) || domain == "localhost" => domain,
        _ => "docker.io",
    }
}
