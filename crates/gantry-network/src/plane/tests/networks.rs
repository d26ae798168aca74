//! Several networks, and what is made of each driver.
use super::*;
use crate::network::{Bridge, GatewayMode, IpvlanFlag, IpvlanMode, MacvlanMode, Parent, Subnet};
use std::net::{IpAddr, Ipv6Addr};

/// A bridge network of a user's, with these subnets; the first address of each is the gateway.
fn network(name: &str, subnets: &[&str]) -> Network {
    let subnet = |text: &&str| {
        let net: IpNet = text.parse().unwrap();
        let gateway = match net {
            IpNet::V4(net) => net.hosts().next().map(IpAddr::V4),
            IpNet::V6(net) => net.hosts().nth(1).map(IpAddr::V6),
        };
        Subnet {
            net,
            range: None,
            gateway,
            default_gateway: None,
            reserved: Vec::new(),
        }
    };
    Network {
        id: name.into(),
        name: name.into(),
        driver: Driver::Bridge(Bridge {
            link: format!("br-{name}"),
            ours: true,
            icc: true,
            masquerade: true,
            host_binding: None,
            inhibit_ipv4: false,
            source: Vec::new(),
            gateway_mode_v4: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            trusted_links: Vec::new(),
        }),
        subnets: subnets.iter().map(subnet).collect(),
        internal: false,
        mtu: 0,
    }
}

fn with_driver(name: &str, subnets: &[&str], driver: Driver) -> Network {
    Network {
        driver,
        ..network(name, subnets)
    }
}

fn open(networks: &[Network], in_use: &[Endpoint]) -> Plane {
    let (plane, fallen) = Plane::open(&options(TABLE), networks, in_use).unwrap();
    assert!(fallen.is_empty(), "{fallen:?}");
    plane
}

fn request(link: &str) -> EndpointRequest {
    EndpointRequest {
        id: format!("{:?}", bridge::random_bytes()),
        container: ID.into(),
        link: link.into(),
        default_routes: Families { v4: true, v6: true },
        ..EndpointRequest::default()
    }
}

fn has(name: &str) -> bool {
    find(&Netlink::route().unwrap(), name).unwrap().is_some()
}

#[test]
fn a_container_on_two_networks() {
    on_a_host(|| {
        let plane = open(
            &[
                network("one", &["10.1.0.0/24"]),
                network("two", &["10.2.0.0/24"]),
            ],
            &[],
        );
        let sandbox = Sandbox::new().unwrap();
        let first = plane.attach("one", &sandbox, &request("eth0")).unwrap();
        let without = EndpointRequest {
            default_routes: Families::default(),
            ..request("eth1")
        };
        let second = plane.attach("two", &sandbox, &without).unwrap();
        assert_eq!(address(&second).to_string(), "10.2.0.2");
        let routes = || inside(&sandbox, || ip("route show"));
        assert!(
            routes().contains("default via 10.1.0.1 dev eth0"),
            "{}",
            routes()
        );
        for gateway in ["10.1.0.1", "10.2.0.1"] {
            assert!(
                inside(&sandbox, || ping(gateway.parse().unwrap())),
                "{gateway}"
            );
        }
        let v4 = Families {
            v4: true,
            v6: false,
        };
        plane.route(&sandbox, &second, v4).unwrap();
        assert!(
            routes().contains("default via 10.2.0.1 dev eth1"),
            "{}",
            routes()
        );
        assert_eq!(routes().matches("default").count(), 1);

        plane.detach(&sandbox, &first).unwrap();
        plane.detach(&sandbox, &first).unwrap();
        assert!(!inside(&sandbox, || ip("link show")).contains("eth0"));
        assert!(!has(&first.host_link) && has(&second.host_link));
        // The place is free for another.
        let again = plane.attach("one", &sandbox, &request("eth0")).unwrap();
        assert!(inside(&sandbox, || ping("10.1.0.1".parse().unwrap())));

        let error = plane.remove("one").unwrap_err().to_string();
        assert_eq!(error, "network one has active endpoints");
        plane.release(&again).unwrap();
        plane.remove("one").unwrap();
        plane.remove("one").unwrap();
        assert!(!has("br-one") && has("br-two"));
        assert!(plane.attach("one", &sandbox, &request("eth2")).is_err());
    });
}

#[test]
fn ipv6_inside_and_to_the_host() {
    on_a_host(|| {
        let plane = open(&[network("six", &["10.6.0.0/24", "fd00:6::/64"])], &[]);
        let (one, two) = (Sandbox::new().unwrap(), Sandbox::new().unwrap());
        let first = plane.attach("six", &one, &request("eth0")).unwrap();
        let second = plane.attach("six", &two, &request("eth0")).unwrap();
        assert_eq!(first.v6.unwrap().to_string(), "fd00:6::2/64");
        assert_eq!(second.gateway_v6.unwrap().to_string(), "fd00:6::1");
        let shown = || inside(&one, || ip("-6 address show eth0"));
        assert!(!shown().contains("global tentative"), "{}", shown());
        // The one that the kernel makes itself is made by a worker.
        assert!(
            eventually(|| shown().contains("fe80::") && !shown().contains("tentative")),
            "{}",
            shown()
        );
        // Of the host's end it makes none.
        assert_eq!(ip(&format!("-6 address show dev {}", first.host_link)), "");
        let route = inside(&one, || ip("-6 route show default"));
        assert!(route.contains("default via fd00:6::1 dev eth0"), "{route}");
        serve(&one, 80);
        let target = IpAddr::V6(first.v6.unwrap().addr());
        assert_eq!(ask_from(&two, target, 80), "fd00:6::3");
        let host = TcpListener::bind("[fd00:6::1]:81").unwrap();
        let gateway = SocketAddr::new(IpAddr::V6(first.gateway_v6.unwrap()), 81);
        inside(&one, || TcpStream::connect_timeout(&gateway, PATIENCE)).unwrap();
        drop(host);
        // Another MAC at the same address is known at once: nobody sends twice, a second later. (The machine may be slow
        // now and then.)
        plane.release(&first).unwrap();
        drop(one);
        let is_known_at_once = |last: u8| {
            let three = Sandbox::new().unwrap();
            let wanted = EndpointRequest {
                id: format!("{last:064}"),
                v6: first.v6.map(|net| net.addr()),
                mac: Some(format!("92:d0:c6:0a:29:{last:02x}")),
                ..request("eth0")
            };
            let endpoint = plane.attach("six", &three, &wanted).unwrap();
            serve(&three, 80);
            let start = std::time::Instant::now();
            assert_eq!(ask_from(&two, target, 80), "fd00:6::3");
            let took = start.elapsed();
            plane.release(&endpoint).unwrap();
            took < Duration::from_millis(900)
        };
        assert!((1..=5).any(is_known_at_once));
        plane.tear_down().unwrap();
        assert!(!has("br-six"));
    });
}

#[test]
fn ipv6_alone() {
    on_a_host(|| {
        let plane = open(&[network("only", &["fd00:7::/64"])], &[]);
        let sandbox = Sandbox::new().unwrap();
        let endpoint = plane.attach("only", &sandbox, &request("eth0")).unwrap();
        assert_eq!(endpoint.v4, None);
        assert_eq!(endpoint.mac, "02:42:00:00:00:02");
        let shown = inside(&sandbox, || ip("address show eth0"));
        assert!(!shown.contains("inet "), "{shown}");
        let wrong = EndpointRequest {
            v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
            ..request("eth1")
        };
        let error = plane.attach("only", &sandbox, &wrong).unwrap_err();
        assert!(
            error.to_string().contains("no subnet of its family"),
            "{error}"
        );
        let wanted = EndpointRequest {
            v6: Some("fd00:7::77".parse::<Ipv6Addr>().unwrap()),
            ..request("eth1")
        };
        let second = plane.attach("only", &sandbox, &wanted).unwrap();
        assert_eq!(
            second.v6.unwrap().addr(),
            "fd00:7::77".parse::<Ipv6Addr>().unwrap()
        );
    });
}

#[test]
fn macvlan_on_a_link_of_the_host() {
    on_a_host(|| {
        let outside = outsider();
        let driver = |link: &str, ours| Driver::Macvlan {
            parent: Parent {
                link: link.into(),
                ours,
            },
            mode: MacvlanMode::Bridge,
        };
        let lan = with_driver("lan", &["198.51.100.0/24"], driver("uplink", false));
        let plane = open(&[lan], &[]);
        let sandbox = Sandbox::new().unwrap();
        let wanted = EndpointRequest {
            v4: Some(Ipv4Addr::new(198, 51, 100, 77)),
            ..request("eth0")
        };
        let endpoint = plane.attach("lan", &sandbox, &wanted).unwrap();
        assert_eq!(endpoint.host_link, "");
        serve(&outside, 80);
        // It is on the wire with its own address, not the host's.
        assert_eq!(ask_from(&sandbox, OUTSIDER, 80), "198.51.100.77");
        plane.detach(&sandbox, &endpoint).unwrap();
        assert!(!inside(&sandbox, || ip("link show")).contains("eth0"));

        // Links of our own making, where the kernel has such.
        for (name, parent) in [("vlan", "uplink.50"), ("nowhere", "dm-nowhere")] {
            let own = with_driver(name, &["10.50.0.0/24"], driver(parent, true));
            match plane.add(&own) {
                Ok(()) => {
                    let endpoint = plane.attach(name, &sandbox, &request("eth0")).unwrap();
                    assert!(has(parent));
                    plane.detach(&sandbox, &endpoint).unwrap();
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(": this kernel has no "), "{text}");
                }
            }
        }
        for bad in ["uplink.0", "uplink.4095", "uplink.x", "none.5"] {
            let bad = with_driver("bad", &["10.52.0.0/24"], driver(bad, true));
            assert!(plane.add(&bad).is_err());
        }
        plane.tear_down().unwrap();
        assert!(!has("uplink.50") && !has("dm-nowhere") && has("uplink"));
    });
}

#[test]
fn ipvlan_shares_the_parents_mac_or_says_that_the_kernel_has_none() {
    on_a_host(|| {
        let outside = outsider();
        let driver = Driver::Ipvlan {
            parent: Parent {
                link: "uplink".into(),
                ours: false,
            },
            mode: IpvlanMode::L2,
            flag: IpvlanFlag::Bridge,
        };
        let plane = open(&[], &[]);
        if let Err(error) = plane.add(&with_driver("ipv", &["198.51.100.0/24"], driver)) {
            let text = error.to_string();
            assert!(text.contains("this kernel has no ipvlan links"), "{text}");
            assert!(!plane.is_up("ipv"));
            return;
        }
        let sandbox = Sandbox::new().unwrap();
        let wanted = EndpointRequest {
            v4: Some(Ipv4Addr::new(198, 51, 100, 78)),
            ..request("eth0")
        };
        plane.attach("ipv", &sandbox, &wanted).unwrap();
        serve(&outside, 80);
        assert_eq!(ask_from(&sandbox, OUTSIDER, 80), "198.51.100.78");
    });
}

#[test]
fn what_has_no_record_goes_and_what_cannot_come_up_harms_nobody() {
    on_a_host(|| {
        let kept = network("kept", &["10.1.0.0/24"]);
        let gone = network("gone", &["10.2.0.0/24"]);
        let first = open(&[kept.clone(), gone], &[]);
        let (one, two) = (Sandbox::new().unwrap(), Sandbox::new().unwrap());
        let running = first.attach("kept", &one, &request("eth0")).unwrap();
        let lost = first.attach("gone", &two, &request("eth0")).unwrap();
        drop(first);
        ip("link add br-foreign type bridge");
        let foreign = network("foreign", &["10.3.0.0/24"]);
        let in_use = std::slice::from_ref(&running);
        let (second, fallen) = Plane::open(&options(TABLE), &[kept, foreign], in_use).unwrap();
        assert_eq!(fallen.len(), 1);
        let text = fallen[0].1.to_string();
        assert!(
            fallen[0].0 == "foreign" && text.contains("br-foreign is there already"),
            "{text}"
        );
        assert!(has("br-kept") && !has("br-gone") && has("br-foreign"));
        assert!(has(&running.host_link) && !has(&lost.host_link));
        assert!(second.is_up("kept") && !second.is_up("foreign"));
        assert!(inside(&one, || ping("10.1.0.1".parse().unwrap())));
        // Its address is known to be taken.
        let wanted = EndpointRequest {
            v4: Some(address(&running)),
            ..request("eth0")
        };
        assert!(second.attach("kept", &two, &wanted).is_err());
    });
}

#[test]
fn settings_of_a_link() {
    on_a_host(|| {
        let plane = open(&[network("n", &["10.1.0.0/24"])], &[]);
        let sandbox = Sandbox::new().unwrap();
        let with = |name: &str, link: &str| EndpointRequest {
            sysctls: vec![(name.into(), "1".into())],
            ..request(link)
        };
        plane
            .attach(
                "n",
                &sandbox,
                &with("net.ipv4.conf.IFNAME.log_martians", "eth0"),
            )
            .unwrap();
        let path = "/proc/sys/net/ipv4/conf/eth0/log_martians";
        let value = inside(&sandbox, || std::fs::read_to_string(path).unwrap());
        assert_eq!(value.trim(), "1");
        for bad in [
            "kernel.IFNAME",
            "net.ipv4/../../kernel.IFNAME",
            "net.ipv4.conf.IFNAME.no",
        ] {
            let error = plane.attach("n", &sandbox, &with(bad, "eth1"));
            assert!(error.is_err(), "{bad}");
        }
        assert_eq!(veths().len(), 1);
    });
}

#[test]
fn a_network_that_cannot_be_made_leaves_nothing() {
    on_a_host(|| {
        let plane = open(&[], &[]);
        let large = Network {
            mtu: 99_999,
            ..network("large", &["10.3.0.0/24"])
        };
        assert!(plane.add(&large).is_err());
        assert!(!has("br-large") && !plane.is_up("large"));
    });
}

#[test]
fn a_bridge_of_the_users_gets_the_gateways_address_and_keeps_its_own() {
    on_a_host(|| {
        ip("link add br7 type bridge");
        ip("address add 10.7.0.1/24 dev br7");
        let mut users = network("users", &["10.8.0.0/24"]);
        let Driver::Bridge(bridge) = &mut users.driver else {
            unreachable!("it is a bridge");
        };
        bridge.link = "br7".into();
        bridge.ours = false;
        let plane = open(&[], &[]);
        plane.add(&users).unwrap();
        let shown = ip("-4 address show br7");
        assert!(
            shown.contains("10.7.0.1/24") && shown.contains("10.8.0.1/24"),
            "{shown}"
        );
        let sandbox = Sandbox::new().unwrap();
        let endpoint = plane.attach("users", &sandbox, &request("eth0")).unwrap();
        assert!(inside(&sandbox, || ping(endpoint.gateway_v4.unwrap())));
        plane.release(&endpoint).unwrap();
        drop(sandbox);
        plane.remove("users").unwrap();
        assert!(has("br7"));
    });
}
