use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn told(config: &BridgeConfig, v6: bool, has: &[&str], others: &[&str]) -> String {
    let told = if v6 {
        Told::v6(config)
    } else {
        Told::v4(config)
    };
    let (has, others): (Vec<_>, Vec<_>) = (
        has.iter().map(|text| net(text)).collect(),
        others.iter().map(|text| net(text)).collect(),
    );
    let neighbours = Neighbours {
        before: None,
        pools: &Pools::new(&[], "host"),
        others: &others,
    };
    match subnet(&told, &has, &neighbours) {
        Ok(Subnet {
            net,
            range,
            gateway,
            ..
        }) => {
            let range = range.map_or_else(|| "all".to_owned(), |range| range.to_string());
            format!("{net} {range} {}", gateway.unwrap())
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn addresses_as_dockers_flags_mean_them() {
    let with = |bip: &str, fixed: &str, users: bool| BridgeConfig {
        existing: users.then(|| "br0".to_owned()),
        bip: bip.parse().ok(),
        fixed: fixed.parse().ok(),
        ..BridgeConfig::default()
    };
    for (bip, fixed, users, has, expected) in [
        (
            "192.168.1.5/24",
            "",
            false,
            "10.0.0.1/8",
            "192.168.1.0/24 all 192.168.1.5",
        ),
        (
            "192.168.1.1/24",
            "192.168.1.0/25",
            false,
            "",
            "192.168.1.0/24 192.168.1.0/25 192.168.1.1",
        ),
        (
            "192.168.1.1/24",
            "10.0.0.0/25",
            false,
            "",
            "fixed-cidr=10.0.0.0/25 is outside of the default bridge's subnet 192.168.1.0/24",
        ),
        (
            "",
            "10.11.22.0/24",
            false,
            "",
            "10.11.22.0/24 10.11.22.0/24 10.11.22.1",
        ),
        // The documentation's example.
        (
            "",
            "10.11.22.0/24",
            false,
            "10.11.12.13/16",
            "10.11.0.0/16 10.11.22.0/24 10.11.12.13",
        ),
        // A range that has grown takes the subnet along, one that has moved the bridge.
        (
            "",
            "10.11.0.0/16",
            false,
            "10.11.12.13/24",
            "10.11.0.0/16 10.11.0.0/16 10.11.12.13",
        ),
        (
            "",
            "10.99.0.0/16",
            false,
            "10.11.12.13/24",
            "10.99.0.0/16 10.99.0.0/16 10.99.0.1",
        ),
        // A bridge of the user's keeps its address.
        (
            "",
            "10.99.0.0/16",
            true,
            "10.11.12.13/24",
            "10.11.12.0/24 all 10.11.12.13",
        ),
        (
            "",
            "",
            true,
            "10.11.12.13/24",
            "10.11.12.0/24 all 10.11.12.13",
        ),
    ] {
        let has: Vec<&str> = has.split_whitespace().collect();
        let config = with(bip, fixed, users);
        assert_eq!(
            told(&config, false, &has, &[]),
            expected,
            "{bip} {fixed} {has:?}"
        );
    }
}

#[test]
fn addresses_of_ipv6() {
    let with = |bip6: &str, fixed6: &str| BridgeConfig {
        ipv6: true,
        bip6: bip6.parse().ok(),
        fixed6: fixed6.parse().ok(),
        ..BridgeConfig::default()
    };
    let fixed = with("", "2001:db8:1::/64");
    assert_eq!(
        told(&fixed, true, &["10.0.0.1/8"], &[]),
        "2001:db8:1::/64 2001:db8:1::/64 2001:db8:1::1"
    );
    let bip = with("fd00:1::9/64", "");
    assert_eq!(told(&bip, true, &[], &[]), "fd00:1::/64 all fd00:1::9");
    let chosen = told(&with("", ""), true, &[], &[]);
    assert!(
        chosen.starts_with("fd") && chosen.ends_with("::1"),
        "{chosen}"
    );
}

#[test]
fn what_cannot_be() {
    let config = BridgeConfig {
        bip: Some("10.1.0.1/16".parse().unwrap()),
        default_gateway: Some("10.2.0.9".parse().unwrap()),
        ..BridgeConfig::default()
    };
    assert_eq!(
        told(&config, false, &[], &[]),
        "default gateway ip must be part of the network: 10.2.0.9 is outside of 10.1.0.0/16"
    );
    assert_eq!(
        told(&config, false, &[], &["10.1.7.0/24"]),
        "the default bridge cannot have 10.1.0.0/16: a network has 10.1.7.0/24; remove that network, or name another with --bip"
    );
}
