//! `gantry network create`

use gantry_api::container::Map;
use gantry_api::network::{ConfigReference, CreateNetwork, NetworkCreated};

use super::subnets::{Asked, ipam};
use crate::client::talk;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, Strings, flags};
use crate::request::{DriverOption, Label};

pub(crate) const COMMAND: Command = Command {
    names: &["network create"],
    about: "Create a network",
    usage: "[OPTIONS] NETWORK",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct CreateFlags {
        /// Enable manual container attachment
        attachable: bool = "attachable";
        /// Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])
        aux_address: Checked<DriverOption> = "aux-address";
        /// The network from which to copy the configuration
        config_from: String = "config-from";
        /// Create a configuration only network
        config_only: bool = "config-only";
        /// Driver to manage the Network
        driver: String = "driver" short "d" default "bridge";
        /// IPv4 or IPv6 Gateway for the master subnet
        gateway: Strings = "gateway";
        /// Create swarm routing-mesh network
        ingress: bool = "ingress";
        /// Restrict external access to the network
        internal: bool = "internal";
        /// Allocate container ip from a sub-range
        ip_range: Strings = "ip-range";
        /// IP Address Management Driver
        ipam_driver: String = "ipam-driver" default "default";
        /// Set IPAM driver specific options (default map[])
        ipam_opt: Checked<DriverOption> = "ipam-opt";
        /// Enable or disable IPv4 address assignment (default true)
        ipv4: Option<bool> = "ipv4";
        /// Enable or disable IPv6 address assignment
        ipv6: Option<bool> = "ipv6";
        /// Set metadata on a network
        label: Checked<Label> = "label";
        /// Set driver specific options (default map[])
        opt: Checked<DriverOption> = "opt" short "o";
        /// Control the network's scope
        scope: String = "scope";
        /// Subnet in CIDR format that represents a network segment
        subnet: Strings = "subnet";
    }
}

fn map(items: Vec<(String, String)>) -> Map {
    items.into_iter().collect()
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = CreateFlags::default();
    let mut names = cx.read(&COMMAND, &mut [&mut flags])?;
    let asked = Asked {
        subnets: flags.subnet.0,
        ranges: flags.ip_range.0,
        gateways: flags.gateway.0,
        others: map(flags.aux_address.items),
    };
    let ipam = ipam(flags.ipam_driver, map(flags.ipam_opt.items), asked).map_err(Failure::new)?;
    let from = flags.config_from;
    let body = CreateNetwork {
        name: names.pop().unwrap_or_default(),
        driver: flags.driver,
        scope: flags.scope,
        enable_ipv4: flags.ipv4,
        enable_ipv6: flags.ipv6,
        ipam: Some(ipam),
        internal: flags.internal,
        attachable: flags.attachable,
        ingress: flags.ingress,
        config_only: flags.config_only,
        config_from: (!from.is_empty()).then_some(ConfigReference { network: from }),
        options: Some(map(flags.opt.items)),
        labels: Some(map(flags.label.items)),
        ..CreateNetwork::default()
    };
    talk(cx, async |client| {
        let call = client.post("/networks/create").body(&body)?;
        let made: NetworkCreated = call.json().await?;
        cx.print(&format!("{}\n", made.id))?;
        Ok(0)
    })
}
