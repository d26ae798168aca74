//! `-v`, `--mount`, `--tmpfs`: parsed and checked at create, Docker's words (volume/mounts of Docker Engine 28).

use super::record::{MountKind, MountRecord};
use crate::error::{Error, ErrorKind, Result};
use gantry_api::container::{HostConfig, Mount};
use std::path::Path;

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// All mounts of a request, in the order of their destinations.
pub(super) fn parse(config: &HostConfig) -> Result<Vec<MountRecord>> {
    let mut mounts: Vec<MountRecord> = Vec::new();
    for text in config.binds.iter().flatten() {
        add(&mut mounts, bind(text)?)?;
    }
    for mount in config.mounts.iter().flatten() {
        add(&mut mounts, from_mount(mount)?)?;
    }
    for (destination, options) in config.tmpfs.iter().flatten() {
        if !destination.starts_with('/') {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"tmpfs\": invalid mount path: '{destination}' mount path must be absolute"
            )));
        }
        let options = options
            .split(',')
            .filter(|o| !o.is_empty())
            .map(str::to_owned)
            .collect();
        add(&mut mounts, tmpfs(destination, options))?;
    }
    mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    Ok(mounts)
}

fn add(mounts: &mut Vec<MountRecord>, mount: MountRecord) -> Result<()> {
    if mounts
        .iter()
        .any(|other| other.destination == mount.destination)
    {
        return Err(Error::invalid(format!(
            "Duplicate mount point: {}",
            mount.destination
        )));
    }
    mounts.push(mount);
    Ok(())
}

fn tmpfs(destination: &str, options: Vec<String>) -> MountRecord {
    MountRecord {
        kind: MountKind::Tmpfs,
        source: String::new(),
        destination: clean(destination),
        read_only: options.iter().any(|o| o == "ro"),
        recursive: false,
        propagation: String::new(),
        mode: String::new(),
        options,
        create_source: false,
    }
}

/// The path without `.`, doubled and trailing slashes, `..` resolved by words (Go's `filepath.Clean`).
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

fn bind(text: &str) -> Result<MountRecord> {
    let specification = |what: String| {
        Error::new(
            ErrorKind::System,
            format!("invalid volume specification: '{text}': {what}"),
        )
    };
    let mut parts = text.split(':');
    let (source, destination, mode) = match (parts.next(), parts.next(), parts.next(), parts.next())
    {
        (Some(source), Some(destination), mode, None) => {
            (source, destination, mode.unwrap_or_default())
        }
        (Some(_), None, ..) => return Err(volumes_later(text)),
        _ => {
            return Err(Error::system(format!(
                "invalid volume specification: '{text}'"
            )));
        }
    };
    if !source.starts_with('/') {
        return Err(named_volume(source));
    }
    if !destination.starts_with('/') {
        return Err(specification(format!(
            "invalid mount config for type \"bind\": invalid mount path: '{destination}' mount path must be absolute"
        )));
    }
    if clean(destination) == "/" {
        return Err(specification(
            "invalid mount config for type \"bind\": invalid specification: destination can't be '/'".into(),
        ));
    }
    let mut mount = MountRecord {
        kind: MountKind::Bind,
        source: clean(source),
        destination: clean(destination),
        read_only: false,
        recursive: true,
        propagation: "rprivate".into(),
        mode: mode.to_owned(),
        options: Vec::new(),
        create_source: true,
    };
    for word in mode.split(',').filter(|w| !w.is_empty()) {
        match word {
            "ro" => mount.read_only = true,
            "rw" | "z" | "Z" | "nocopy" | "consistent" | "cached" | "delegated" | "rbind" => {}
            "bind" => mount.recursive = false,
            other if PROPAGATIONS.contains(&other) => mount.propagation = other.to_owned(),
            _ => return Err(Error::system(format!("invalid mode: {mode}"))),
        }
    }
    Ok(mount)
}

/// Why a name where a path is expected is refused.
fn named_volume(name: &str) -> Error {
    let valid = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if valid {
        return volumes_later(name);
    }
    Error::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    ))
}

// COMPAT: named and anonymous volumes come with the volume service (docs/roadmap.md); until then they are refused
// rather than kept somewhere that a later version would not find.
fn volumes_later(name: &str) -> Error {
    Error::new(
        ErrorKind::NotImplemented,
        format!(
            "volume {name:?}: this version of Gantry mounts folders of the host and tmpfs only: give an absolute path"
        ),
    )
}

fn from_mount(mount: &Mount) -> Result<MountRecord> {
    let refuse = |what: String| {
        Err(Error::invalid(format!(
            "invalid mount config for type \"{}\": {what}",
            mount.kind
        )))
    };
    if !matches!(mount.kind.as_str(), "bind" | "volume" | "tmpfs") {
        return refuse("mount type unknown".into());
    }
    if mount.target.is_empty() {
        return refuse("field Target must not be empty".into());
    }
    if !mount.target.starts_with('/') {
        return refuse(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.target
        ));
    }
    if clean(&mount.target) == "/" {
        return refuse("invalid specification: destination can't be '/'".into());
    }
    match mount.kind.as_str() {
        "tmpfs" => {
            if !mount.source.is_empty() {
                return refuse("field Source must not be specified".into());
            }
            let mut options = Vec::new();
            if let Some(tmpfs) = &mount.tmpfs_options {
                if tmpfs.size_bytes != 0 {
                    options.push(format!("size={}", tmpfs.size_bytes));
                }
                if tmpfs.mode != 0 {
                    options.push(format!("mode={:o}", tmpfs.mode));
                }
                options.extend(tmpfs.options.iter().flatten().map(|pair| pair.join("=")));
            }
            if mount.read_only {
                options.push("ro".into());
            }
            Ok(tmpfs(&mount.target, options))
        }
        "volume" => Err(volumes_later(if mount.source.is_empty() {
            &mount.target
        } else {
            &mount.source
        })),
        _ => {
            let options = mount.bind_options.clone().unwrap_or_default();
            if mount.source.is_empty() {
                return refuse("field Source must not be empty".into());
            }
            if !mount.source.starts_with('/') {
                return refuse(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                ));
            }
            if !options.create_mountpoint && !Path::new(&mount.source).exists() {
                return refuse(format!("bind source path does not exist: {}", mount.source));
            }
            let propagation = if options.propagation.is_empty() {
                "rprivate".into()
            } else {
                options.propagation
            };
            if !PROPAGATIONS.contains(&propagation.as_str()) {
                return refuse(format!("invalid propagation mode: {propagation}"));
            }
            Ok(MountRecord {
                kind: MountKind::Bind,
                source: clean(&mount.source),
                destination: clean(&mount.target),
                read_only: mount.read_only,
                recursive: !options.non_recursive,
                propagation,
                mode: String::new(),
                options: Vec::new(),
                create_source: options.create_mountpoint,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(bind: &str) -> HostConfig {
        HostConfig {
            binds: Some(vec![bind.to_owned()]),
            ..HostConfig::default()
        }
    }

    #[test]
    fn a_bind_with_a_mode() {
        let mounts = parse(&with("/tmp//x/:/c/../d:ro,rslave")).unwrap();
        assert_eq!(mounts[0].source, "/tmp/x");
        assert_eq!(mounts[0].destination, "/d");
        assert!(mounts[0].read_only);
        assert_eq!(mounts[0].propagation, "rslave");
    }

    #[test]
    fn what_is_refused() {
        for (bind, message) in [
            (
                "/tmp:c",
                "invalid volume specification: '/tmp:c': invalid mount config for type \"bind\": invalid mount path: 'c' mount path must be absolute",
            ),
            (
                "/tmp:/",
                "invalid volume specification: '/tmp:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            ("/tmp:/c:nonsense", "invalid mode: nonsense"),
        ] {
            assert_eq!(parse(&with(bind)).unwrap_err().message, message);
        }
    }
}
