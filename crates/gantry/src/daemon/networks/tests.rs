use super::*;
use clap::Parser;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    flags: NetworkFlags,
}

fn merged(flags: &[&str], file: &str) -> Result<Networks> {
    let line = Line::try_parse_from([&["gantryd"], flags].concat())?;
    Networks::merge(line.flags, serde_json::from_str(file)?)
}

fn refused(flags: &[&str], file: &str) -> String {
    merged(flags, file).unwrap_err().to_string()
}

#[test]
fn nothing_said_is_dockers_default_but_for_the_mtu() {
    let Networks {
        options,
        host_gateways,
        userland_proxy,
    } = merged(&[], "{}").unwrap();
    assert!(userland_proxy);
    let bridge = options.bridge.unwrap();
    assert!(bridge.icc && bridge.masquerade && !bridge.ipv6);
    assert_eq!((bridge.existing, bridge.bip, bridge.mtu), (None, None, 0));
    let PlaneOptions {
        firewall,
        forwarding,
        ..
    } = options.plane;
    assert!(forwarding && firewall.v4 && firewall.v6);
    assert!(!firewall.respect_host_firewall && !firewall.allow_direct_routing);
    assert_eq!(firewall.table, "gantry");
    assert!(options.pools.is_empty() && options.defaults.is_empty() && host_gateways.is_empty());
}

const ALL_FLAGS: &[&str] = &[
    "--bip=10.1.0.1/16",
    "--bip6=fd00:1::1/64",
    "--ipv6",
    "--fixed-cidr=10.1.2.0/24",
    "--fixed-cidr-v6=fd00:1::/80",
    "--default-gateway=10.1.0.9",
    "--default-gateway-v6=fd00:1::9",
    "--icc=false",
    "--ip-masq=f",
    "--ip-forward=0",
    "--ip=192.0.2.1",
    "--mtu=1400",
    "--ip6tables=true",
    "--respect-host-firewall",
    "--allow-direct-routing",
    "--userland-proxy=false",
    "--userland-proxy-path=/x",
    "--ip-forward-no-drop",
    "--network-control-plane-mtu=1500",
    "--default-address-pool=base=10.9.0.0/16,size=24",
    "--default-network-opt=bridge=com.docker.network.driver.mtu=1200",
    "--host-gateway-ip=192.0.2.9",
    "--host-gateway-ip=fd00::9",
];

const ALL_KEYS: &str = r#"{
    "bip": "10.1.0.1/16", "bip6": "fd00:1::1/64", "ipv6": true, "fixed-cidr": "10.1.2.0/24",
    "fixed-cidr-v6": "fd00:1::/80", "default-gateway": "10.1.0.9", "default-gateway-v6": "fd00:1::9",
    "icc": false, "ip-masq": false, "ip-forward": false, "ip": "192.0.2.1", "mtu": 1400, "ip6tables": true,
    "respect-host-firewall": true, "allow-direct-routing": true, "userland-proxy": false,
    "userland-proxy-path": "/x", "ip-forward-no-drop": true, "network-control-plane-mtu": 1500,
    "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}],
    "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1200"}},
    "host-gateway-ips": ["192.0.2.9", "fd00::9"]
}"#;

#[test]
fn flags_and_file_say_the_same() {
    let by_flags = merged(ALL_FLAGS, "{}").unwrap();
    let by_file = merged(&[], ALL_KEYS).unwrap();
    assert_eq!(format!("{by_flags:?}"), format!("{by_file:?}"));
    let bridge = by_flags.options.bridge.unwrap();
    assert!(bridge.ipv6 && !bridge.icc && !bridge.masquerade);
    assert_eq!(bridge.bip6, "fd00:1::1/64".parse().ok());
    assert_eq!(bridge.fixed, "10.1.2.0/24".parse().ok());
    assert_eq!(bridge.default_gateway6, "fd00:1::9".parse().ok());
    assert_eq!(bridge.host_binding, "192.0.2.1".parse().ok());
    assert!(!by_flags.options.plane.forwarding);
    assert!(by_flags.options.plane.firewall.respect_host_firewall);
    assert_eq!(by_flags.options.pools.len(), 1);
    assert_eq!(by_flags.host_gateways.len(), 2);
    assert!(!by_flags.userland_proxy);
}

#[test]
fn each_key_is_for_one_place() {
    for flag in ALL_FLAGS {
        let error = refused(&[flag], ALL_KEYS);
        let words = "specified both as a flag and in the configuration file: ";
        let key = error
            .split(words)
            .nth(1)
            .unwrap_or_else(|| panic!("{flag}: {error}"));
        assert!(
            flag[2..].starts_with(key.trim_end_matches('s')),
            "{flag}: {key}"
        );
    }
}

#[test]
fn what_does_not_go_together() {
    for (flags, words) in [
        (
            &["-b", "br0", "--bip", "10.1.0.1/16"][..],
            "You specified -b & --bip, mutually exclusive options. Please specify only one",
        ),
        (
            &["--icc=false", "--iptables=false"],
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true",
        ),
        (
            &["--icc=false", "--ip6tables=false", "--ipv6"],
            "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function. Please set --icc or --ip6tables to true",
        ),
        (
            &["--host-gateway-ip=1.2.3.4,1.2.3.5"],
            "only one IPv4 host gateway IP address can be specified",
        ),
        (&["--mtu=-1"], "invalid default MTU: -1"),
        (
            &["--bip=10.1.0.1"],
            "invalid bip \"10.1.0.1\": an IPv4 address with a prefix length is expected",
        ),
        (
            &["--default-network-opt=x"],
            "--default-network-opt x: DRIVER=OPTION=VALUE is expected",
        ),
        (
            &["--default-address-pool=base=10.0.0.0/24,size=16"],
            "default-address-pools: invalid pool 10.0.0.0/24: it has a smaller prefix (/24) than the target size of that pool (/16)",
        ),
    ] {
        assert_eq!(refused(flags, "{}"), words);
    }
    assert!(merged(&["--icc=maybe"], "{}").is_err());
}

#[test]
fn without_the_firewall_nothing_is_masqueraded_and_without_a_bridge_there_is_none() {
    let off = merged(&["--iptables=false"], "{}").unwrap().options;
    assert!(!off.bridge.unwrap().masquerade && !off.plane.firewall.v4);
    assert!(
        merged(&["-b", "none"], "{}")
            .unwrap()
            .options
            .bridge
            .is_none()
    );
    let everywhere = merged(&["--ip", "0.0.0.0"], "{}").unwrap().options;
    assert_eq!(everywhere.bridge.unwrap().host_binding, None);
}
