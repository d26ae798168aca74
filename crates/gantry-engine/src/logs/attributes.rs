//! What a log line says about its container: labels, variables, and the tag.

use super::options::plain;
use crate::containers::record::Record;
use gotmpl::{Template, Value};
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tag where none is given, for the drivers that have one always: the short ID.
pub(super) const DEFAULT_TAG: &str = "{{.ID}}";

/// The labels and variables that the options choose, by their names after `rename`.
///
/// # Errors
/// A regular expression is none.
pub(super) fn extra(
    record: &Record,
    rename: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, String>, String> {
    let options = &record.host_config.log_config.config;
    let labels = record.config.labels.iter().flatten();
    let labels: BTreeMap<&str, &str> = labels.map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let env = record.config.env.iter().flatten();
    let env: BTreeMap<&str, &str> = env.filter_map(|entry| entry.split_once('=')).collect();
    let mut extra = BTreeMap::new();
    for (all, listed, matching) in [
        (labels, "labels", "labels-regex"),
        (env, "env", "env-regex"),
    ] {
        let given = |name: &str| options.get(name).filter(|text| !text.is_empty());
        for name in given(listed).iter().flat_map(|list| list.split(',')) {
            if let Some(value) = all.get(name) {
                extra.insert(rename(name), (*value).to_owned());
            }
        }
        if let Some(pattern) = given(matching) {
            let pattern =
                Regex::new(pattern).map_err(|error| format!("error parsing regexp: {error}"))?;
            for (name, value) in all.iter().filter(|(name, _)| pattern.is_match(name)) {
                extra.insert(rename(name), (*value).to_owned());
            }
        }
    }
    Ok(extra)
}

/// The machine's name.
pub(super) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The container's program and its arguments in a line.
pub(super) fn command(record: &Record) -> String {
    record.command().join(" ")
}

fn short(id: &str) -> String {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits).to_owned()
}

/// The tag: the template of the `tag` option, or the default.
///
/// # Errors
/// The template is none, or asks for what there is not.
pub(super) fn tag(record: &Record, default: &str) -> Result<String, String> {
    let options = &record.host_config.log_config.config;
    let source = options
        .get("tag")
        .map(String::as_str)
        .filter(|tag| !tag.is_empty())
        .unwrap_or(default);
    if !source.contains("{{") {
        return Ok(source.to_owned());
    }
    let text = |text: String| Value::String(text.into());
    let map = |pairs: &BTreeMap<String, String>| {
        Value::Map(Arc::new(
            pairs
                .iter()
                .map(|(k, v)| (Arc::from(k.as_str()), text(v.clone())))
                .collect(),
        ))
    };
    let list = |items: &[String]| Value::List(items.iter().map(|i| text(i.clone())).collect());
    let (env, none) = (record.config.env.clone(), BTreeMap::new());
    let argv = record.command();
    let (path, arguments) = argv
        .split_first()
        .map_or((String::new(), &[][..]), |(p, a)| (p.clone(), a));
    let fields: [(&str, Value); 20] = [
        ("ID", text(short(&record.id))),
        ("FullID", text(record.id.clone())),
        ("Name", text(record.name.clone())),
        ("Command", text(command(record))),
        ("ImageID", text(short(&record.image_id))),
        ("ImageFullID", text(record.image_id.clone())),
        ("ImageName", text(record.config.image.clone())),
        ("Hostname", text(hostname())),
        ("DaemonName", text("docker".into())),
        ("Config", map(options)),
        ("ContainerID", text(record.id.clone())),
        ("ContainerName", text(format!("/{}", record.name))),
        ("ContainerEntrypoint", text(path)),
        ("ContainerArgs", list(arguments)),
        ("ContainerImageID", text(record.image_id.clone())),
        ("ContainerImageName", text(record.config.image.clone())),
        ("ContainerCreated", text(record.created.to_string())),
        ("ContainerEnv", list(&env.unwrap_or_default())),
        (
            "ContainerLabels",
            map(record.config.labels.as_ref().unwrap_or(&none)),
        ),
        ("LogPath", text(String::new())),
    ];
    let data = fields
        .into_iter()
        .map(|(name, value)| (Arc::from(name), value))
        .collect();
    functions(Template::new("log-tag"))
        .missing_key(gotmpl::MissingKey::Error)
        .parse(source)
        .and_then(|template| template.execute_to_string(&Value::Map(Arc::new(data))))
        .map_err(|error| format!("template: log-tag: {error}"))
}

/// The functions that Docker adds to Go's.
fn functions(template: Template) -> Template {
    let string = |args: &[Value], at: usize| {
        args.get(at)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let text = |text: String| Ok(Value::String(text.into()));
    template
        .func("lower", move |args| text(string(args, 0).to_lowercase()))
        .func("upper", move |args| text(string(args, 0).to_uppercase()))
        .func("join", move |args| {
            let Some(Value::List(items)) = args.first() else {
                return text(String::new());
            };
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            text(items.join(&string(args, 1)))
        })
        .func("split", move |args| {
            let whole = string(args, 0);
            let separator = string(args, 1);
            let parts = whole.split(separator.as_str());
            Ok(Value::List(
                parts.map(|part| Value::String(part.into())).collect(),
            ))
        })
        .func("truncate", move |args| {
            let whole = string(args, 0);
            let length = args.get(1).and_then(Value::as_int).unwrap_or(0);
            text(whole.chars().take(length.max(0) as usize).collect())
        })
}

/// What went wrong while a driver was reached, in Go's words.
pub(super) fn dial(network: &str, address: &str, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::TimedOut {
        return format!("dial {network} {address}: i/o timeout");
    }
    format!("dial {network} {address}: connect: {}", plain(error))
}
