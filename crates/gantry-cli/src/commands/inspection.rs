//! What the `inspect` commands share.

use serde_json::value::RawValue;

use crate::client::{Answered, Client, encode, talk};
use crate::commands::each::container;
use crate::commands::formats::{TemplateFormat, bad_template};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::format::shape::{CONTAINER, IMAGE, NETWORK, VOLUME};
use crate::format::{Template, from_json, indented};

/// The kinds of objects that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    /// In the order in which a name is looked up among them.
    pub(super) const ALL: [Kind; 4] = [Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

    /// What `--type` calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Volume => "volume",
        }
    }

    /// The path of one object.
    fn path(self, name: &str) -> Answered<String> {
        Ok(match self {
            Kind::Container => container(name, "/json")?,
            Kind::Image => format!("/images/{}/json", encode(name)),
            Kind::Network => format!("/networks/{}", encode(name)),
            Kind::Volume => format!("/volumes/{}", encode(name)),
        })
    }
}

/// The daemon's own bytes for one object. `more` is what else is asked for, where it is.
pub(super) async fn fetch(
    client: &Client,
    kind: Kind,
    name: &str,
    (key, value): (&str, Option<&str>),
) -> Answered<Box<RawValue>> {
    let call = client.get(kind.path(name)?);
    call.query_if(key, value).json().await
}

/// `container inspect`, `image inspect`...: objects of one kind, and what else is asked for of each.
pub(super) fn inspect(
    cx: &Cx,
    kind: Kind,
    names: &[String],
    format: &TemplateFormat,
    more: (&str, Option<&str>),
) -> Outcome {
    talk(cx, async |client| {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for name in names {
            match fetch(&client, kind, name, more).await {
                Ok(one) => found.push((kind, one)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        show(cx, format, &found, wrong)
    })
}

/// Shows what was found by `--format`, then tells what was not.
pub(super) fn show(
    cx: &Cx,
    format: &TemplateFormat,
    found: &[(Kind, Box<RawValue>)],
    mut wrong: Vec<String>,
) -> Outcome {
    let format = format.format.as_deref().filter(|format| !format.is_empty());
    let mut text = String::new();
    match format {
        None => {
            let all: Vec<&str> = found.iter().map(|(_, one)| one.get()).collect();
            text = indented(&format!("[{}]", all.join(",")), "    ");
            text.push('\n');
        }
        Some("json") => {
            let all: Vec<&str> = found.iter().map(|(_, one)| one.get()).collect();
            text = format!("[{}]\n", all.join(","));
        }
        Some(source) => {
            let template = Template::parse(source).map_err(|why| bad_template(&why))?;
            for (kind, one) in found {
                match render(&template, *kind, one) {
                    Ok(line) => text.push_str(&line),
                    Err(why) => wrong.push(format!("template parsing error: {why}")),
                }
                text.push('\n');
            }
            // COMPAT: nothing is a line, too.
            if found.is_empty() {
                text.push('\n');
            }
        }
    }
    cx.print(&text)?;
    Failure::all(wrong)
}

/// By Go's names, as the client's types have them; where that fails by the JSON's, as Docker's client does.
fn render(template: &Template, kind: Kind, raw: &RawValue) -> Result<String, String> {
    let mut json: serde_json::Value =
        serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    let shape = match kind {
        Kind::Container => &CONTAINER,
        Kind::Image => &IMAGE,
        Kind::Network => &NETWORK,
        Kind::Volume => &VOLUME,
    };
    if kind == Kind::Image {
        json.get_mut("Config").map(leave_out_empty);
    }
    template.render_typed(&json, shape).or_else(|why| {
        if kind == Kind::Volume {
            return Err(why);
        }
        let json: serde_json::Value =
            serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
        template.render(&from_json(&json, ""))
    })
}

/// Of an image's configuration the client's type leaves out what is empty.
fn leave_out_empty(json: &mut serde_json::Value) {
    if let Some(members) = json.as_object_mut() {
        members.retain(|_, value| !(value.is_null() || value == ""));
    }
}
