//! Which packets pass.
use super::*;

#[test]
fn ports_are_reached_from_everywhere() {
    on_a_host(|| {
        let outside = outsider();
        let (one, two) = (bridge(1), bridge(2));
        let firewall = Firewall::open(options(), &[one.clone(), two.clone()]).unwrap();
        let web = container(&one, 2);
        let (neighbour, stranger) = (container(&one, 3), container(&two, 2));
        serve(&web.sandbox, 80);
        publish(&firewall, &web, &everywhere("tcp", 8080));
        let gateway = ["10.1.0.1", "fd00:1::1"];
        for family in [0, 1] {
            let host = address(HOST[family]);
            assert_eq!(ask_from(&outside, host, 8080), OUTSIDER[family]);
            assert_eq!(ask(host, 8080, PATIENCE).unwrap(), HOST[family]);
            for inner in [&web, &neighbour, &stranger] {
                assert_eq!(ask_from(&inner.sandbox, host, 8080), gateway[family]);
            }
            let bridge = address(gateway[family]);
            assert_eq!(ask_from(&stranger.sandbox, bridge, 8080), gateway[family]);
            let direct = ask_from(&neighbour.sandbox, web.address(family), 80);
            assert_eq!(direct, neighbour.address(family).to_string());
        }
        let answer = ask(address("127.0.0.1"), 8080, PATIENCE).unwrap();
        assert_eq!(answer, gateway[0]);

        firewall
            .unpublish("br1", &everywhere("tcp", 8080), web.targets)
            .unwrap();
        for host in HOST {
            refused_from(&outside, address(host), 8080);
        }
    });
}

#[test]
fn a_port_at_the_ipv6_loopback_says_no_at_once() {
    on_a_host(|| {
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let web = container(&one, 2);
        let ports = crate::ports::Ports::default();
        for protocol in ["tcp", "udp"] {
            let published = everywhere(protocol, 8080);
            ports.retake(&published, web.targets).unwrap();
            publish(&firewall, &web, &published);
        }
        let refused = ask(address("::1"), 8080, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        socket.connect("[::1]:8080").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"x").unwrap();
        let refused = socket.recv(&mut [0; 1]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn bridges_are_kept_apart_and_from_the_outside() {
    on_a_host(|| {
        let outside = outsider();
        route_directly(&outside);
        let (one, two) = (bridge(1), bridge(2));
        let inner = BridgeRules {
            internal: true,
            ..bridge(3)
        };
        let all = [one.clone(), two.clone(), inner.clone()];
        let firewall = Firewall::open(options(), &all).unwrap();
        let (web, stranger) = (container(&one, 2), container(&two, 2));
        let (closed, beside) = (container(&inner, 2), container(&inner, 3));
        for machine in [&web, &stranger, &closed] {
            serve(&machine.sandbox, 80);
        }
        serve(&outside, 80);
        publish(&firewall, &web, &everywhere("tcp", 8080));
        for family in [0, 1] {
            let out = address(OUTSIDER[family]);
            let gateway = address(["10.3.0.1", "fd00:3::1"][family]);
            refused_from(&closed.sandbox, gateway, 8080);
            refused_from(&closed.sandbox, address(HOST[family]), 8080);
            refused_from(&stranger.sandbox, web.address(family), 80);
            refused_from(&outside, web.address(family), 80);
            assert_eq!(ask_from(&web.sandbox, out, 80), HOST[family]);
            // An internal network has neither a way out nor one in, but is open within and to the host.
            refused_from(&closed.sandbox, out, 80);
            refused_from(&closed.sandbox, web.address(family), 80);
            refused_from(&outside, closed.address(family), 80);
            refused_from(&web.sandbox, closed.address(family), 80);
            let answer = ask_from(&beside.sandbox, closed.address(family), 80);
            assert_eq!(answer, beside.address(family).to_string());
            ask(closed.address(family), 80, PATIENCE).unwrap();
        }
    });
}

#[test]
fn without_icc_only_links_are_open() {
    on_a_host(only_links_are_open);
}

/// Most machines do not show bridged packets to the tables of IPv4 and IPv6.
#[test]
fn without_icc_only_links_are_open_without_br_netfilter_either() {
    on_a_host(|| {
        for name in ["iptables", "ip6tables"] {
            let file = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
            if std::path::Path::new(&file).exists() {
                std::fs::write(file, "0").unwrap();
            }
        }
        only_links_are_open();
    });
}

fn only_links_are_open() {
    let outside = outsider();
    let one = BridgeRules {
        icc: false,
        ..bridge(1)
    };
    let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
    let (web, client) = (container(&one, 2), container(&one, 3));
    for port in [80, 81] {
        serve(&web.sandbox, port);
    }
    serve(&outside, 80);
    let ports = [LinkedPort {
        port: 80,
        protocol: "tcp".into(),
    }];
    publish(&firewall, &web, &everywhere("tcp", 8080));
    for by_router in [false, true] {
        // A container may send to its neighbour by way of the host.
        if by_router {
            inside(&client.sandbox, || {
                ip(&format!("route add {} via 10.1.0.1", web.address(0)));
                ip(&format!("route add {} via fd00:1::1", web.address(1)));
            });
        }
        for family in [0, 1] {
            let gateway = ["10.1.0.1", "fd00:1::1"][family];
            refused_from(&client.sandbox, web.address(family), 80);
            refused_from(&client.sandbox, web.address(family), 8080);
            // What is published is so for neighbours, too.
            for host in [HOST[family], gateway] {
                assert_eq!(ask_from(&client.sandbox, address(host), 8080), gateway);
                assert_eq!(ask_from(&web.sandbox, address(host), 8080), gateway);
            }
        }
        firewall.link(client.targets, web.targets, &ports).unwrap();
        for family in [0, 1] {
            let answer = ask_from(&client.sandbox, web.address(family), 80);
            assert_eq!(answer, client.address(family).to_string());
            refused_from(&client.sandbox, web.address(family), 81);
            let out = address(OUTSIDER[family]);
            assert_eq!(ask_from(&client.sandbox, out, 80), HOST[family]);
            ask_from(&client.sandbox, address(HOST[family]), 8080);
            ask_from(&outside, address(HOST[family]), 8080);
        }
        firewall
            .unlink(client.targets, web.targets, &ports)
            .unwrap();
        for family in [0, 1] {
            refused_from(&client.sandbox, web.address(family), 80);
        }
    }
}

#[test]
fn gateway_modes_open_what_they_say() {
    on_a_host(|| {
        let outside = outsider();
        route_directly(&outside);
        serve(&outside, 80);
        let with = |number, mode| BridgeRules {
            gateway_mode_v4: mode,
            gateway_mode_v6: mode,
            ..bridge(number)
        };
        let open = with(1, GatewayMode::NatUnprotected);
        let routed = with(2, GatewayMode::Routed);
        let trusting = BridgeRules {
            trusted_links: vec!["uplink".into()],
            ..with(3, GatewayMode::Nat)
        };
        let plain = with(4, GatewayMode::Nat);
        let all = [&open, &routed, &trusting, &plain].map(Clone::clone);
        let firewall = Firewall::open(options(), &all).unwrap();
        let machines = [&open, &routed, &trusting, &plain].map(|rules| container(rules, 2));
        for (number, machine) in (8080..).zip(&machines) {
            for port in [80, 81] {
                serve(&machine.sandbox, port);
            }
            let number = if machine.link == "br2" { 0 } else { number };
            publish(&firewall, machine, &everywhere("tcp", number));
        }
        let [open, routed, trusting, plain] = &machines;
        for family in [0, 1] {
            let reached = |machine: &Container, port| {
                let answer = ask_from(&outside, machine.address(family), port);
                assert_eq!(answer, OUTSIDER[family]);
            };
            reached(open, 80);
            reached(open, 81);
            reached(routed, 80);
            reached(trusting, 80);
            refused_from(&outside, routed.address(family), 81);
            refused_from(&outside, trusting.address(family), 81);
            refused_from(&outside, plain.address(family), 80);
            refused_from(&plain.sandbox, trusting.address(family), 80);
            refused_from(&plain.sandbox, open.address(family), 80);
            ask_from(&plain.sandbox, routed.address(family), 80);
            let out = address(OUTSIDER[family]);
            // It is not translated on its way out.
            let answer = ask_from(&routed.sandbox, out, 80);
            assert_eq!(answer, routed.address(family).to_string());
            assert_eq!(ask_from(&plain.sandbox, out, 80), HOST[family]);
            ask_from(&outside, address(HOST[family]), 8080);
        }
        drop(firewall);
        let direct = FirewallOptions {
            allow_direct_routing: true,
            ..options()
        };
        let firewall = Firewall::open(direct, &all).unwrap();
        publish(&firewall, plain, &everywhere("tcp", 8083));
        for family in [0, 1] {
            ask_from(&outside, plain.address(family), 80);
            refused_from(&outside, plain.address(family), 81);
            refused_from(&open.sandbox, plain.address(family), 80);
        }
    });
}

#[test]
fn what_leaves_has_the_address_that_the_network_says() {
    on_a_host(|| {
        let outside = outsider();
        serve(&outside, 80);
        ip("address add 198.51.100.9/32 dev uplink");
        ip("address add 2001:db8::9/128 dev uplink nodad");
        let own = BridgeRules {
            source: vec![address("198.51.100.9"), address("2001:db8::9")],
            ..bridge(1)
        };
        let bare = BridgeRules {
            masquerade: false,
            ..bridge(2)
        };
        let _firewall = Firewall::open(options(), &[own.clone(), bare.clone()]).unwrap();
        route_directly(&outside);
        let (own, bare) = (container(&own, 2), container(&bare, 2));
        for (family, wanted) in ["198.51.100.9", "2001:db8::9"].into_iter().enumerate() {
            let out = address(OUTSIDER[family]);
            assert_eq!(ask_from(&own.sandbox, out, 80), wanted);
            let answer = ask_from(&bare.sandbox, out, 80);
            assert_eq!(answer, bare.address(family).to_string());
        }
    });
}
