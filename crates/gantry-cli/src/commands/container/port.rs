//! `gantry port`, and the summary of ports that `ps` shows.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::client::talk;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;

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

/// A run of ports that follow each other on both sides.
#[derive(Debug)]
struct Run {
    ip: String,
    kind: String,
    first: u16,
    last: u16,
    public: u16,
}

impl Run {
    fn takes(&self, port: &Port) -> bool {
        let step = port.private_port.checked_sub(self.first);
        let public = match self.public {
            0 => port.public_port == 0,
            public => step.is_some_and(|step| public.checked_add(step) == Some(port.public_port)),
        };
        self.ip == port.ip
            && self.kind == port.kind
            && public
            && (self.last.checked_add(1) == Some(port.private_port)
                || self.last == port.private_port)
    }

    fn text(&self) -> String {
        let range = |first: u16, last: u16| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let inside = format!("{}/{}", range(self.first, self.last), self.kind);
        if self.public == 0 {
            return inside;
        }
        let outside = range(self.public, self.public + (self.last - self.first));
        format!("{}->{inside}", join_host(&self.ip, &outside))
    }
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`: published ones by address, neighbours joined to ranges.
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
    let mut runs: Vec<Run> = Vec::new();
    for port in &sorted {
        match runs.iter_mut().find(|run| run.takes(port)) {
            Some(run) => run.last = port.private_port,
            None => runs.push(Run {
                ip: port.ip.clone(),
                kind: port.kind.clone(),
                first: port.private_port,
                last: port.private_port,
                public: port.public_port,
            }),
        }
    }
    let texts: Vec<String> = runs.iter().map(Run::text).collect();
    texts.join(", ")
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
            let key = match asked.contains('/') {
                true => asked.clone(),
                false => format!("{asked}/tcp"),
            };
            let Some(Some(list)) = ports.get(&key).filter(|list| list.is_some()) else {
                return Err(Failure::new(format!(
                    "no public port '{key}' published for {name}"
                )));
            };
            lines = bound(list);
        } else {
            for (port, list) in &ports {
                let list = list.as_deref().unwrap_or_default();
                lines.extend(bound(list).iter().map(|to| format!("{port} -> {to}")));
            }
            lines.sort();
        }
        cx.print(
            &lines
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )?;
        Ok(0)
    })
}
