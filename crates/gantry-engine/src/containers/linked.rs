//! `--link` on the default bridge: a container has another's address in its `/etc/hosts`, and its ports and variables among
//! its own variables. On users' networks links are names, see [`crate::networks::names`].
//!
//! COMPAT: names, words and order are those of moby v28.5.2: `daemon/links`, `daemon/container_operations_unix.go`,
//! `daemon/daemon_unix.go` (`registerLinks`).

use super::etc::hosts::Line;
use super::networking::naming::addresses;
use super::record::{LinkRecord, Record};
use super::{Container, Containers, etc};
use crate::error::{Error, Result};
use gantry_api::container::HostConfig;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A link as a container sees it.
#[derive(Debug)]
struct Linked {
    /// `/web/db`
    path: String,
    alias: String,
    container: Option<Arc<Container>>,
    /// The other's name when the link was made.
    name: String,
}

/// A link with what it leads to, which runs.
#[derive(Debug)]
struct Target {
    link: Linked,
    record: Record,
    /// On the default bridge.
    addresses: Vec<IpAddr>,
}

impl Containers {
    /// The containers that a request links to. On networks of users, links are not made here.
    pub(super) fn resolve_links(&self, host_config: &HostConfig) -> Result<Vec<LinkRecord>> {
        let given: Vec<&String> = host_config.links.iter().flatten().collect();
        let mode = host_config.network_mode.as_str();
        refuse_links(mode, given.is_empty())?;
        if is_of_users(mode) {
            return Ok(Vec::new());
        }
        let mut links: Vec<LinkRecord> = Vec::new();
        for text in given {
            let (name, alias) = parse(text)?;
            let child = self.link_target(name)?;
            // COMPAT: the first of two with one alias is kept.
            if !links.iter().any(|link| link.alias == alias) {
                let record = child.record();
                links.push(LinkRecord {
                    alias: alias.to_owned(),
                    container: record.id.clone(),
                    name: record.name.clone(),
                });
            }
        }
        Ok(links)
    }

    /// The container of that name, or the one whose network it shares.
    fn link_target(&self, name: &str) -> Result<Arc<Container>> {
        let find = |name: &str| {
            // Not "not found", which clients take for the image.
            self.find(name).map_err(|e| {
                Error::invalid(format!("could not get container for {name}: {}", e.message))
            })
        };
        let mut child = find(name)?;
        loop {
            let mode = child.record().host_config.network_mode.clone();
            match mode.strip_prefix("container:") {
                Some(other) => child = find(other)?,
                None if mode == "host" => {
                    refuse_links("host", false)?;
                    return Ok(child);
                }
                None => return Ok(child),
            }
        }
    }

    fn links_of(&self, record: &Record) -> Vec<Linked> {
        let mut links: Vec<Linked> = record
            .links
            .iter()
            .map(|link| Linked {
                path: format!("/{}/{}", record.name, link.alias),
                alias: link.alias.clone(),
                container: self.table().by_id.get(&link.container).cloned(),
                name: link.name.clone(),
            })
            .collect();
        links.sort_by(|a, b| a.path.cmp(&b.path));
        links
    }

    /// The variables that links bring, for a start; all that is linked to must run.
    pub(super) fn link_environment(&self, record: &Record) -> Result<Vec<String>> {
        let links: Result<Vec<Target>> = self.targets(record).collect();
        Ok(links?.iter().flat_map(environment).collect())
    }

    /// The same for an exec. COMPAT: what runs no more is left out; Docker refuses the exec then.
    pub(super) fn link_environment_now(&self, record: &Record) -> Vec<String> {
        let running = self.targets(record).filter_map(Result::ok);
        running.flat_map(|target| environment(&target)).collect()
    }

    /// The lines of `/etc/hosts` that links bring: alias, host name, and name where that is another one.
    pub(super) fn link_lines(&self, record: &Record) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        for target in self.targets(record) {
            let Target {
                link,
                record,
                addresses,
            } = target?;
            let mut names = format!("{} {}", link.alias, record.config.hostname);
            if link.alias != record.name {
                names = format!("{names} {}", record.name);
            }
            lines.extend(addresses.iter().map(|a| Line::new(*a, names.clone())));
        }
        Ok(lines)
    }

    /// What links lead to.
    fn targets(&self, record: &Record) -> impl Iterator<Item = Result<Target>> {
        let links = match record.network_mode() {
            "bridge" => self.links_of(record),
            _ => Vec::new(),
        };
        links.into_iter().map(|link| self.target(link))
    }

    fn target(&self, link: Linked) -> Result<Target> {
        let child = link.container.as_ref().map(|c| c.snapshot());
        let name = child.as_ref().map_or(&link.name, |c| &c.name).clone();
        let Some(record) = child.filter(|c| c.state.status.is_alive()) else {
            return Err(Error::system(format!(
                "Cannot link to a non running container: /{name} AS {}",
                link.path
            )));
        };
        let addresses = self.addresses_on_bridge(&record);
        if addresses.is_empty() {
            return Err(Error::system(format!(
                "Cannot link to /{name}, as it does not belong to the default network"
            )));
        }
        Ok(Target {
            link,
            record,
            addresses,
        })
    }

    /// The links as inspect shows them: `/db:/web/store`.
    pub(super) fn shown_links(&self, record: &Record) -> Option<Vec<String>> {
        let show = |link: Linked| {
            let child = link.container.map(|c| c.record().name.clone());
            format!("/{}:{}", child.unwrap_or(link.name), link.path)
        };
        let all: Vec<String> = self.links_of(record).into_iter().map(show).collect();
        (!all.is_empty()).then_some(all)
    }

    /// The names that containers have by others' links, by their IDs: `/web/store`.
    pub(super) fn names_by_links(&self) -> HashMap<String, Vec<String>> {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        for container in self.all() {
            let record = container.record();
            for link in &record.links {
                let path = format!("/{}/{}", record.name, link.alias);
                names.entry(link.container.clone()).or_default().push(path);
            }
        }
        names.values_mut().for_each(|list| list.sort());
        names
    }

    /// The container that a link's name (`web/store`) leads to.
    pub(super) fn find_by_link(&self, text: &str) -> Option<Arc<Container>> {
        let (parent, alias) = text.rsplit_once('/')?;
        let parent = {
            let table = self.table();
            table.by_id.get(table.by_name.get(parent)?)?.clone()
        };
        let child = {
            let record = parent.record();
            let link = record.links.iter().find(|link| link.alias == alias)?;
            link.container.clone()
        };
        self.table().by_id.get(&child).cloned()
    }

    /// Removes a link, not the container that it leads to. The linking container keeps what it has of it until its next
    /// start.
    pub fn remove_link(&self, name: &str) -> Result<()> {
        self.find(name)?;
        let path = name.strip_prefix('/').unwrap_or(name);
        let Some((parent, alias)) = path.rsplit_once('/') else {
            // COMPAT: 500, as Docker has it.
            return Err(Error::system(
                "Conflict, cannot remove the default link name of the container",
            ));
        };
        let parent = self.find(parent).map_err(|_| {
            Error::system(format!("Cannot get parent /{parent} for link name {name}"))
        })?;
        let record = {
            let mut record = parent.record();
            record.links.retain(|link| link.alias != alias);
            record.clone()
        };
        self.save(&record)
    }

    /// Tells the containers that are linked to this one its address: it has just been started.
    pub(super) fn tell_linking(&self, record: &Record) {
        let addresses = self.addresses_on_bridge(record);
        if addresses.is_empty() {
            return;
        }
        for parent in self.all() {
            let aliases: Vec<String> = {
                let parent = parent.record();
                if parent.links.is_empty() || !parent.state.status.is_alive() {
                    continue;
                }
                let links = parent.links.iter();
                let to_it = links.filter(|link| link.container == record.id);
                to_it.map(|link| link.alias.clone()).collect()
            };
            for alias in aliases {
                let dir = self.context.run_dir(&parent.id);
                if let Err(error) = etc::move_link(&dir, &alias, &addresses) {
                    tracing::warn!(container = %parent.id, %error, "cannot tell a linking container the new address");
                }
            }
        }
    }

    /// The addresses of a container on the default bridge.
    fn addresses_on_bridge(&self, record: &Record) -> Vec<IpAddr> {
        let bridge = self.context.networks.bridge().ok();
        let endpoint = bridge.and_then(|bridge| record.endpoint_on(&bridge.id));
        endpoint.into_iter().flat_map(addresses).collect()
    }
}

/// Whether a network mode is a network of a user's.
fn is_of_users(mode: &str) -> bool {
    !mode.is_empty() && !mode.starts_with("container:") && !crate::networks::is_predefined(mode)
}

/// Docker's words for links in a network mode that has none.
fn refuse_links(mode: &str, none: bool) -> Result<()> {
    let kind = match mode {
        _ if none => return Ok(()),
        "host" => "host type networking",
        mode if mode.starts_with("container:") => "container type network",
        _ => return Ok(()),
    };
    Err(Error::invalid(format!(
        "conflicting options: {kind} can't be used with links. This would result in undefined behavior"
    )))
}

/// `db`, `db:store`, and as inspect shows it: `/db:/web/store`.
pub(super) fn parse(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(Error::system("empty string specified for links"));
    }
    let Some((name, alias)) = text.split_once(':') else {
        return Ok((text, text));
    };
    if alias.contains(':') {
        return Err(Error::system(format!("bad format for links: {text}")));
    }
    match name.strip_prefix('/') {
        Some(name) => Ok((name, alias.rsplit('/').next().unwrap_or(alias))),
        None => Ok((name, alias)),
    }
}

/// The variables of one link.
fn environment(target: &Target) -> Vec<String> {
    let (child, path) = (&target.record, &target.link.path);
    let v4 = target.addresses.iter().find(|a| a.is_ipv4());
    let address = &v4.map(ToString::to_string).unwrap_or_default();
    let alias = target.link.alias.to_uppercase().replace('-', "_");
    let exposed = child.config.exposed_ports.iter().flatten();
    let mut all = port_variables(&alias, exposed.map(|(port, _)| port.as_str()), address);
    all.push(format!("{alias}_NAME={path}"));
    for variable in child.config.env.iter().flatten() {
        match variable.split_once('=') {
            Some(("HOME" | "PATH", _)) | None => {}
            Some((name, value)) => all.push(format!("{alias}_ENV_{name}={value}")),
        }
    }
    all
}

/// A port of a link's other end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    /// TCP comes first.
    not_tcp: bool,
    protocol: String,
    number: u16,
}

impl Port {
    fn parse(text: &str) -> Option<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.to_lowercase();
        Some(Self {
            not_tcp: protocol != "tcp",
            number: number.parse().ok()?,
            protocol,
        })
    }

    fn prefix(&self, alias: &str) -> String {
        format!(
            "{alias}_PORT_{}_{}",
            self.number,
            self.protocol.to_uppercase()
        )
    }

    fn url(&self, address: &str) -> String {
        format!("{}://{address}:{}", self.protocol, self.number)
    }
}

fn port_variables<'p>(
    alias: &str,
    ports: impl Iterator<Item = &'p str>,
    address: &str,
) -> Vec<String> {
    let mut ports: Vec<Port> = ports.filter_map(Port::parse).collect();
    ports.sort();
    let mut all = Vec::new();
    if let Some(first) = ports.first() {
        all.push(format!("{alias}_PORT={}", first.url(address)));
    }
    let follows =
        |a: &Port, b: &Port| a.protocol == b.protocol && a.number.checked_add(1) == Some(b.number);
    for range in ports.chunk_by(follows) {
        for port in range {
            let prefix = port.prefix(alias);
            all.extend([
                format!("{prefix}={}", port.url(address)),
                format!("{prefix}_ADDR={address}"),
                format!("{prefix}_PORT={}", port.number),
                format!("{prefix}_PROTO={}", port.protocol),
            ]);
        }
        if let [first, .., last] = range {
            let prefix = first.prefix(alias);
            all.extend([
                format!("{prefix}_START={}", first.url(address)),
                format!("{prefix}_PORT_START={}", first.number),
                format!("{prefix}_END={}", last.url(address)),
                format!("{prefix}_PORT_END={}", last.number),
            ]);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_link() {
        assert_eq!(parse("db").expect("link"), ("db", "db"));
        assert_eq!(parse("db:store").expect("link"), ("db", "store"));
        assert_eq!(parse("/db:/web/store").expect("link"), ("db", "store"));
        let words = |text| parse(text).expect_err("refused").message;
        assert_eq!(words("a:b:c"), "bad format for links: a:b:c");
        assert_eq!(words(""), "empty string specified for links");
    }

    #[test]
    fn links_have_their_networks() {
        assert!(refuse_links("bridge", false).is_ok());
        assert!(refuse_links("host", true).is_ok());
        let words = |mode| refuse_links(mode, false).expect_err("refused").message;
        assert!(words("host").starts_with("conflicting options: host type networking can't"));
        assert!(
            words("container:x").starts_with("conflicting options: container type network can't")
        );
    }

    /// As moby's own test expects it (v28.5.2, `daemon/links/links_test.go`).
    #[test]
    fn variables_of_ports() {
        let ports = ["6379/udp", "6379/tcp", "6380/tcp", "6381/tcp"];
        let all = port_variables("DOCKER", ports.into_iter(), "172.0.17.2");
        let expected = "DOCKER_PORT=tcp://172.0.17.2:6379
DOCKER_PORT_6379_TCP=tcp://172.0.17.2:6379
DOCKER_PORT_6379_TCP_ADDR=172.0.17.2
DOCKER_PORT_6379_TCP_PORT=6379
DOCKER_PORT_6379_TCP_PROTO=tcp
DOCKER_PORT_6380_TCP=tcp://172.0.17.2:6380
DOCKER_PORT_6380_TCP_ADDR=172.0.17.2
DOCKER_PORT_6380_TCP_PORT=6380
DOCKER_PORT_6380_TCP_PROTO=tcp
DOCKER_PORT_6381_TCP=tcp://172.0.17.2:6381
DOCKER_PORT_6381_TCP_ADDR=172.0.17.2
DOCKER_PORT_6381_TCP_PORT=6381
DOCKER_PORT_6381_TCP_PROTO=tcp
DOCKER_PORT_6379_TCP_START=tcp://172.0.17.2:6379
DOCKER_PORT_6379_TCP_PORT_START=6379
DOCKER_PORT_6379_TCP_END=tcp://172.0.17.2:6381
DOCKER_PORT_6379_TCP_PORT_END=6381
DOCKER_PORT_6379_UDP=udp://172.0.17.2:6379
DOCKER_PORT_6379_UDP_ADDR=172.0.17.2
DOCKER_PORT_6379_UDP_PORT=6379
DOCKER_PORT_6379_UDP_PROTO=udp";
        assert_eq!(all.join("\n"), expected);
        assert!(port_variables("X", [].into_iter(), "172.0.17.2").is_empty());
    }
}
