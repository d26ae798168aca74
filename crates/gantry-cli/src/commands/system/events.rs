//! `gantry events`

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use crate::client::talk;
use crate::commands::container::ls::{Filter, filters};
use crate::commands::formats::bad_template;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::format::shape::EVENT;
use crate::format::{Template, or_default, parse_when, text_of};

pub(crate) const COMMAND: Command = Command {
    names: &["system events", "events"],
    about: "Get real time events from the server",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct EventsFlags {
        /// Filter output based on conditions provided
        filter: Checked<Filter> = "filter" short "f";
        /// Format output using a custom template:
        ///
        /// 'json':             Print in JSON format
        ///
        /// 'TEMPLATE':         Print output using the given Go template.
        format: Option<String> = "format";
        /// Show all events created since timestamp
        since: Option<String> = "since";
        /// Stream events until this timestamp
        until: Option<String> = "until";
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes", deserialize_with = "or_default")]
    attributes: BTreeMap<String, String>,
}

fn line(event: &Event) -> String {
    let time = match event.time_nano {
        0 => event.time.saturating_mul(1_000_000_000),
        nanoseconds => nanoseconds,
    };
    let Event {
        kind,
        action,
        actor,
        ..
    } = event;
    let mut text = format!("{} {kind} {action} {}", text_of(time), actor.id);
    if !actor.attributes.is_empty() {
        let pairs: Vec<String> = actor
            .attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        text.push_str(&format!(" ({})", pairs.join(", ")));
    }
    text
}

fn shown(
    raw: &RawValue,
    format: Option<&str>,
    template: Option<&Template>,
) -> Result<String, String> {
    let wrong = |error: serde_json::Error| error.to_string();
    match (format, template) {
        (Some("json"), _) => Ok(raw.get().to_owned()),
        (_, Some(template)) => {
            let json: serde_json::Value = serde_json::from_str(raw.get()).map_err(wrong)?;
            template.render_typed(&json, &EVENT)
        }
        _ => serde_json::from_str::<Event>(raw.get())
            .map(|event| line(&event))
            .map_err(wrong),
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = EventsFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    let format = flags.format.as_deref().filter(|format| !format.is_empty());
    let template = match format {
        None | Some("json") => None,
        Some(source) => Some(Template::parse(source).map_err(|why| bad_template(&why))?),
    };
    let when = |text: &Option<String>| {
        text.as_deref()
            .map(parse_when)
            .transpose()
            .map_err(Failure::new)
    };
    let (since, until) = (when(&flags.since)?, when(&flags.until)?);
    talk(cx, async |client| {
        let mut answer = client
            .get("/events")
            .query_if("filters", filters(&flags.filter.items).as_deref())
            .query_if("since", since.as_deref())
            .query_if("until", until.as_deref())
            .send()
            .await?;
        let mut pending: Vec<u8> = Vec::new();
        while let Some(bytes) = answer.chunk().await? {
            pending.extend_from_slice(&bytes);
            let mut stream =
                serde_json::Deserializer::from_slice(&pending).into_iter::<Box<RawValue>>();
            let mut text = String::new();
            while let Some(Ok(raw)) = stream.next() {
                let one = shown(&raw, format, template.as_ref());
                let one = one.map_err(|why| {
                    Failure::new(format!("Error parsing format: {why}")).with_code(64)
                })?;
                text.push_str(&one);
                text.push('\n');
            }
            let used = stream.byte_offset();
            pending.drain(..used);
            cx.print(&text)?;
        }
        Ok(0)
    })
}
