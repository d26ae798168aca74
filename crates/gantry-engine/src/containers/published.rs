//! What a container publishes, changed after it was made: `update --publish-add`, `--publish-rm`.

use crate::error::{Error, Result};
use gantry_api::container::{ContainerConfig, Empty, HostConfig, PortBinding, PortMap};

/// A port that is published now: `80/tcp` and its number on the host.
pub(super) type Live = (String, u16);

/// Takes ports out of what the container asks for, then adds some. In `gone` an empty address or host port stands for any;
/// `live` are the ports it has now, by which those are found whose numbers were chosen for it.
pub(super) fn change(
    config: &mut ContainerConfig,
    host: &mut HostConfig,
    come: &PortMap,
    gone: &PortMap,
    live: &[Live],
) -> Result<()> {
    let mode = &host.network_mode;
    let none_of_its_own =
        matches!(mode.as_str(), "host" | "none") || mode.starts_with("container:");
    if none_of_its_own && !come.is_empty() {
        return Err(Error::conflict(format!(
            "conflicting options: port publishing and the network mode {mode}"
        )));
    }
    for (port, bindings) in gone {
        for binding in bindings.iter().flatten() {
            take(config, host, port, binding, live)?;
        }
    }
    for (port, bindings) in come {
        let exposed = config.exposed_ports.get_or_insert_default();
        exposed.insert(port.clone(), Empty {});
        let all = host.port_bindings.get_or_insert_default();
        let own = all.entry(port.clone()).or_default().get_or_insert_default();
        for binding in bindings.iter().flatten() {
            let chosen = binding.host_port.is_empty();
            if !chosen && own.contains(binding) {
                return Err(Error::conflict(format!(
                    "{} is published already",
                    text(port, binding)
                )));
            }
            own.push(binding.clone());
        }
    }
    super::validate::ports(host)
}

/// Takes away all bindings of `port` that fit; there must be one.
fn take(
    config: &ContainerConfig,
    host: &mut HostConfig,
    port: &str,
    asked: &PortBinding,
    live: &[Live],
) -> Result<()> {
    let all = host.port_bindings.get_or_insert_default();
    let own = all.entry(port.to_owned()).or_default();
    let own = own.get_or_insert_default();
    let before = own.len();
    own.retain(|binding| !is_meant(asked, binding));
    if own.len() == before
        && let Some(at) = chosen(own, asked, port, live)
    {
        own.remove(at);
    }
    let changed = own.len() != before;
    if own.is_empty() {
        all.remove(port);
    }
    if changed {
        return Ok(());
    }
    let exposed = config.exposed_ports.iter().flatten();
    let by_all = host.publish_all_ports
        && !all.contains_key(port)
        && exposed.into_iter().any(|(exposed, _)| exposed == port);
    Err(match by_all {
        true => Error::conflict(format!(
            "port {port} is published with all exposed ports (--publish-all), it cannot be taken away alone"
        )),
        false => Error::invalid(format!(
            "the container does not publish {}",
            text(port, asked)
        )),
    })
}

fn has_address(asked: &PortBinding, own: &PortBinding) -> bool {
    asked.host_ip.is_empty() || asked.host_ip == own.host_ip
}

/// Whether a binding of the container's is meant, as it was asked for.
fn is_meant(asked: &PortBinding, own: &PortBinding) -> bool {
    let port = &asked.host_port;
    has_address(asked, own) && (port.is_empty() || *port == own.host_port)
}

/// The one of its bindings whose number was chosen and is the one that is meant: of a range, else of all ports.
fn chosen(own: &[PortBinding], asked: &PortBinding, port: &str, live: &[Live]) -> Option<usize> {
    let number: u16 = asked.host_port.parse().ok()?;
    if !live.iter().any(|(at, host)| at == port && *host == number) {
        return None;
    }
    let in_range = |text: &str| {
        text.split_once('-').is_some_and(|(first, last)| {
            first.parse().is_ok_and(|first: u16| first <= number)
                && last.parse().is_ok_and(|last: u16| number <= last)
        })
    };
    let with = |test: &dyn Fn(&str) -> bool| {
        own.iter()
            .position(|own| has_address(asked, own) && test(&own.host_port))
    };
    with(&in_range).or_else(|| with(&|text| matches!(text, "" | "0")))
}

/// As one writes it: `127.0.0.1:8080:80/tcp`.
fn text(port: &str, binding: &PortBinding) -> String {
    let host = match binding.host_ip.as_str() {
        "" => String::new(),
        address if address.contains(':') => format!("[{address}]:"),
        address => format!("{address}:"),
    };
    match (host.is_empty(), binding.host_port.is_empty()) {
        (true, true) => port.to_owned(),
        _ => format!("{host}{}:{port}", binding.host_port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn map(list: &[(&str, &str, &str)]) -> PortMap {
        let mut map = PortMap::new();
        for (port, host_ip, host_port) in list {
            let own = map.entry((*port).to_owned()).or_default();
            own.get_or_insert_default().push(PortBinding {
                host_ip: (*host_ip).to_owned(),
                host_port: (*host_port).to_owned(),
            });
        }
        map
    }

    fn container(bindings: &[(&str, &str, &str)]) -> (ContainerConfig, HostConfig) {
        let host = HostConfig {
            port_bindings: Some(map(bindings)),
            ..HostConfig::default()
        };
        (ContainerConfig::default(), host)
    }

    fn left(host: &HostConfig) -> Vec<String> {
        let all = host.port_bindings.iter().flatten();
        all.flat_map(|(port, own)| own.iter().flatten().map(move |at| text(port, at)))
            .collect()
    }

    #[test]
    fn ports_come_and_go() {
        let own = [("80/tcp", "", "8080"), ("80/tcp", "127.0.0.1", "8081")];
        let (mut config, mut host) = container(&own);
        let none = PortMap::new();
        let mut update = |come: &PortMap, gone: &PortMap| {
            change(&mut config, &mut host, come, gone, &[]).map(|()| left(&host))
        };
        update(&map(&[("90/udp", "", "9090")]), &none).unwrap();
        assert_eq!(
            update(&none, &map(&[("80/tcp", "", "8080")])).unwrap(),
            ["127.0.0.1:8081:80/tcp", "9090:90/udp"]
        );
        let gone = map(&[("80/tcp", "", "")]);
        assert_eq!(update(&none, &gone).unwrap(), ["9090:90/udp"]);
        let swap = map(&[("90/udp", "", "9090")]);
        assert_eq!(update(&swap, &swap).unwrap(), ["9090:90/udp"]);
        let error = update(&swap, &none).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert_eq!(error.message, "9090:90/udp is published already");
        assert!(config.exposed_ports.unwrap().contains_key("90/udp"));
    }

    #[test]
    fn a_port_whose_number_was_chosen_is_found_by_it() {
        let own = [("80/tcp", "", ""), ("80/tcp", "", "7000-7009")];
        let live = [("80/tcp".to_owned(), 32768), ("80/tcp".to_owned(), 7003)];
        let (mut config, mut host) = container(&own);
        let mut take = |host_ip: &str, number: &str| {
            let gone = map(&[("80/tcp", host_ip, number)]);
            change(&mut config, &mut host, &PortMap::new(), &gone, &live).map(|()| left(&host))
        };
        assert_eq!(take("", "7003").unwrap(), ["80/tcp"]);
        assert_eq!(
            take("::1", "32768").unwrap_err().message,
            "the container does not publish [::1]:32768:80/tcp"
        );
        assert!(take("", "32769").is_err());
        assert_eq!(take("", "32768").unwrap(), [""; 0]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let none = PortMap::new();
        let some = map(&[("80/tcp", "", "80")]);
        let (mut config, mut host) = container(&[]);
        host.network_mode = "host".to_owned();
        let error = change(&mut config, &mut host, &some, &none, &[]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        let (_, mut host) = container(&[]);
        host.publish_all_ports = true;
        config.exposed_ports = Some([("80/tcp".to_owned(), Empty {})].into());
        let error = change(&mut config, &mut host, &none, &some, &[]).unwrap_err();
        assert!(error.message.contains("--publish-all"), "{error}");
        let wrong = map(&[("x/tcp", "", "80")]);
        let error = change(&mut config, &mut host, &wrong, &none, &[]).unwrap_err();
        assert_eq!(error.message, "invalid port specification: \"x\"");
    }
}
