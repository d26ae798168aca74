//! `-v`, `--mount` and `--tmpfs`.

use gantry_api::container::{Mount, TmpfsOptions};
use serde_json::json;

use super::amounts::ram_in_bytes;
use crate::flags::{Rule, csv};

/// `--mount type=bind,source=/a,target=/b,readonly`
#[derive(Debug)]
pub(crate) struct MountRule;

fn truth(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None => Ok(true),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(format!("invalid value for {key}: {value}")),
    }
}

/// One `key=value` of a mount; `Err` with Docker's words.
fn field(mount: &mut Mount, key: &str, value: Option<&str>) -> Result<(), String> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    match key {
        "readonly" | "ro" => mount.read_only = truth(key, value)?,
        "bind-nonrecursive" => {
            mount.bind_options.get_or_insert_default().non_recursive = truth(key, value)?;
        }
        "bind-create-src" => {
            mount.bind_options.get_or_insert_default().create_mountpoint = truth(key, value)?;
        }
        "volume-nocopy" => {
            mount.volume_options.get_or_insert_default().no_copy = truth(key, value)?;
        }
        _ if value.is_none() => {
            return Err(format!("invalid field '{key}' must be a key=value pair"));
        }
        "type" => mount.kind = text(value).to_lowercase(),
        "source" | "src" => {
            mount.source = text(value);
            if mount.source.starts_with('.') {
                mount.source = absolute(&mount.source);
            }
        }
        "target" | "dst" | "destination" => mount.target = text(value),
        "consistency" => mount.consistency = text(value).to_lowercase(),
        "bind-propagation" => {
            mount.bind_options.get_or_insert_default().propagation = text(value).to_lowercase();
        }
        "bind-recursive" => {
            let options = mount.bind_options.get_or_insert_default();
            match value {
                Some("enabled") => {}
                Some("disabled") => options.non_recursive = true,
                Some("writable") => options.read_only_non_recursive = true,
                Some("readonly") => options.read_only_force_recursive = true,
                _ => {
                    return Err(format!(
                        "invalid value for {key}: {} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                        text(value)
                    ));
                }
            }
        }
        "volume-subpath" => mount.volume_options.get_or_insert_default().subpath = text(value),
        "volume-label" => {
            let text = text(value);
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            let labels = mount
                .volume_options
                .get_or_insert_default()
                .labels
                .get_or_insert_default();
            labels.insert(key.to_owned(), value.to_owned());
        }
        "volume-driver" | "volume-opt" => driver(mount, key, &text(value)),
        "tmpfs-size" => {
            let size = ram_in_bytes(&text(value))
                .map_err(|_| format!("invalid value for {key}: {}", text(value)))?;
            tmpfs(mount).size_bytes = size;
        }
        "tmpfs-mode" => {
            tmpfs(mount).mode = u32::from_str_radix(&text(value), 8)
                .map_err(|_| format!("invalid value for {key}: {}", text(value)))?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{key}={}'", text(value))),
    }
    Ok(())
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn driver(mount: &mut Mount, key: &str, value: &str) {
    let options = mount.volume_options.get_or_insert_default();
    let config = options.driver_config.get_or_insert_with(|| json!({}));
    if key == "volume-driver" {
        config["Name"] = value.into();
    } else {
        let (name, value) = value.split_once('=').unwrap_or((value, ""));
        config["Options"][name] = value.into();
    }
}

impl Rule for MountRule {
    const KIND: &'static str = "mount";
    type Item = Mount;
    fn read(text: &str) -> Result<Mount, String> {
        let mut mount = Mount {
            kind: "volume".to_owned(),
            ..Mount::default()
        };
        for part in csv(text)? {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (part.as_str(), None),
            };
            field(&mut mount, &key.to_lowercase(), value)?;
        }
        if mount.target.is_empty() {
            return Err("target is required".to_owned());
        }
        let mixed = |what: &str| {
            Err(format!(
                "cannot mix '{what}' options with mount type '{}'",
                mount.kind
            ))
        };
        if mount.volume_options.is_some() && mount.kind != "volume" {
            return mixed("volume-*");
        }
        if mount.bind_options.is_some() && mount.kind != "bind" {
            return mixed("bind-*");
        }
        if mount.tmpfs_options.is_some() && mount.kind != "tmpfs" {
            return mixed("tmpfs-*");
        }
        Ok(mount)
    }
}

/// The path from our working directory, dots taken out.
fn absolute(path: &str) -> String {
    let Ok(here) = std::env::current_dir() else {
        return path.to_owned();
    };
    let mut clean = std::path::PathBuf::new();
    for part in here.join(path).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean.to_string_lossy().into_owned()
}

/// `-v`: a bind or a named volume as it is sent, or `None` for a volume without a source.
pub(crate) fn bind(text: &str) -> Option<String> {
    let (source, rest) = text.split_once(':')?;
    if source.starts_with('.') {
        return Some(format!("{}:{rest}", absolute(source)));
    }
    Some(text.to_owned())
}
