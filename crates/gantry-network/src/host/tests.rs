use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn the_hosts_routes_are_read() {
    assert_eq!(
        v4_route("eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0"),
        Some((net("192.0.2.0/24"), true))
    );
    let (default, direct) = v4_route("eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0").unwrap();
    assert_eq!((default, direct), (net("0.0.0.0/0"), false));
    assert_eq!(v4_route("Iface	Destination	Gateway 	Flags"), None);
    let zeros = "0".repeat(32);
    let route = |network: &str, link: &str| {
        v6_route(&format!(
            "{network} 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 {link}"
        ))
    };
    let network = format!("fd00{}", "0".repeat(28));
    assert_eq!(route(&network, "eth0"), Some((net("fd00::/64"), true)));
    assert_eq!(route(&network, "lo"), None);
    assert_eq!(route(&format!("fe80{}", "0".repeat(28)), "eth0"), None);
    let text = "search x\nnameserver 10.0.0.2\n nameserver fd00::1\n#nameserver 1.1.1.1\n";
    assert!(name_servers(text).eq(["10.0.0.2/32", "fd00::1/128"].map(net)));
}

#[test]
fn links_and_drivers_are_looked_up() {
    assert_eq!(link_kind("nosuchlink0").unwrap(), None);
    assert!(link_kind("lo").unwrap().is_some());
    assert!(has_driver("bridge").unwrap());
    assert!(!has_driver("nosuchdriver").unwrap());
}
