//! What a container has other than another container, or an image: files by content, and settings.

use crate::containers::Containers;
use crate::containers::record::Record;
use crate::error::{Error, ErrorKind, Result};
use gantry_api::container::ContainerConfig;
use gantry_api::files::{Comparison, FilesystemChange, SettingChange};
use gantry_store::snapshots::Stack;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Settings that are never the same, or say nothing of what a container does.
const PASSED_OVER: [&str; 7] = [
    "Image",
    "ArgsEscaped",
    "HostConfig.ContainerIDFile",
    "HostConfig.ConsoleSize",
    "HostConfig.Binds",
    "HostConfig.Mounts",
    "HostConfig.Tmpfs",
];
/// What an image has, too.
const OF_IMAGES: [&str; 14] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "StopTimeout",
    "User",
    "Volumes",
    "WorkingDir",
    "Domainname",
];

type Settings = BTreeMap<String, Value>;

impl Containers {
    /// Holds a container against another one, or else an image, of that name.
    pub async fn compare(self: &Arc<Self>, name: &str, against: &str) -> Result<Comparison> {
        let record = self.find(name)?.snapshot();
        let this = self.clone();
        let against = against.to_owned();
        crate::blocking(move || this.compare_blocking(&record, &against)).await?
    }

    fn compare_blocking(&self, record: &Record, against: &str) -> Result<Comparison> {
        let store = &self.context.store;
        let mut own = settings(record)?;
        let (kind, id, stack, other) = match self.find(against) {
            Ok(other) => {
                let other = other.snapshot();
                let stack = Stack::Container(other.id.clone());
                ("container", other.id.clone(), stack, settings(&other)?)
            }
            Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
            Err(_) => {
                let image = store.images.find(against)?.ok_or_else(|| {
                    Error::not_found(format!("No such container or image: {against}"))
                })?;
                own.retain(|name, _| {
                    OF_IMAGES.iter().any(|known| {
                        let rest = name.strip_prefix(known);
                        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                    })
                });
                let config: ContainerConfig = serde_json::to_value(&image.config.config)
                    .and_then(serde_json::from_value)
                    .map_err(|e| Error::caused("the image's configuration is broken", e))?;
                let mut other = Settings::new();
                flatten(&mut other, "", &to_map(&config)?);
                let id = image.id.to_string();
                ("image", id, Stack::Layers(image.diff_ids.clone()), other)
            }
        };
        let files = store
            .snapshots
            .compare(&Stack::Container(record.id.clone()), &stack)?;
        let file = |change: gantry_store::snapshots::Change| FilesystemChange {
            path: change.path,
            kind: change.kind as u8,
        };
        Ok(Comparison {
            against: kind.to_owned(),
            id,
            files: files.into_iter().map(file).collect(),
            settings: differing(&own, &other),
        })
    }
}

fn to_map(value: &impl serde::Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(Error::caused("cannot encode the settings", error)),
    }
}

/// All settings of a container by name.
fn settings(record: &Record) -> Result<Settings> {
    let mut config = record.config.clone();
    if config.hostname == record.short_id() {
        config.hostname.clear();
    }
    let mut all = Settings::new();
    flatten(&mut all, "", &to_map(&config)?);
    flatten(&mut all, "HostConfig.", &to_map(&record.host_config)?);
    for mount in &record.mounts {
        let value = json!({
            "Type": mount.kind.word(),
            "Source": mount.source,
            "RW": !mount.read_only,
            "Propagation": mount.propagation,
            "Options": mount.options,
        });
        all.insert(format!("Mounts.{}", mount.destination), value);
    }
    Ok(all)
}

/// What says nothing: unset, in one of the ways in which Go writes it.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

/// One name for each variable, label and option.
fn flatten(all: &mut Settings, prefix: &str, map: &Map<String, Value>) {
    for (key, value) in map {
        let name = format!("{prefix}{key}");
        match value {
            Value::Array(list) if name == "Env" => {
                for entry in list.iter().filter_map(Value::as_str) {
                    let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
                    all.insert(format!("Env.{key}"), json!(value));
                }
            }
            Value::Object(inner) => {
                for (key, value) in inner {
                    all.insert(format!("{name}.{key}"), value.clone());
                }
            }
            value => {
                all.insert(name, value.clone());
            }
        }
    }
    // A variable or a label may be empty, and a port's value always is.
    let kept = ["Env.", "Labels.", "ExposedPorts.", "Volumes."];
    all.retain(|name, value| kept.iter().any(|k| name.starts_with(k)) || !is_unset(value));
    all.retain(|name, _| !PASSED_OVER.contains(&name.as_str()));
}

fn differing(own: &Settings, other: &Settings) -> Vec<SettingChange> {
    let names: std::collections::BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    let of = |settings: &Settings, name: &String| settings.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .filter(|name| own.get(*name) != other.get(*name))
        .map(|name| SettingChange {
            name: name.clone(),
            value: of(own, name),
            other: of(other, name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(value: Value) -> Settings {
        let mut all = Settings::new();
        flatten(&mut all, "", value.as_object().unwrap());
        all
    }

    #[test]
    fn settings_that_differ() {
        let one = flat(json!({
            "Env": ["A=1", "B=2", "EMPTY="], "Cmd": ["sh"], "Labels": {"l": ""}, "Tty": false, "User": "",
            "Image": "x", "ExposedPorts": {"80/tcp": {}},
        }));
        let two = flat(json!({"Env": ["A=1", "B=3"], "Cmd": null, "Image": "y", "Tty": true}));
        let told: Vec<String> = differing(&one, &two)
            .iter()
            .map(|c| format!("{} {} {}", c.name, c.value, c.other))
            .collect();
        assert_eq!(
            told,
            [
                "Cmd [\"sh\"] null",
                "Env.B \"2\" \"3\"",
                "Env.EMPTY \"\" null",
                "ExposedPorts.80/tcp {} null",
                "Labels.l \"\" null",
                "Tty null true",
            ]
        );
    }
}
