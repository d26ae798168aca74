//! `gantry network connect`

use gantry_api::container::{EndpointIpam, EndpointSettings, Map};
use gantry_api::network::ConnectNetwork;

use crate::client::{encode, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, Strings, flags};
use crate::request::LinkRule;

pub(crate) const COMMAND: Command = Command {
    names: &["network connect"],
    about: "Connect a container to a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    args: Count::Exactly(2),
    mixed: true,
    run,
};

flags! {
    struct ConnectFlags {
        /// Add network-scoped alias for the container
        alias: Strings = "alias";
        /// driver options for the network
        driver_opt: Strings = "driver-opt";
        /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
        gw_priority: i64 = "gw-priority";
        /// IPv4 address (e.g., "172.30.100.104")
        ip: String = "ip";
        /// IPv6 address (e.g., "2001:db8::33")
        ip6: String = "ip6";
        /// Add link to another container
        link: Checked<LinkRule> = "link";
        /// Add a link-local address for the container
        link_local_ip: Strings = "link-local-ip";
    }
}

fn options(texts: &[String]) -> Result<Map, Failure> {
    let mut options = Map::new();
    for text in texts {
        let pair = text.split_once('=').map(|(k, v)| (k.trim(), v.trim()));
        let Some((key, value)) = pair.filter(|(key, _)| !key.is_empty()) else {
            let text = "invalid key/value pair format in driver options";
            return Err(Failure::new(text));
        };
        options.insert(key.to_owned(), value.to_owned());
    }
    Ok(options)
}

fn list(items: Vec<String>) -> Option<Vec<String>> {
    (!items.is_empty()).then_some(items)
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = ConnectFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let [network, container] = &args[..] else {
        return Err(Failure::new("a network and a container are needed"));
    };
    let body = ConnectNetwork {
        container: container.clone(),
        endpoint_config: Some(EndpointSettings {
            ipam_config: Some(EndpointIpam {
                ipv4_address: flags.ip,
                ipv6_address: flags.ip6,
                link_local_ips: list(flags.link_local_ip.0),
            }),
            links: list(flags.link.items),
            aliases: Some(flags.alias.0),
            driver_opts: Some(options(&flags.driver_opt.0)?),
            gw_priority: flags.gw_priority,
            ..EndpointSettings::default()
        }),
    };
    talk(cx, async |client| {
        let path = format!("/networks/{}/connect", encode(network));
        client.post(path).body(&body)?.done().await?;
        Ok(0)
    })
}
