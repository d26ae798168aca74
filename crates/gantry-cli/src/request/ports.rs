//! `-p` and `--expose`.
//!
//! COMPAT: what is taken and what is said is that of go-connections 0.6 (`nat`), which Docker's client 28.5 has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_api::container::{Empty, PortBinding, PortMap, Set};

/// A port as Go reads one: digits only.
fn number(text: &str) -> Result<u16, String> {
    let wrong = |why| format!("strconv.ParseUint: parsing \"{text}\": {why}");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong("invalid syntax"));
    }
    text.parse().map_err(|_| wrong("value out of range"))
}

/// `80` or `80-90`
fn range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    // COMPAT: of `80-81-82` the rest is not looked at.
    let mut parts = text.split('-');
    let start = number(parts.next().unwrap_or_default())?;
    let end = parts.next().map_or(Ok(start), number)?;
    if end < start {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((start, end))
}

/// Ports and protocol; neither where there is no port.
fn protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some(("", _)) => ("", ""),
        Some((ports, "")) => (ports, "tcp"),
        Some(parts) => parts,
        None if text.is_empty() => ("", ""),
        None => (text, "tcp"),
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

/// An address, of version 6 with or without brackets.
fn address(text: &str) -> Result<&str, String> {
    let bare = match text.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(|| {
            format!("invalid IP address {text}: address {text}:: missing ']' in address")
        })?,
        None => text,
    };
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {bare}"));
    }
    Ok(bare)
}

/// Reads one `-p` into what is exposed and where it is published.
fn publish(text: &str, exposed: &mut Set, bindings: &mut PortMap) -> Result<(), String> {
    let (outside, host, container) = parts(text);
    let (container, protocol) = protocol(container);
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let address = address(outside)?;
    let (start, end) =
        range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        _ => Some(range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
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
            Some((first, last)) if choice => format!("{first}-{last}"),
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
        let pair = field.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| {
            format!("invalid publish opts format (should be name=value but got '{field}')")
        })?;
        fields.insert(key, value);
    }
    let of = |key| fields.get(key).copied();
    Ok(format!(
        "{}:{}/{}",
        of("published").unwrap_or_default(),
        of("target").unwrap_or_default(),
        of("protocol").unwrap_or("tcp")
    ))
}

/// All `-p` of a container: what is exposed, and where it is published.
pub(crate) fn published(texts: &[String]) -> Result<(Set, PortMap), String> {
    let (mut exposed, mut bindings) = (Set::new(), PortMap::new());
    for text in texts {
        match text.contains('=') {
            true => publish(&short_form(text)?, &mut exposed, &mut bindings)?,
            false => publish(text, &mut exposed, &mut bindings)?,
        }
    }
    Ok((exposed, bindings))
}

/// All `-p` and `--expose` of a container.
pub(crate) fn read(texts: &[String], exposes: &[String]) -> Result<(Set, PortMap), String> {
    let (mut exposed, bindings) = published(texts)?;
    for text in exposes {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (ports, protocol) = protocol(text);
        let (start, end) = range(ports)
            .map_err(|why| format!("invalid range format for --expose: {text}, error: {why}"))?;
        for port in start..=end {
            exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok((exposed, bindings))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `key host-address host-port` of each binding.
    fn lines(text: &str) -> Result<Vec<String>, String> {
        let (exposed, bindings) = published(&[text.to_owned()])?;
        assert_eq!(
            exposed.keys().collect::<Vec<_>>(),
            bindings.keys().collect::<Vec<_>>()
        );
        let line =
            |key: &String, to: &PortBinding| format!("{key} {} {}", to.host_ip, to.host_port);
        Ok(bindings
            .iter()
            .flat_map(|(key, list)| list.iter().flatten().map(move |to| line(key, to)))
            .collect())
    }

    #[test]
    fn a_port_is_published_in_every_form() {
        for (text, expected) in [
            ("80", "80/tcp  "),
            ("8080:80/UDP", "80/udp  8080"),
            ("80/", "80/tcp  "),
            ("1.2.3.4::80/sctp", "80/sctp 1.2.3.4 "),
            ("1.2.3.4:8000-8009:80", "80/tcp 1.2.3.4 8000-8009"),
            ("[::1]:8080:80", "80/tcp ::1 8080"),
            ("::1:8080:80", "80/tcp ::1 8080"),
            ("[]:8080:80", "80/tcp  8080"),
            ("::80", "80/tcp  "),
            ("target=80", "80/tcp  "),
            ("published=8080,target=80,protocol=sctp", "80/sctp  8080"),
            (
                "target=80,published=127.0.0.1:8080",
                "80/tcp 127.0.0.1 8080",
            ),
            ("target=80,mode=host", "80/tcp  "),
            ("008080:080", "80/tcp  8080"),
        ] {
            assert_eq!(lines(text).unwrap(), [expected], "{text}");
        }
        assert_eq!(
            lines("[::]:7000-7001:80-81/udp").unwrap(),
            ["80/udp :: 7000", "81/udp :: 7001"]
        );
        assert_eq!(lines("80-81-99").unwrap(), ["80/tcp  ", "81/tcp  "]);
    }

    #[test]
    fn what_is_no_port_is_told_in_dockers_words() {
        for (text, expected) in [
            ("", "invalid proto: "),
            ("/tcp", "invalid proto: "),
            ("published=8080", "invalid proto: "),
            ("80/icmp", "invalid proto: icmp"),
            ("80/tcp/udp", "invalid proto: tcp/udp"),
            ("+80", "invalid containerPort: +80"),
            ("65536", "invalid containerPort: 65536"),
            ("81-80", "invalid containerPort: 81-80"),
            (" 80:80", "invalid hostPort:  80"),
            ("127.0.0.1:80", "invalid hostPort: 127.0.0.1"),
            ("localhost:80:80", "invalid IP address: localhost"),
            ("fe80::1%eth0:80:80", "invalid IP address: fe80::1%eth0"),
            (
                "[::1:80:80",
                "invalid IP address [::1: address [::1:: missing ']' in address",
            ),
            (
                "80:80-81",
                "invalid ranges specified for container and host Ports: 80-81 and 80",
            ),
            (
                "target=80,published",
                "invalid publish opts format (should be name=value but got 'published')",
            ),
        ] {
            assert_eq!(lines(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn exposed_ports_are_less_looked_at() {
        let keys = |text: &str| {
            let (exposed, _) = read(&[], &[text.to_owned()])?;
            Ok::<_, String>(exposed.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(keys("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert_eq!(keys("80/foo").unwrap(), ["80/foo"]);
        assert_eq!(
            keys("").unwrap_err(),
            "invalid range format for --expose: , error: empty string specified for ports"
        );
        assert_eq!(
            keys("83-81").unwrap_err(),
            "invalid range format for --expose: 83-81, error: invalid range specified for port: 83-81"
        );
        assert_eq!(
            keys("80-").unwrap_err(),
            "invalid range format for --expose: 80-, error: strconv.ParseUint: parsing \"\": invalid syntax"
        );
    }
}
