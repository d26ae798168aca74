//! What the three `inspect` commands share.

use serde_json::value::RawValue;

use crate::client::{Answered, Client, encode, talk};
use crate::commands::Command;
use crate::commands::each::container;
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
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
        Kind::Network => {
            let path = format!("/networks/{}", encode(name));
            client.get(path).json().await
        }
        Kind::Volume => {
            let path = format!("/volumes/{}", encode(name));
            client.get(path).json().await
        }
        Kind::Image => {
            client
                .get(format!("/images/{}/json", encode(name)))
                .json()
                .await
        }
    }
}

flags! {
    struct InspectFlags {
        /// Format output using a custom template:
        ///
        /// 'json':             Print in JSON format
        ///
        /// 'TEMPLATE':         Print output using the given Go template.
        format: Option<String> = "format" short "f";
    }
}

/// `image inspect`, `volume inspect`: objects of one kind.
pub(super) fn inspect(cx: &Cx, command: &Command, kind: Kind) -> Outcome {
    let mut flags = InspectFlags::default();
    let names = cx.read(command, &mut [&mut flags])?;
    talk(cx, async |client| {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for name in &names {
            match fetch(&client, kind, name, false).await {
                Ok(one) => found.push((kind, one)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        show(cx, flags.format.as_deref(), &found, wrong)
    })
}

/// Shows what was found by `format`, then tells what was not.
pub(super) fn show(
    cx: &Cx,
    format: Option<&str>,
    found: &[(Kind, Box<RawValue>)],
    mut wrong: Vec<String>,
) -> Outcome {
    let format = format.filter(|format| !format.is_empty());
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

/// What is said of a text that is no template.
pub(super) fn bad_template(why: &str) -> Failure {
    Failure::new(format!("template parsing error: {why}")).with_code(64)
}
