//! Ports as a container's configuration names them.

use super::super::record::Record;
use crate::error::{Error, Result};
use gantry_api::container::PortBinding;
use gantry_network::endpoint::PortRequest;

/// All ports that a container publishes: those that are bound, and with `-P` the others that it exposes.
pub(in crate::containers) fn wanted(record: &Record) -> Result<Vec<PortRequest>> {
    let host = &record.host_config;
    let mut all = Vec::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        for binding in bindings.iter().flatten() {
            all.push(request(port, binding)?);
        }
    }
    if host.publish_all_ports {
        let exposed = record.config.exposed_ports.iter().flatten();
        for (port, _) in exposed {
            let bound = host.port_bindings.as_ref();
            if !bound.is_some_and(|b| b.contains_key(port)) {
                all.push(request(port, &PortBinding::default())?);
            }
        }
    }
    Ok(all)
}

/// One port: `80/tcp` and where it is to be published.
pub(in crate::containers) fn request(port: &str, binding: &PortBinding) -> Result<PortRequest> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let refuse = || Error::invalid(format!("invalid port specification: \"{port}\""));
    let host_ip = match binding.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            Error::invalid(format!("invalid IP address in port binding: {text:?}"))
        })?),
    };
    let host_port = |text: &str| -> Result<u16> {
        let refused = || Error::invalid(format!("invalid port number: {text:?}"));
        text.parse().map_err(|_| refused())
    };
    let host_ports = match binding.host_port.as_str() {
        "" => (0, 0),
        text => match text.split_once('-') {
            Some((first, last)) => (host_port(first)?, host_port(last)?),
            None => (host_port(text)?, host_port(text)?),
        },
    };
    if host_ports.0 > host_ports.1 {
        return Err(refuse());
    }
    Ok(PortRequest {
        container_port: number.parse().map_err(|_| refuse())?,
        protocol: protocol.to_owned(),
        host_ip,
        host_ports,
    })
}
