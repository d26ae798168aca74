//! The host as a router between its networks.
use crate::error::NetworkError;
use crate::network::Network;
use ipnet::IpNet;
use std::io;
use std::path::{Path, PathBuf};

const V4: &str = "/proc/sys/net/ipv4/ip_forward";
const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const LINKS_V6: &str = "/proc/sys/net/ipv6/conf";
/// Values of `accept_ra`: no, unless the link forwards, always.
const NEVER: &str = "0";
const AS_HOST: &str = "1";
const ALWAYS: &str = "2";

/// Makes the host forward packets of the network's families; a host that does already is left as it is.
// COMPAT: Docker, when it switches forwarding on, also sets the policy of iptables' FORWARD chain to drop. Chains that
// are not ours are not touched, and our own guards the way into our bridges only.
pub(super) fn forward(network: &Network) -> Result<(), NetworkError> {
    for subnet in &network.subnets {
        let path = match subnet.net {
            IpNet::V4(_) => V4,
            IpNet::V6(_) => V6,
        };
        let current = std::fs::read_to_string(path)
            .map_err(NetworkError::kernel(format!("reading {path}")))?;
        if current.trim() != "0" {
            continue;
        }
        if path == V6 {
            keep_advertised_routes()?;
        }
        write(Path::new(path), "1")?;
        tracing::warn!(
            network = network.name,
            path,
            "the host forwards packets from now on, also between links that are no networks of containers: if it has \
             several, say in its own firewall what may pass"
        );
    }
    Ok(())
}

/// A host that forwards IPv6 no longer listens to routers, and loses the routes that it has from them when their time is
/// over: links that do listen go on.
// COMPAT: Docker leaves that to the machine's owner.
fn keep_advertised_routes() -> Result<(), NetworkError> {
    let what = || NetworkError::kernel::<io::Error>(format!("reading {LINKS_V6}"));
    for link in std::fs::read_dir(LINKS_V6).map_err(|e| what()(e))? {
        let link = link.map_err(|e| what()(e))?;
        let name = link.file_name();
        if ["all", "default", "lo"].iter().any(|n| name == *n) {
            continue;
        }
        let path = link.path().join("accept_ra");
        // The link may have gone meanwhile.
        let listens = std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == AS_HOST);
        if listens && path.exists() {
            write(&path, ALWAYS)?;
            tracing::info!(path = %path.display(), "routers are listened to although the host forwards");
        }
    }
    Ok(())
}

/// No container is a router of the host's. A kernel without IPv6 has no such file.
pub(super) fn ignore_advertisements(bridge: &str) -> Result<(), NetworkError> {
    let path: PathBuf = [LINKS_V6, bridge, "accept_ra"].iter().collect();
    match path.exists() {
        true => write(&path, NEVER),
        false => Ok(()),
    }
}

fn write(path: &Path, value: &str) -> Result<(), NetworkError> {
    let what = format!("writing {value} to {}", path.display());
    std::fs::write(path, value).map_err(NetworkError::kernel(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_host::{ip, on_a_host};

    #[test]
    fn a_host_that_begins_to_forward_ipv6_goes_on_listening_to_routers() {
        on_a_host(|| {
            for name in ["uplink", "deaf", "br0"] {
                ip(&format!("link add {name} type bridge"));
            }
            let file = |name: &str| PathBuf::from(format!("{LINKS_V6}/{name}/accept_ra"));
            write(&file("uplink"), AS_HOST).unwrap();
            write(&file("deaf"), NEVER).unwrap();
            ignore_advertisements("br0").unwrap();
            keep_advertised_routes().unwrap();
            let reads = |name: &str| std::fs::read_to_string(file(name)).unwrap();
            assert_eq!(reads("uplink").trim(), ALWAYS);
            assert_eq!(reads("deaf").trim(), NEVER);
            assert_eq!(reads("br0").trim(), NEVER);
        });
    }
}
