//! `-v`, `--mount`, `--tmpfs`: parsed and checked at create, Docker's words (volume/mounts of Docker Engine 28).

use super::record::{MountKind, MountRecord, Record, VolumeUse};
use crate::error::{Error, ErrorKind, Result};
use gantry_api::container::{ContainerConfig, HostConfig, Mount};
use std::path::Path;

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// All mounts of a request, in the order of their destinations. `inherited` are those of `--volumes-from`.
pub(super) fn parse(
    config: &ContainerConfig,
    host: &HostConfig,
    inherited: Vec<MountRecord>,
) -> Result<Vec<MountRecord>> {
    let mut asked: Vec<MountRecord> = Vec::new();
    for text in host.binds.iter().flatten() {
        add(&mut asked, bind(text)?)?;
    }
    for mount in host.mounts.iter().flatten() {
        add(&mut asked, from_mount(mount)?)?;
    }
    for (destination, options) in host.tmpfs.iter().flatten() {
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
        add(&mut asked, tmpfs(destination, options))?;
    }
    // What is asked for by itself stands before what comes from others, and both before an image's volumes.
    let mut mounts = asked;
    for mount in inherited.into_iter().rev() {
        if !has(&mounts, &mount.destination) {
            mounts.push(mount);
        }
    }
    for (destination, _) in config.volumes.iter().flatten() {
        let destination = clean(destination);
        if !has(&mounts, &destination) {
            mounts.push(anonymous(&destination));
        }
    }
    mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    Ok(mounts)
}

/// Takes mounts out of a record, and others in.
pub(super) fn change(record: &mut Record, coming: &[Mount], remove: &[String]) -> Result<()> {
    for destination in remove {
        let destination = clean(destination);
        if !has(&record.mounts, &destination) {
            return Err(Error::invalid(format!(
                "the container has no mount at {destination}"
            )));
        }
        record.mounts.retain(|m| m.destination != destination);
        let host = &mut record.host_config;
        let other = |text: &str| clean(text) != destination;
        if let Some(mounts) = &mut host.mounts {
            mounts.retain(|m| other(&m.target));
            host.mounts.take_if(|mounts| mounts.is_empty());
        }
        if let Some(binds) = &mut host.binds {
            binds.retain(|text| bind(text).is_ok_and(|m| m.destination != destination));
            host.binds.take_if(|binds| binds.is_empty());
        }
        if let Some(tmpfs) = &mut host.tmpfs {
            tmpfs.retain(|target, _| other(target));
            host.tmpfs.take_if(|tmpfs| tmpfs.is_empty());
        }
        if let Some(volumes) = &mut record.config.volumes {
            volumes.retain(|path, _| other(path));
            record.config.volumes.take_if(|volumes| volumes.is_empty());
        }
    }
    for mount in coming {
        add(&mut record.mounts, from_mount(mount)?)?;
        let mounts = record.host_config.mounts.get_or_insert_default();
        mounts.push(mount.clone());
    }
    if !coming.is_empty() {
        let mounts = &mut record.mounts;
        mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    }
    Ok(())
}

fn has(mounts: &[MountRecord], destination: &str) -> bool {
    mounts.iter().any(|m| m.destination == destination)
}

pub(super) fn add(mounts: &mut Vec<MountRecord>, mount: MountRecord) -> Result<()> {
    if has(mounts, &mount.destination) {
        return Err(Error::invalid(format!(
            "Duplicate mount point: {}",
            mount.destination
        )));
    }
    mounts.push(mount);
    Ok(())
}

/// `--volumes-from`: another container's mounts, all of them read-only with `:ro`.
pub(super) fn inherited(other: &Record, mode: &str) -> Result<Vec<MountRecord>> {
    let mut read_only = false;
    for word in mode.split(',').filter(|w| !w.is_empty()) {
        match word {
            "ro" => read_only = true,
            "rw" | "z" | "Z" => {}
            _ => return Err(Error::system(format!("invalid mode: {mode}"))),
        }
    }
    let mut mounts = other.mounts.clone();
    for mount in &mut mounts {
        mount.read_only |= read_only;
        if let Some(volume) = &mut mount.volume {
            volume.copy_up = false;
        }
    }
    Ok(mounts)
}

/// The container and the mode of a `--volumes-from`.
pub(super) fn volumes_from(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or((text, "rw"))
}

fn volume(name: &str, destination: &str, mode: &str) -> MountRecord {
    MountRecord {
        kind: MountKind::Volume,
        source: String::new(),
        destination: clean(destination),
        read_only: false,
        recursive: true,
        propagation: String::new(),
        mode: mode.to_owned(),
        options: Vec::new(),
        create_source: false,
        volume: Some(VolumeUse {
            name: name.to_owned(),
            anonymous: name.is_empty(),
            copy_up: true,
            subpath: String::new(),
        }),
    }
}

/// A volume without a name, of an image or of `-v /path`.
fn anonymous(destination: &str) -> MountRecord {
    volume("", destination, "")
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
        volume: None,
    }
}

/// The path without `.`, doubled and trailing slashes, `..` resolved by words (Go's `filepath.Clean`).
pub(super) fn clean(path: &str) -> String {
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

pub(super) fn bind(text: &str) -> Result<MountRecord> {
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
        (Some(destination), None, ..) => ("", destination, ""),
        _ => {
            return Err(Error::system(format!(
                "invalid volume specification: '{text}'"
            )));
        }
    };
    let kind = if source.starts_with('/') {
        "bind"
    } else {
        "volume"
    };
    if !destination.starts_with('/') {
        return Err(specification(format!(
            "invalid mount config for type \"{kind}\": invalid mount path: '{destination}' mount path must be absolute"
        )));
    }
    if clean(destination) == "/" {
        return Err(specification(format!(
            "invalid mount config for type \"{kind}\": invalid specification: destination can't be '/'"
        )));
    }
    let mut mount = if kind == "bind" {
        MountRecord {
            kind: MountKind::Bind,
            source: clean(source),
            destination: clean(destination),
            read_only: false,
            recursive: true,
            propagation: "rprivate".into(),
            mode: mode.to_owned(),
            options: Vec::new(),
            create_source: true,
            volume: None,
        }
    } else {
        // COMPAT: a volume's mode is shown as `z` where none is given.
        volume(
            source,
            destination,
            if mode.is_empty() { "z" } else { mode },
        )
    };
    for word in mode.split(',').filter(|w| !w.is_empty()) {
        match (word, &mut mount.volume) {
            ("ro", _) => mount.read_only = true,
            ("nocopy", Some(volume)) => volume.copy_up = false,
            ("rw" | "z" | "Z" | "nocopy" | "consistent" | "cached" | "delegated" | "rbind", _) => {}
            ("bind", None) => mount.recursive = false,
            (other, None) if PROPAGATIONS.contains(&other) => {
                other.clone_into(&mut mount.propagation);
            }
            (other, Some(_)) if PROPAGATIONS.contains(&other) => {
                return Err(specification(
                    "invalid mount config for type \"volume\": field BindOptions must not be specified".into(),
                ));
            }
            _ => return Err(Error::system(format!("invalid mode: {mode}"))),
        }
    }
    Ok(mount)
}

/// A volume of the `Mounts` of a request.
fn volume_of(mount: &Mount) -> std::result::Result<MountRecord, String> {
    let options = mount.volume_options.clone().unwrap_or_default();
    if mount.bind_options.is_some() {
        return Err("field BindOptions must not be specified".into());
    }
    if mount.source.is_empty() && mount.read_only {
        return Err("must not set ReadOnly mode when using anonymous volumes".into());
    }
    if mount.source.is_empty() && !options.subpath.is_empty() {
        return Err("must not set Subpath when using anonymous volumes".into());
    }
    let outside = options.subpath.split('/').any(|part| part == "..");
    if options.subpath.starts_with('/') || outside {
        return Err("subpath must be a relative path within the volume".into());
    }
    let mut record = volume(&mount.source, &mount.target, "z");
    record.read_only = mount.read_only;
    if let Some(volume) = &mut record.volume {
        volume.copy_up = !options.no_copy;
        volume.subpath = options.subpath;
    }
    Ok(record)
}

pub(super) fn from_mount(mount: &Mount) -> Result<MountRecord> {
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
        "volume" => volume_of(mount).or_else(refuse),
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
                volume: None,
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

    fn of(host: &HostConfig) -> Result<Vec<MountRecord>> {
        parse(&ContainerConfig::default(), host, Vec::new())
    }

    #[test]
    fn volumes_by_name_and_without() {
        let mounts = of(&with("data:/d:ro,nocopy")).unwrap();
        let used = mounts[0].volume.clone().unwrap();
        assert_eq!((used.name.as_str(), used.copy_up), ("data", false));
        assert!(mounts[0].read_only && !used.anonymous);
        let mounts = of(&with("/anon")).unwrap();
        assert!(mounts[0].volume.clone().unwrap().anonymous);
        assert_eq!(
            of(&with("data:/d:shared")).unwrap_err().message,
            "invalid volume specification: 'data:/d:shared': invalid mount config for type \"volume\": field BindOptions must not be specified"
        );
    }

    #[test]
    fn a_bind_stands_before_what_is_inherited_and_before_an_images_volume() {
        let config = ContainerConfig {
            volumes: Some(
                ["/a", "/b", "/c"]
                    .map(|path| (path.to_owned(), gantry_api::container::Empty {}))
                    .into(),
            ),
            ..ContainerConfig::default()
        };
        let from = vec![volume("theirs", "/a", "z"), volume("theirs", "/b", "z")];
        let mounts = parse(&config, &with("/tmp:/a"), from).unwrap();
        let kinds: Vec<(&str, &str)> = mounts
            .iter()
            .map(|m| {
                (
                    m.destination.as_str(),
                    m.volume.as_ref().map_or("bind", |v| &v.name),
                )
            })
            .collect();
        assert_eq!(kinds, [("/a", "bind"), ("/b", "theirs"), ("/c", "")]);
    }

    #[test]
    fn a_bind_with_a_mode() {
        let mounts = of(&with("/tmp//x/:/c/../d:ro,rslave")).unwrap();
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
            assert_eq!(of(&with(bind)).unwrap_err().message, message);
        }
    }
}
