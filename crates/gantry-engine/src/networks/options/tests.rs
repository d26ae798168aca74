use super::*;

const ID: &str = "0123456789abcdef";

fn map(pairs: &[(&str, &str)]) -> Map {
    let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(own).collect()
}

/// A host with `eth0`, a bridge `br0`, and all drivers but ipvlan's.
fn configured(
    driver: &str,
    options: &[(&str, &str)],
    internal: bool,
    others: &[Network],
) -> Result<Configured> {
    let around = Surroundings {
        link_kind: &|name| {
            Ok(match name {
                "eth0" => Some(String::new()),
                "br0" => Some("bridge".to_owned()),
                _ => None,
            })
        },
        has_driver: &|kind| Ok(kind != "ipvlan"),
        others,
    };
    configure(driver, ID, &map(options), internal, &around)
}

fn refused(driver: &str, options: &[(&str, &str)]) -> String {
    configured(driver, options, false, &[]).unwrap_err().message
}

fn network(driver: Driver) -> Network {
    Network {
        id: "fedcba9876543210".to_owned(),
        name: "other".to_owned(),
        driver,
        subnets: Vec::new(),
        internal: false,
        mtu: 0,
    }
}

fn as_bridge(configured: Configured) -> Bridge {
    match configured.driver {
        Driver::Bridge(bridge) => bridge,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bridge_as_docker_makes_it() {
    let plain = as_bridge(configured("bridge", &[], false, &[]).unwrap());
    assert_eq!(plain.link, "br-0123456789ab");
    assert!(plain.ours && plain.icc && plain.masquerade && !plain.inhibit_ipv4);
    assert_eq!(plain.host_binding, None);
    let all = [
        (BRIDGE_NAME, "br0"),
        (ENABLE_ICC, "f"),
        (MASQUERADE, "False"),
        (HOST_BINDING, "192.0.2.1"),
        (INHIBIT_IPV4, "1"),
        (GATEWAY_MODE_V4, "routed"),
        (GATEWAY_MODE_V6, "nat-unprotected"),
        (TRUSTED, "eth1::eth2"),
        (HOST_IPV4, "192.0.2.7"),
        (HOST_IPV6, "fd00::7"),
        (MTU, "1400"),
    ];
    let full = configured("bridge", &all, false, &[]).unwrap();
    assert_eq!(full.mtu, 1400);
    let bridge = as_bridge(full);
    assert!(!bridge.ours && !bridge.icc && !bridge.masquerade && bridge.inhibit_ipv4);
    assert_eq!(bridge.host_binding, "192.0.2.1".parse().ok());
    assert_eq!(bridge.gateway_mode_v4, GatewayMode::Routed);
    assert_eq!(bridge.gateway_mode_v6, GatewayMode::NatUnprotected);
    assert_eq!(bridge.trusted_links, ["eth1", "eth2"]);
    assert_eq!(bridge.source.len(), 2);
}

#[test]
fn what_a_bridge_refuses() {
    assert_eq!(
        refused("bridge", &[(ENABLE_ICC, "maybe")]),
        "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)"
    );
    assert_eq!(
        refused("bridge", &[(MTU, "x")]),
        "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)"
    );
    assert_eq!(refused("bridge", &[(MTU, "-1")]), "invalid MTU number: -1");
    assert_eq!(
        refused("bridge", &[(HOST_BINDING, "x")]),
        "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)"
    );
    assert_eq!(
        refused("bridge", &[(GATEWAY_MODE_V4, "x")]),
        "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: x (unknown gateway mode x)"
    );
    assert_eq!(
        refused("bridge", &[(GATEWAY_MODE_V6, "isolated")]),
        "gateway mode 'isolated' can only be used for an internal network"
    );
    assert_eq!(
        refused("bridge", &[(BRIDGE_NAME, "eth0")]),
        "existing interface eth0 is not a bridge"
    );
    for name in ["a/b", "a b", "sixteen-letters-"] {
        assert!(refused("bridge", &[(BRIDGE_NAME, name)]).ends_with("no link can have this name)"));
    }
    assert_eq!(
        refused("bridge", &[(ANNOUNCEMENTS, "9")]),
        "com.docker.network.advertise_addr_nmsgs must be in the range 0 to 3"
    );
    assert_eq!(refused("nonsense", &[]), "plugin \"nonsense\" not found");
}

#[test]
fn isolated_networks_have_no_gateway() {
    let isolated = [(GATEWAY_MODE_V4, "isolated")];
    let of = |options: &[(&str, &str)]| {
        let configured = configured("bridge", options, true, &[]).unwrap();
        configured.without_gateway
    };
    assert_eq!(of(&isolated), [true, false]);
    assert_eq!(of(&[(INHIBIT_IPV4, "true")]), [true, false]);
    assert_eq!(of(&[]), [false, false]);
}

#[test]
fn parents_of_macvlan() {
    let parent = |options: &[(&str, &str)], others: &[Network]| match configured(
        "macvlan", options, false, others,
    )
    .unwrap()
    {
        Configured {
            driver: Driver::Macvlan { parent, .. },
            internal,
            ..
        } => (parent.link, parent.ours, internal),
        other => panic!("{other:?}"),
    };
    let own = |link: &str, ours, internal| (link.to_owned(), ours, internal);
    assert_eq!(parent(&[], &[]), own("dm-0123456789ab", true, true));
    assert_eq!(
        parent(&[("parent", "eth0")], &[]),
        own("eth0", false, false)
    );
    assert_eq!(
        parent(&[("parent", "eth0.50")], &[]),
        own("eth0.50", true, false)
    );
    for (link, words) in [
        (
            "lo",
            "loopback interface is not a valid macvlan parent link",
        ),
        (
            "eth9",
            "invalid subinterface vlan name eth9, example formatting is eth0.10",
        ),
        (
            "eth9.5",
            "-o parent interface was not found on the host: eth9",
        ),
        (
            "eth0.5000",
            "vlan id must be between 1-4094, received: 5000",
        ),
        (
            "eth0.x",
            "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)",
        ),
        (
            "eth0.1.2",
            "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received eth0.1.2",
        ),
    ] {
        assert_eq!(refused("macvlan", &[("parent", link)]), words);
    }
    assert_eq!(
        refused("macvlan", &[("macvlan_mode", "x")]),
        "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"
    );
}

#[test]
fn passthru_is_for_one_network() {
    let with = |mode| {
        let parent = Parent {
            link: "eth0".to_owned(),
            ours: false,
        };
        [network(Driver::Macvlan { parent, mode })]
    };
    let passthru = [("parent", "eth0"), ("macvlan_mode", "passthru")];
    let words = |options: &[(&str, &str)], others: &[Network]| {
        configured("macvlan", options, false, others)
            .unwrap_err()
            .message
    };
    assert_eq!(
        words(&passthru, &with(MacvlanMode::Bridge)),
        "cannot use mode passthru, macvlan network fedcba9876543210 is already using parent interface eth0"
    );
    assert_eq!(
        words(&passthru[..1], &with(MacvlanMode::Passthru)),
        "macvlan network fedcba9876543210 is already using parent interface eth0 in mode passthru"
    );
}

#[test]
fn a_driver_that_the_kernel_lacks_is_told() {
    assert_eq!(
        refused("ipvlan", &[("parent", "eth0")]),
        "cannot make a network of driver ipvlan: this machine's kernel has no ipvlan driver; load its module, \
         or use a kernel that has it"
    );
    assert_eq!(
        refused("ipvlan", &[("ipvlan_mode", "l4")]),
        "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default"
    );
    assert_eq!(
        refused("ipvlan", &[("ipvlan_flag", "x")]),
        "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"
    );
}
