//! `gantry port`, and the summary of ports that `ps` shows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::client::talk;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::format::natural;

pub(crate) const COMMAND: Command = Command {
    names: &["container port", "port"],
    about: "List port mappings or a specific mapping for the container",
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    args: Count::Between(1, 2),
    mixed: true,
    run,
};

/// A port of a container in a list.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Port {
    #[serde(rename = "IP")]
    ip: String,
    private_port: u16,
    public_port: u16,
    #[serde(rename = "Type")]
    kind: String,
}

/// `host:port`, with brackets where the host has colons.
fn join_host(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Neighbours on one address with one protocol, published at their own numbers or not at all.
#[derive(Debug)]
struct Group {
    ip: String,
    kind: String,
    first: u16,
    last: u16,
}

impl Group {
    fn text(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        let inside = format!("{ports}/{}", self.kind);
        if self.ip.is_empty() {
            return inside;
        }
        format!("{}->{inside}", join_host(&self.ip, &ports))
    }
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`.
///
/// COMPAT: as Docker's `DisplayablePorts`: neighbours make a range only where they are published at the
/// same numbers, or not at all; ranges come before the others.
pub(super) fn summary(ports: &[Port]) -> String {
    let mut sorted = ports.to_vec();
    sorted.sort_by(|a, b| {
        let key = |port: &Port| {
            (
                port.private_port,
                port.ip.clone(),
                port.public_port,
                port.kind.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let mut done: Vec<String> = Vec::new();
    let mut open: Vec<Group> = Vec::new();
    let mut moved: Vec<String> = Vec::new();
    for port in &sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let outside = join_host(&port.ip, &port.public_port.to_string());
            moved.push(format!("{outside}->{}/{}", port.private_port, port.kind));
            continue;
        }
        let group = open
            .iter_mut()
            .find(|group| group.ip == port.ip && group.kind == port.kind);
        match group {
            Some(group) if group.last.checked_add(1) == Some(port.private_port) => {
                group.last = port.private_port;
            }
            Some(group) => {
                done.push(group.text());
                (group.first, group.last) = (port.private_port, port.private_port);
            }
            None => open.push(Group {
                ip: port.ip.clone(),
                kind: port.kind.clone(),
                first: port.private_port,
                last: port.private_port,
            }),
        }
    }
    done.extend(open.iter().map(Group::text));
    done.extend(moved);
    done.join(", ")
}

fn run(cx: &Cx) -> Outcome {
    let args = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    let name = &args[0];
    talk(cx, async |client| {
        let path = format!("/containers/{}/json", crate::client::encode(name));
        let found: Json = client.get(path).json().await?;
        let ports: BTreeMap<String, Option<Vec<BTreeMap<String, String>>>> =
            serde_json::from_value(found["NetworkSettings"]["Ports"].clone()).unwrap_or_default();
        let bound = |list: &[BTreeMap<String, String>]| -> Vec<String> {
            let part =
                |of: &BTreeMap<String, String>, key| of.get(key).cloned().unwrap_or_default();
            list.iter()
                .map(|of| join_host(&part(of, "HostIp"), &part(of, "HostPort")))
                .collect()
        };
        let mut lines = Vec::new();
        if let Some(asked) = args.get(1) {
            let (number, _) = asked.split_once('/').unwrap_or((asked, ""));
            if number.parse::<u16>().is_err() {
                let why = match number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() {
                    true => "value out of range",
                    false => "invalid syntax",
                };
                return Err(Failure::new(format!(
                    "Error: invalid port ({number}): strconv.ParseUint: parsing \"{number}\": {why}"
                )));
            }
            let key = match asked.contains('/') {
                true => asked.clone(),
                false => format!("{asked}/tcp"),
            };
            let Some(Some(list)) = ports.get(&key).filter(|list| list.is_some()) else {
                return Err(Failure::new(format!(
                    "Error: No public port '{asked}' published for {name}"
                )));
            };
            lines = bound(list);
        } else {
            for (port, list) in &ports {
                let list = list.as_deref().unwrap_or_default();
                lines.extend(bound(list).iter().map(|to| format!("{port} -> {to}")));
            }
        }
        lines.sort_by(|a, b| natural(a, b));
        cx.print(
            &lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )?;
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: u16, kind: &str) -> Port {
        Port {
            ip: ip.to_owned(),
            private_port: private,
            public_port: public,
            kind: kind.to_owned(),
        }
    }

    #[test]
    fn ports_are_summed_up_as_docker_does() {
        let any = |private, public| port("0.0.0.0", private, public, "tcp");
        assert_eq!(summary(&[]), "");
        assert_eq!(summary(&[any(80, 8080)]), "0.0.0.0:8080->80/tcp");
        assert_eq!(
            summary(&[port("", 81, 0, "tcp"), port("", 80, 0, "tcp")]),
            "80-81/tcp"
        );
        assert_eq!(
            summary(&[any(80, 80), any(81, 81), any(83, 83)]),
            "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:83->83/tcp"
        );
        assert_eq!(
            summary(&[any(80, 8080), any(81, 8081)]),
            "0.0.0.0:8080->80/tcp, 0.0.0.0:8081->81/tcp"
        );
        assert_eq!(
            summary(&[port("::", 9, 9, "udp"), any(80, 81)]),
            "[::]:9->9/udp, 0.0.0.0:81->80/tcp"
        );
    }
}
