//! What the three `inspect` commands share.

use serde_json::value::RawValue;

use crate::client::{Answered, Client, encode};
use crate::commands::each::container;
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::format::{Template, from_json, indented};

/// The kinds of objects that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Container,
    Image,
}

/// The daemon's own bytes for one object.
pub(super) async fn fetch(
    client: &Client,
    kind: Kind,
    name: &str,
    size: bool,
) -> Answered<Box<RawValue>> {
    match kind {
        Kind::Container => {
            let call = client.get(container(name, "/json")?);
            call.switch("size", size).json().await
        }
        Kind::Image => {
            client
                .get(format!("/images/{}/json", encode(name)))
                .json()
                .await
        }
    }
}

/// Shows what was found by `format`, then tells what was not.
pub(super) fn show(
    cx: &Cx,
    format: Option<&str>,
    found: &[Box<RawValue>],
    mut wrong: Vec<String>,
) -> Outcome {
    let format = format.filter(|format| !format.is_empty());
    let mut text = String::new();
    match format {
        None => {
            let all: Vec<&str> = found.iter().map(|one| one.get()).collect();
            text = indented(&format!("[{}]", all.join(",")), "    ");
            text.push('\n');
        }
        Some("json") => {
            let all: Vec<&str> = found.iter().map(|one| one.get()).collect();
            text = format!("[{}]\n", all.join(","));
        }
        Some(source) => {
            let template = Template::parse(source).map_err(|why| bad_template(&why))?;
            for one in found {
                match render(&template, source, one) {
                    Ok(line) => text.push_str(&line),
                    Err(why) => wrong.push(format!("template parsing error: {why}")),
                }
                text.push('\n');
            }
        }
    }
    cx.print(&text)?;
    Failure::all(wrong)
}

fn render(template: &Template, source: &str, raw: &RawValue) -> Result<String, String> {
    // The object as it is: its members keep their order.
    if matches!(source.trim(), "{{json .}}" | "{{ json . }}") {
        return Ok(raw.get().to_owned());
    }
    let mut json: serde_json::Value =
        serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    with_optional(&mut json);
    template.render(&from_json(&json, ""))
}

/// What is said of a text that is no template.
pub(super) fn bad_template(why: &str) -> Failure {
    Failure::new(format!("template parsing error: {why}")).with_code(64)
}

/// Members that the daemon leaves out where they are empty, but that a template may ask for.
const OPTIONAL: &[(&str, &[&str])] = &[
    ("", &["SizeRw", "SizeRootFs", "ImageManifestDescriptor"]),
    (
        "Config",
        &[
            "ExposedPorts",
            "Healthcheck",
            "MacAddress",
            "Shell",
            "StopSignal",
            "StopTimeout",
        ],
    ),
    (
        "HostConfig",
        &[
            "Annotations",
            "Init",
            "Mounts",
            "StorageOpt",
            "Sysctls",
            "Tmpfs",
        ],
    ),
    ("State", &["Health"]),
];

fn with_optional(json: &mut serde_json::Value) {
    for (part, names) in OPTIONAL {
        let of = match *part {
            "" => Some(&mut *json),
            part => json.get_mut(part),
        };
        let Some(fields) = of.and_then(serde_json::Value::as_object_mut) else {
            continue;
        };
        for name in *names {
            let empty = match *name {
                "MacAddress" | "StopSignal" => "".into(),
                _ => serde_json::Value::Null,
            };
            fields.entry(*name).or_insert(empty);
        }
    }
}
