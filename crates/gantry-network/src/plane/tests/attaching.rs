use super::*;
use std::net::UdpSocket;
use std::time::Instant;

#[test]
fn containers_reach_each_other_the_gateway_and_the_outside() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let (one, first) = attach(&bridge);
        let (two, second) = attach(&bridge);
        assert_eq!(address(&first).to_string(), "172.17.0.2");
        assert_eq!(first.gateway_v4.unwrap().to_string(), "172.17.0.1");
        assert_eq!(first.mac, "02:42:ac:11:00:02");
        assert_eq!(first.v4.unwrap().prefix_len(), 16);
        assert_eq!(address(&second).to_string(), "172.17.0.3");
        serve(&one, 80);
        serve(&outside, 80);
        let host = TcpListener::bind("0.0.0.0:81").unwrap();
        assert_eq!(ask_from(&two, address(&first), 80), "172.17.0.3");
        assert_eq!(ask(address(&first), 80, PATIENCE).unwrap(), "172.17.0.1");
        assert_eq!(ask_from(&two, OUTSIDER, 80), HOST.to_string());
        inside(&one, || TcpStream::connect((bridge.gateway(), 81)).unwrap());
        drop(host);
        for target in [bridge.gateway(), address(&second), OUTSIDER, LOCALHOST] {
            assert!(inside(&one, || ping(target)), "{target}");
        }
    });
}

#[test]
fn multicast_reaches_those_who_have_joined() {
    on_a_host(|| {
        let bridge = bridge(config());
        let shown = ip(&format!("-d link show {}", bridge.name()));
        assert!(shown.contains("mcast_snooping 0"), "{shown}");
        let (one, _first) = attach(&bridge);
        let (two, second) = attach(&bridge);
        let group = Ipv4Addr::new(239, 1, 2, 3);
        let member = inside(&two, || {
            let socket = UdpSocket::bind("0.0.0.0:5353").unwrap();
            socket.join_multicast_v4(&group, &address(&second)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        inside(&one, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(b"all", (group, 5353)).unwrap();
        });
        let mut heard = [0; 3];
        assert_eq!(member.recv(&mut heard).unwrap(), 3);
        assert_eq!(&heard, b"all");
    });
}

#[test]
fn a_sandbox_has_eth0_without_ipv6_and_lo_with_it() {
    on_a_host(|| {
        let bridge = bridge(BridgeConfig {
            mtu: 9000,
            ..config()
        });
        let (sandbox, endpoint) = attach(&bridge);
        let eth0 = inside(&sandbox, || ip("address show eth0"));
        assert!(eth0.contains("mtu 9000"), "{eth0}");
        assert!(
            eth0.contains("inet 172.17.0.2/16 brd 172.17.255.255"),
            "{eth0}"
        );
        assert!(
            eth0.contains(&endpoint.mac) && eth0.contains("UP"),
            "{eth0}"
        );
        assert!(!eth0.contains("inet6"), "{eth0}");
        assert_eq!(
            inside(&sandbox, || ip("route show"))
                .lines()
                .next()
                .unwrap()
                .trim(),
            "default via 172.17.0.1 dev eth0"
        );
        let lo = inside(&sandbox, || ip("address show lo"));
        assert!(
            lo.contains("inet 127.0.0.1/8") && lo.contains("inet6 ::1"),
            "{lo}"
        );
        let host = find(&bridge.plane.netlink, &endpoint.host_link)
            .unwrap()
            .unwrap();
        assert_eq!((host.mtu, host.master), (9000, bridge.segment().link.index));
        assert!(endpoint.host_link.starts_with("veth01234567") && endpoint.host_link.len() == 14);
    });
}

#[test]
fn first_packets_are_not_lost() {
    on_a_host(|| {
        let bridge = bridge(config());
        let _host = TcpListener::bind("0.0.0.0:81").unwrap();
        for _ in 0..100 {
            let (sandbox, endpoint) = attach(&bridge);
            let gateway = SocketAddr::from((bridge.gateway(), 81));
            let start = Instant::now();
            inside(&sandbox, || TcpStream::connect_timeout(&gateway, PATIENCE)).unwrap();
            // A lost ARP request is repeated after a second.
            assert!(
                start.elapsed() < Duration::from_millis(900),
                "{:?}",
                start.elapsed()
            );
            bridge.release(&endpoint).unwrap();
        }
    });
}

#[test]
fn five_hundred_rounds_leave_nothing() {
    on_a_host(|| {
        let bridge = bridge(BridgeConfig {
            bip: Some("10.9.8.1/29".parse().unwrap()),
            ..config()
        });
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        for round in 0..500 {
            let (sandbox, endpoint) = attach_with(&bridge, &publish(LOCALHOST, 0, "tcp"));
            assert_eq!(u32::from(address(&endpoint)) & 7, 2 + round % 5);
            drop(sandbox);
            bridge.release(&endpoint).unwrap();
        }
        assert!(eventually(|| veths().is_empty()), "{:?}", veths());
        // Other tests of this process have their own.
        assert!(eventually(|| descriptors() < before + 100));
        assert!(!nft("list map ip gantry-test ports_of_address").contains("elements"));
        let all: Vec<_> = std::iter::from_fn(|| bridge.take(None).ok()).collect();
        assert_eq!(all.len(), 5);
    });
}

#[test]
fn an_address_is_reused_while_its_old_owner_still_stands() {
    on_a_host(|| {
        let bridge = bridge(config());
        let (client, _) = attach(&bridge);
        let (old, endpoint) = attach(&bridge);
        serve(&old, 80);
        assert_eq!(ask_from(&client, address(&endpoint), 80), "172.17.0.2");
        bridge.release(&endpoint).unwrap();

        let request = EndpointRequest {
            v4: Some(address(&endpoint)),
            ..EndpointRequest::default()
        };
        let (new, again) = attach_with(&bridge, &request);
        assert_ne!(again.host_link, endpoint.host_link);
        serve(&new, 81);
        for _ in 0..3 {
            // What the old one still sends must not draw packets to it.
            inside(&old, || {
                UdpSocket::bind("0.0.0.0:0")
                    .unwrap()
                    .send_to(b"x", (bridge.gateway(), 9))
            })
            .unwrap();
            assert_eq!(ask_from(&client, address(&endpoint), 81), "172.17.0.2");
            assert_eq!(ask(address(&endpoint), 81, PATIENCE).unwrap(), "172.17.0.1");
            refused_from(&client, address(&endpoint), 80);
        }
        // A second release of the old endpoint does not touch the new one.
        bridge.release(&endpoint).unwrap();
        assert_eq!(ask_from(&client, address(&endpoint), 81), "172.17.0.2");
        let error = bridge.attach(ID, &old, &request).unwrap_err();
        assert_eq!(error.to_string(), "Address already in use");
    });
}

#[test]
fn neighbours_learn_of_another_mac_at_once() {
    on_a_host(|| {
        let bridge = bridge(config());
        let (client, _) = attach(&bridge);
        let request = |mac: Option<&str>| EndpointRequest {
            v4: Some(Ipv4Addr::new(172, 17, 0, 99)),
            mac: mac.map(str::to_owned),
            ..EndpointRequest::default()
        };
        let start = Instant::now();
        for mac in [
            None,
            Some("92:d0:c6:0a:29:33"),
            Some("92:d0:c6:0a:29:34"),
            None,
        ] {
            let (server, endpoint) = attach_with(&bridge, &request(mac));
            assert!(inside(&client, || ping(address(&endpoint))), "{mac:?}");
            assert!(ping(address(&endpoint)), "{mac:?}");
            serve(&server, 80);
            assert_eq!(ask_from(&client, address(&endpoint), 80), "172.17.0.2");
            bridge.release(&endpoint).unwrap();
        }
        assert!(
            start.elapsed() < Duration::from_millis(900),
            "{:?}",
            start.elapsed()
        );
    });
}

#[test]
fn a_pool_is_used_up_and_recovers() {
    on_a_host(|| {
        let bridge = bridge(BridgeConfig {
            bip: Some("10.9.8.1/30".parse().unwrap()),
            ..config()
        });
        let (_sandbox, endpoint) = attach(&bridge);
        assert_eq!(address(&endpoint).to_string(), "10.9.8.2");
        let second = Sandbox::new().unwrap();
        let error = bridge.attach(ID, &second, &EndpointRequest::default());
        assert_eq!(
            error.unwrap_err().to_string(),
            "no available IPv4 addresses on this network's address pools: bridge"
        );
        bridge.release(&endpoint).unwrap();
        let again = bridge
            .attach(ID, &second, &EndpointRequest::default())
            .unwrap();
        assert_eq!(address(&again), address(&endpoint));
        assert!(inside(&second, || ping(bridge.gateway())));
    });
}

#[test]
fn a_wanted_mac_is_given_and_a_bad_one_refused() {
    on_a_host(|| {
        let bridge = bridge(config());
        let with_mac = |mac: &str| EndpointRequest {
            mac: Some(mac.into()),
            ..EndpointRequest::default()
        };
        let (sandbox, endpoint) = attach_with(&bridge, &with_mac("92:D0:c6:0a:29:33"));
        assert_eq!(endpoint.mac, "92:d0:c6:0a:29:33");
        assert!(inside(&sandbox, || ip("link show eth0")).contains(&endpoint.mac));
        assert!(inside(&sandbox, || ping(bridge.gateway())));
        for bad in [
            "",
            "92:d0",
            "92:d0:c6:0a:29:33:44",
            "93:d0:c6:0a:29:33",
            "+2:d0:c6:0a:29:33",
        ] {
            let error = bridge.attach(ID, &sandbox, &with_mac(bad)).unwrap_err();
            assert!(error.to_string().contains("mac address"), "{bad}: {error}");
        }
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    on_a_host(|| {
        let bridge = bridge(config());
        let (sandbox, endpoint) = attach(&bridge);
        let request = publish(Ipv4Addr::UNSPECIFIED, 8080, "tcp");
        let error = bridge.attach(ID, &sandbox, &request).unwrap_err();
        assert!(error.to_string().contains("eth0 already"), "{error}");
        assert_eq!(veths(), [endpoint.host_link]);
        TcpListener::bind("0.0.0.0:8080").unwrap();
        let freed = Ipv4Addr::new(172, 17, 0, 3);
        bridge.take(Some(freed)).unwrap();
        let (_, next) = attach_with(&bridge, &request);
        assert_eq!(next.ports[0].host_port, 8080);
    });
}

#[test]
fn many_at_once_get_addresses_of_their_own() {
    on_a_host(|| {
        let bridge = bridge(config());
        let round = || {
            let sandboxes = (0..10).map(|_| attach(&bridge));
            sandboxes.collect::<Vec<_>>()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(round)).collect();
            threads
                .into_iter()
                .flat_map(|t| t.join().unwrap())
                .collect()
        });
        let distinct: std::collections::BTreeSet<_> = all.iter().map(|(_, e)| address(e)).collect();
        assert_eq!(distinct.len(), 40);
        assert_eq!(veths().len(), 40);
        let (first, last) = (&all[0], &all[39]);
        assert!(inside(&first.0, || ping(address(&last.1))));
    });
}
