//! Options of the `local` driver: a volume that is a file system of its own (`type`, `o`, `device`).

use crate::error::{Error, Result};
use gantry_api::container::Map;
use rustix::mount::MountFlags;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};

/// Checks the options of a new volume (volume/local of Docker Engine 28).
pub(super) fn check(options: &Map) -> Result<()> {
    if options.contains_key("size") {
        return Err(Error::invalid("quota size requested but no quota support"));
    }
    for name in options.keys() {
        if !matches!(name.as_str(), "type" | "o" | "device") {
            return Err(Error::invalid(format!("invalid option: {name:?}")));
        }
    }
    for (given, needed) in [
        ("device", "type"),
        ("type", "device"),
        ("o", "device"),
        ("o", "type"),
    ] {
        let has = |name: &str| options.get(name).is_some_and(|value| !value.is_empty());
        if has(given) && !options.contains_key(needed) {
            return Err(Error::invalid(format!(
                "missing required option: {needed:?}"
            )));
        }
    }
    Ok(())
}

/// Where a volume's files are when it is used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its own folder.
    Own,
    /// In a folder of the host (`o=bind`).
    Bound(PathBuf),
    /// In a file system that is mounted on its folder while somebody uses it.
    Mounted {
        kind: String,
        device: String,
        flags: MountFlags,
        data: String,
    },
}

/// Reads the options.
pub(super) fn place(options: Option<&Map>) -> Place {
    let get = |name: &str| options.and_then(|o| o.get(name)).map_or("", String::as_str);
    let (kind, device) = (get("type"), get("device"));
    if device.is_empty() {
        return Place::Own;
    }
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    let mut bound = kind == "bind";
    for word in get("o").split(',').filter(|word| !word.is_empty()) {
        match word {
            "bind" | "rbind" => bound = true,
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "rw" | "defaults" | "suid" | "dev" | "exec" | "async" => {}
            other => data.push(other.to_owned()),
        }
    }
    if bound {
        return Place::Bound(device.into());
    }
    Place::Mounted {
        kind: kind.to_owned(),
        device: device.to_owned(),
        flags,
        data: data.join(","),
    }
}

/// Mounts a volume's file system on its folder.
pub(super) fn mount(place: &Place, folder: &Path) -> Result<()> {
    let Place::Mounted {
        kind,
        device,
        flags,
        data,
    } = place
    else {
        return Ok(());
    };
    let data = if kind.starts_with("nfs") || kind == "cifs" {
        with_address(data)?
    } else {
        data.clone()
    };
    let words = |e: &dyn std::fmt::Display| {
        let shown = format!("{}:{}, data: {data}", folder.display(), device);
        Error::system(format!("failed to mount local volume: mount {shown}: {e}"))
    };
    let text = std::ffi::CString::new(data.as_str()).map_err(|e| words(&e))?;
    rustix::mount::mount(device, folder, kind, *flags, Some(text.as_c_str()))
        .map_err(|e| words(&std::io::Error::from(e)))
}

/// Takes the file system away from a volume's folder; what still uses it keeps it.
pub(super) fn unmount(folder: &Path) -> Result<()> {
    rustix::mount::unmount(folder, rustix::mount::UnmountFlags::DETACH)
        .map_err(|e| Error::caused(&format!("cannot unmount {}", folder.display()), e))
}

/// `addr=NAME` with the address: the kernel knows no names.
fn with_address(data: &str) -> Result<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in data.split(',') {
        match part.strip_prefix("addr=") {
            Some(name) if name.parse::<std::net::IpAddr>().is_err() => {
                let found = (name, 0).to_socket_addrs();
                let first = found.ok().and_then(|mut all| all.next()).ok_or_else(|| {
                    Error::system(format!(
                        "error resolving passed in network volume address: {name}"
                    ))
                })?;
                parts.push(format!("addr={}", first.ip()));
            }
            _ => parts.push(part.to_owned()),
        }
    }
    Ok(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_refused() {
        let words = |pairs: &[(&str, &str)]| check(&map(pairs)).unwrap_err().message;
        assert_eq!(words(&[("nonsense", "1")]), "invalid option: \"nonsense\"");
        assert_eq!(
            words(&[("type", "tmpfs")]),
            "missing required option: \"device\""
        );
        assert_eq!(
            words(&[("size", "1")]),
            "quota size requested but no quota support"
        );
        assert!(
            check(&map(&[
                ("type", "tmpfs"),
                ("device", "tmpfs"),
                ("o", "size=1m")
            ]))
            .is_ok()
        );
    }

    #[test]
    fn places() {
        assert_eq!(place(None), Place::Own);
        let bound = map(&[("type", "none"), ("device", "/srv"), ("o", "bind")]);
        assert_eq!(place(Some(&bound)), Place::Bound("/srv".into()));
        let tmpfs = map(&[
            ("type", "tmpfs"),
            ("device", "tmpfs"),
            ("o", "size=1m,nodev"),
        ]);
        assert_eq!(
            place(Some(&tmpfs)),
            Place::Mounted {
                kind: "tmpfs".into(),
                device: "tmpfs".into(),
                flags: MountFlags::NODEV,
                data: "size=1m".into()
            }
        );
    }
}
