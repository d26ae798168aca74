//! `-p` and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_api::container::{Empty, PortBinding, PortMap, Set};

/// `80` or `80-90`
fn range(text: &str) -> Option<(u16, u16)> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (start <= end).then_some((start, end))
}

fn protocol(text: &str) -> Result<(&str, String), String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((ports, protocol)),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

/// The parts of `[address:][hostPort:]containerPort[/protocol]`.
fn parts(text: &str) -> (&str, &str, &str) {
    let Some((head, container)) = text.rsplit_once(':') else {
        return ("", "", text);
    };
    match head.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", head, container),
    }
}

/// Reads one `-p` into what is exposed and where it is published.
fn publish(text: &str, exposed: &mut Set, bindings: &mut PortMap) -> Result<(), String> {
    let (address, host, container) = parts(text);
    let (container, protocol) = protocol(container)?;
    let address = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let (start, end) =
        range(container).ok_or_else(|| format!("invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        _ => Some(range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?),
    };
    let count = end - start;
    // A range of host ports for one container port: one of them, as the daemon chooses.
    let choice = hosts.is_some_and(|(first, last)| last - first != count);
    if choice && count != 0 {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    for offset in 0..=count {
        let key = format!("{}/{protocol}", start + offset);
        exposed.insert(key.clone(), Empty {});
        let host_port = match hosts {
            None => String::new(),
            Some(_) if choice => host.to_owned(),
            Some((first, _)) => (first + offset).to_string(),
        };
        let list = bindings.entry(key).or_insert(None);
        list.get_or_insert_default().push(PortBinding {
            host_ip: address.to_owned(),
            host_port,
        });
    }
    Ok(())
}

/// `--publish`'s long form: `target=80,published=8080,protocol=tcp`.
fn short_form(text: &str) -> Result<String, String> {
    let mut fields = BTreeMap::new();
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid field {field}"))?;
        fields.insert(key, value);
    }
    let target = fields
        .get("target")
        .ok_or("missing mandatory field \"target\"")?;
    let published = fields.get("published").copied().unwrap_or_default();
    let protocol = fields.get("protocol").copied().unwrap_or("tcp");
    Ok(format!("{published}:{target}/{protocol}"))
}

/// All `-p` and `--expose` of a container.
pub(crate) fn read(published: &[String], exposes: &[String]) -> Result<(Set, PortMap), String> {
    let (mut exposed, mut bindings) = (Set::new(), PortMap::new());
    for text in published {
        let text = if text.contains('=') {
            short_form(text)?
        } else {
            text.clone()
        };
        publish(&text, &mut exposed, &mut bindings)?;
    }
    for text in exposes {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (ports, protocol) = protocol(text)?;
        let (start, end) = range(ports).ok_or_else(|| {
            format!(
                "invalid range format for --expose: {ports}, error: strconv.ParseUint: parsing \"{ports}\": invalid syntax"
            )
        })?;
        for port in start..=end {
            exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok((exposed, bindings))
}
