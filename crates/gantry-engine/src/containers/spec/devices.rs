//! Devices of the host in a container, and the rules that open them.

use super::unbuildable;
use crate::error::{Error, Result};
use gantry_api::container::HostConfig;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};
use rustix::fs::FileType;
use std::path::Path;

/// Folders of the host's `/dev` that a privileged container has of its own.
const OWN_FOLDERS: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// Character devices that every container may use: null, zero, full, random, urandom, tty, console, ptmx.
const OPEN: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    // Pseudo-terminals.
    (136, None),
];

/// A device node of the host, to be made in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostDevice {
    pub(crate) path: String,
    pub(crate) kind: LinuxDeviceType,
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `rwm`, or less.
    pub(crate) access: String,
}

/// The devices that a container is to have.
pub(super) fn find(host: &HostConfig) -> Result<Vec<HostDevice>> {
    let mut found = Vec::new();
    if host.privileged {
        below(Path::new("/dev"), "/dev", "rwm", true, &mut found);
    }
    for asked in host.devices.iter().flatten() {
        let access = if asked.cgroup_permissions.is_empty() {
            "rwm"
        } else {
            &asked.cgroup_permissions
        };
        let inside = match asked.path_in_container.as_str() {
            "" => &asked.path_on_host,
            given => given,
        };
        let fail = |what: &str| {
            Error::system(format!(
                "error gathering device information while adding custom device \"{}\": {what}",
                asked.path_on_host
            ))
        };
        let path = std::fs::canonicalize(&asked.path_on_host).map_err(|e| fail(&words(&e)))?;
        let mut own = Vec::new();
        if path.is_dir() {
            below(&path, inside, access, false, &mut own);
        } else {
            own.extend(look_at(&path, inside, access));
        }
        if own.is_empty() {
            return Err(fail("not a device node"));
        }
        // A device of the request stands in the place of one from all of /dev.
        found.retain(|d: &HostDevice| !own.iter().any(|o| o.path == d.path));
        found.extend(own);
    }
    Ok(found)
}

/// The kernel's words for an error, without Rust's number.
fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn look_at(path: &Path, inside: &str, access: &str) -> Option<HostDevice> {
    let stat = rustix::fs::lstat(path).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::BlockDevice => LinuxDeviceType::B,
        _ => return None,
    };
    Some(HostDevice {
        path: inside.to_owned(),
        kind,
        major: i64::from(rustix::fs::major(stat.st_rdev)),
        minor: i64::from(rustix::fs::minor(stat.st_rdev)),
        mode: stat.st_mode & 0o777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        access: access.to_owned(),
    })
}

/// The device nodes below a folder. What vanishes meanwhile is left out; links are not followed.
fn below(folder: &Path, inside: &str, access: &str, top: bool, found: &mut Vec<HostDevice>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut entries: Vec<_> = entries.filter_map(std::result::Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let inside = format!("{inside}/{name}");
        if kind.is_dir() {
            if !(top && OWN_FOLDERS.contains(&name)) {
                below(&entry.path(), &inside, access, false, found);
            }
        } else if !(top && name == "console") {
            found.extend(look_at(&entry.path(), &inside, access));
        }
    }
}

/// The nodes for the spec.
pub(super) fn nodes(devices: &[HostDevice]) -> Result<Vec<LinuxDevice>> {
    let node = |device: &HostDevice| {
        LinuxDeviceBuilder::default()
            .path(&device.path)
            .typ(device.kind)
            .major(device.major)
            .minor(device.minor)
            .file_mode(device.mode)
            .uid(device.uid)
            .gid(device.gid)
            .build()
            .map_err(unbuildable)
    };
    devices.iter().map(node).collect()
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup> {
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .typ(kind)
        .access(access);
    if let Some(major) = major {
        rule = rule.major(major);
    }
    if let Some(minor) = minor {
        rule = rule.minor(minor);
    }
    rule.build().map_err(unbuildable)
}

/// The rules for the spec: all is closed, then Docker's and runc's defaults, then the request's.
pub(super) fn rules(host: &HostConfig, devices: &[HostDevice]) -> Result<Vec<LinuxDeviceCgroup>> {
    if host.privileged {
        return Ok(vec![rule(true, LinuxDeviceType::A, None, None, "rwm")?]);
    }
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm")?,
        // Making a node is harmless as long as it cannot be opened.
        rule(true, LinuxDeviceType::C, None, None, "m")?,
        rule(true, LinuxDeviceType::B, None, None, "m")?,
    ];
    for (major, minor) in OPEN {
        rules.push(rule(true, LinuxDeviceType::C, Some(major), minor, "rwm")?);
    }
    for device in devices {
        rules.push(rule(
            true,
            device.kind,
            Some(device.major),
            Some(device.minor),
            &device.access,
        )?);
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// `--device-cgroup-rule`: `c 1:3 rwm`, with `*` for any number.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let refuse = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(refuse());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(refuse()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(refuse)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().map(Some).map_err(|_| refuse())
        }
        _ => Err(refuse()),
    };
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(refuse());
    }
    rule(true, kind, number(major)?, number(minor)?, access)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_api::container::DeviceMapping;

    fn with(path: &str) -> HostConfig {
        let device = DeviceMapping {
            path_on_host: path.to_owned(),
            path_in_container: "/dev/x".to_owned(),
            cgroup_permissions: "r".to_owned(),
        };
        HostConfig {
            devices: Some(vec![device]),
            ..HostConfig::default()
        }
    }

    #[test]
    fn a_device_of_the_host() {
        let found = find(&with("/dev/null")).unwrap();
        assert_eq!(
            (found[0].major, found[0].minor, found[0].mode),
            (1, 3, 0o666)
        );
        assert_eq!(
            (found[0].path.as_str(), found[0].access.as_str()),
            ("/dev/x", "r")
        );
        let prefix = "error gathering device information while adding custom device";
        assert_eq!(
            find(&with("/tx/none")).unwrap_err().message,
            format!("{prefix} \"/tx/none\": no such file or directory")
        );
        assert_eq!(
            find(&with("/etc/passwd")).unwrap_err().message,
            format!("{prefix} \"/etc/passwd\": not a device node")
        );
    }

    #[test]
    fn rules_of_the_request() {
        let parsed = parse_rule("c 188:* rw").unwrap();
        assert_eq!((parsed.major(), parsed.minor()), (Some(188), None));
        for bad in [
            "c 1:3",
            "x 1:3 r",
            "c 1 r",
            "c 1:3 rx",
            "c -1:3 r",
            "c 1:3 r m",
        ] {
            assert_eq!(
                parse_rule(bad).unwrap_err().message,
                format!("invalid device cgroup rule format: '{bad}'")
            );
        }
    }

    #[test]
    fn a_privileged_container_has_the_hosts_devices_but_not_its_terminals() {
        let host = HostConfig {
            privileged: true,
            ..HostConfig::default()
        };
        let found = find(&host).unwrap();
        assert!(found.iter().any(|d| d.path == "/dev/null"));
        assert!(
            !found
                .iter()
                .any(|d| d.path.starts_with("/dev/pts/") || d.path == "/dev/console")
        );
    }
}
