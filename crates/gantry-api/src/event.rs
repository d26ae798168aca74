//! `GET /events`: what happened, one JSON object a line.

use crate::container::Map;
use serde::{Deserialize, Serialize};

/// `events.Message`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    // COMPAT: `status`, `id` and `from` are there for containers and images alone, up to API 1.51.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `daemon`, `builder`, ...
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`
    pub scope: String,
    /// Unix seconds.
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: Map,
}

impl Event {
    /// An event at a time (Unix nanoseconds), with the old fields where Docker has them.
    pub fn new(kind: &str, action: &str, actor: Actor, time_nano: i64) -> Self {
        let old = matches!(kind, "container" | "image");
        let from = if kind == "container" {
            actor.attributes.get("image").cloned().unwrap_or_default()
        } else {
            String::new()
        };
        Self {
            status: if old {
                action.to_owned()
            } else {
                String::new()
            },
            id: if old { actor.id.clone() } else { String::new() },
            from,
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor,
            scope: "local".to_owned(),
            time: time_nano.div_euclid(1_000_000_000),
            time_nano,
        }
    }

    /// The same event for clients of API 1.52 and newer.
    pub fn without_old_fields(mut self) -> Self {
        self.status.clear();
        self.id.clear();
        self.from.clear();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_docker_s() {
        let actor = Actor {
            id: "c1".into(),
            attributes: Map::from([
                ("image".into(), "busybox".into()),
                ("name".into(), "n".into()),
            ]),
        };
        let event = Event::new(
            "container",
            "start",
            actor.clone(),
            1_700_000_000_000_000_005,
        );
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            concat!(
                r#"{"status":"start","id":"c1","from":"busybox","Type":"container","Action":"start","#,
                r#""Actor":{"ID":"c1","Attributes":{"image":"busybox","name":"n"}},"scope":"local","#,
                r#""time":1700000000,"timeNano":1700000000000000005}"#
            )
        );
        let network = Event::new("network", "connect", actor, 5);
        assert!(network.status.is_empty() && network.id.is_empty() && network.from.is_empty());
        assert!(event.without_old_fields().id.is_empty());
    }
}
