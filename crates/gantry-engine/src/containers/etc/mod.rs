//! `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf` of a container, as Docker writes them: anew at each start, and in place
//! when its networks change while it runs, as they are mounted into it.

pub(crate) mod host_file;
pub(crate) mod hosts;
pub(crate) mod resolv_conf;

use super::record::Record;
use crate::context::Settings;
use crate::error::{Error, Result};
use hosts::Line;
use resolv_conf::{Overrides, Place, Server};
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What resolv.conf was when we wrote it last, to tell whether the user has changed it.
const AS_WRITTEN: &str = "resolv.conf.written";

/// The three files' paths in a container's run directory.
#[derive(Debug, Clone)]
pub(super) struct EtcFiles {
    pub(super) hosts: PathBuf,
    pub(super) hostname: PathBuf,
    pub(super) resolv_conf: PathBuf,
}

/// What is not in the container's record.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// Its addresses, network by network.
    pub(super) addresses: Vec<IpAddr>,
    /// Lines for other containers that it is linked to.
    pub(super) links: Vec<Line>,
    /// What `host-gateway` stands for.
    pub(super) host_gateways: Vec<IpAddr>,
    pub(super) place: Option<Place>,
}

impl EtcFiles {
    pub(super) fn below(dir: &Path) -> Self {
        Self {
            hosts: dir.join("hosts"),
            hostname: dir.join("hostname"),
            resolv_conf: dir.join("resolv.conf"),
        }
    }
}

/// Writes the three files; with the host's network, `/etc/hosts` is a copy of the host's.
pub(super) fn write(
    dir: &Path,
    record: &Record,
    settings: &Settings,
    around: &Surroundings,
) -> Result<EtcFiles> {
    let files = EtcFiles::below(dir);
    let put = |path: &Path, text: &str| std::fs::write(path, text).map_err(|e| cannot(path, e));
    put(&files.hostname, &format!("{}\n", record.config.hostname))?;
    put(&files.hosts, &hosts_text(record, around)?)?;
    let text = resolv_conf_text(record, settings, around);
    put(&files.resolv_conf, &text)?;
    put(&dir.join(AS_WRITTEN), &text)?;
    Ok(files)
}

fn cannot(path: &Path, error: std::io::Error) -> Error {
    Error::caused(&format!("cannot write {}", path.display()), error)
}

fn hosts_text(record: &Record, around: &Surroundings) -> Result<String> {
    let extra = extra_hosts(record, &around.host_gateways)?;
    // COMPAT: with extra hosts it is no copy (moby v28.5.2, `buildHostsFile`).
    if record.network_mode() == "host" && extra.is_empty() {
        return Ok(std::fs::read_to_string("/etc/hosts").unwrap_or_default());
    }
    let lines = [
        extra,
        around.links.clone(),
        own_lines(record, &around.addresses),
    ]
    .concat();
    Ok(hosts::whole(&lines, has_v6(record)))
}

/// The lines of `--add-host`.
fn extra_hosts(record: &Record, gateways: &[IpAddr]) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in record.host_config.extra_hosts.iter().flatten() {
        let Some((name, address)) = entry.split_once([':', '=']) else {
            continue;
        };
        if address == "host-gateway" {
            if gateways.is_empty() {
                return Err(Error::system(
                    "unable to derive the IP value for host-gateway",
                ));
            }
            lines.extend(gateways.iter().map(|gateway| Line::new(*gateway, name)));
            continue;
        }
        let address = address.trim_matches(['[', ']']);
        let address = address
            .parse()
            .map_err(|_| Error::invalid(format!("could not parse extra host IP {address}")))?;
        lines.push(Line::new(address, name));
    }
    Ok(lines)
}

/// The container's own lines, one for each of its addresses.
fn own_lines(record: &Record, addresses: &[IpAddr]) -> Vec<Line> {
    let config = &record.config;
    let names = hosts::own_names(&config.hostname, &config.domainname);
    let line = |address: &IpAddr| Line::new(*address, names.clone());
    addresses.iter().map(line).collect()
}

/// Whether IPv6 is left on in the container.
fn has_v6(record: &Record) -> bool {
    let sysctls = record.host_config.sysctls.iter().flatten();
    let mut off = sysctls.filter(|(name, value)| {
        let name = name.strip_prefix("net.ipv6.conf.");
        let name = name.and_then(|n| n.strip_suffix(".disable_ipv6"));
        matches!(name, Some("all" | "lo")) && value.as_str() == "1"
    });
    off.next().is_none()
}

fn resolv_conf_text(record: &Record, settings: &Settings, around: &Surroundings) -> String {
    let place = around.place.unwrap_or(match record.network_mode() {
        "host" => Place::Host,
        _ => Place::Bridge { v6: false },
    });
    // COMPAT: with the name server the host's own file counts, even if it names a stub, as the host can ask that.
    let host = match place {
        Place::Bridge { .. } => host_file::reachable(),
        Place::Host | Place::User => host_file::own(),
    };
    host.render(&overrides(record, settings), place)
}

/// What the container, or else the daemon, puts in the place of the host's settings.
fn overrides(record: &Record, settings: &Settings) -> Overrides {
    let own = |list: &Option<Vec<String>>, default: &[String]| {
        list.clone()
            .filter(|l| !l.is_empty())
            .unwrap_or_else(|| default.to_vec())
    };
    let host = &record.host_config;
    Overrides {
        servers: own(&host.dns, &settings.dns),
        search: own(&host.dns_search, &settings.dns_search),
        options: own(&host.dns_options, &settings.dns_options),
    }
}

/// The same for the name server.
pub(super) fn choices(record: &Record, settings: &Settings) -> crate::networks::names::Choices {
    let given = overrides(record, settings);
    let servers = given.servers.iter().filter_map(|text| Server::parse(text));
    let options = &given.options;
    crate::networks::names::Choices {
        servers: servers.map(|s| s.address(53)).collect(),
        ndots: (!options.is_empty()).then(|| resolv_conf::has_option(options, "ndots")),
    }
}

/// Adds the lines of new addresses of a running container.
pub(super) fn add_addresses(dir: &Path, record: &Record, addresses: &[IpAddr]) -> Result<()> {
    let mut lines = own_lines(record, addresses);
    lines.retain(|line| line.address.is_ipv4() || has_v6(record));
    change(&dir.join("hosts"), |text| hosts::with(text, &lines))
}

/// Takes the lines of addresses away that a running container has no more.
pub(super) fn remove_addresses(dir: &Path, record: &Record, addresses: &[IpAddr]) -> Result<()> {
    let lines = own_lines(record, addresses);
    change(&dir.join("hosts"), |text| hosts::without(text, &lines))
}

/// A container that a running one is linked to has another address.
pub(super) fn move_link(dir: &Path, alias: &str, addresses: &[IpAddr]) -> Result<()> {
    change(&dir.join("hosts"), |text| {
        let moved = |text: String, to: &IpAddr| hosts::moved(&text, alias, *to);
        addresses.iter().fold(text.to_owned(), moved)
    })
}

/// Writes resolv.conf of a running container again, unless the user has changed it.
pub(super) fn renew_resolv_conf(
    dir: &Path,
    record: &Record,
    settings: &Settings,
    around: &Surroundings,
) -> Result<()> {
    let (path, copy) = (dir.join("resolv.conf"), dir.join(AS_WRITTEN));
    let read = |path: &Path| std::fs::read(path).map_err(|e| cannot(path, e));
    if read(&path)? != read(&copy)? {
        return Ok(());
    }
    let text = resolv_conf_text(record, settings, around);
    change(&path, |_| text.clone())?;
    std::fs::write(&copy, &text).map_err(|e| cannot(&copy, e))
}

/// Changes a file in its place: it is mounted, so another one of that name would not be seen.
fn change(path: &Path, how: impl FnOnce(&str) -> String) -> Result<()> {
    let work = || {
        let file = std::fs::File::options().read(true).write(true).open(path)?;
        let old = std::io::read_to_string(&file)?;
        let new = how(&old);
        if new != old {
            file.write_all_at(new.as_bytes(), 0)?;
            file.set_len(new.len() as u64)?;
        }
        Ok(())
    };
    work().map_err(|e| cannot(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_changed_in_their_place() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("hosts");
        std::fs::write(&path, "127.0.0.1\tlocalhost\n10.0.0.1\tdb\n").expect("written");
        let mounted = std::fs::File::open(&path).expect("opened");
        let to: IpAddr = [10, 0, 0, 20].into();
        move_link(dir.path(), "db", &[to]).expect("moved");
        let text = std::io::read_to_string(&mounted).expect("text");
        assert_eq!(text, "127.0.0.1\tlocalhost\n10.0.0.20\tdb\n");
        change(&path, |_| "x\n".into()).expect("changed");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "x\n");
        assert!(change(&dir.path().join("gone"), |_| String::new()).is_err());
    }
}
