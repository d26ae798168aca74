//! Rules that come back, and those of the user, which stay.
use super::*;
use std::io::{Read, Write};

#[test]
fn whatever_is_deleted_comes_back_and_the_users_rules_stay() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let web = container(&one, 2);
        serve(&web.sandbox, 80);
        publish(&firewall, &web, &everywhere("tcp", 8080));
        let reached = || {
            for family in [0, 1] {
                let answer = ask_from(&outside, address(HOST[family]), 8080);
                assert_eq!(answer, OUTSIDER[family]);
            }
        };
        reached();
        assert!(!firewall.reconcile().unwrap());
        nft("add chain ip gantry-test mine");
        nft("add rule ip gantry-test mine ip daddr 203.0.113.9 drop");
        nft("add rule ip gantry-test user jump mine");
        nft("add rule ip6 gantry-test user tcp dport 9 drop");
        nft("add table inet stranger");
        assert!(!firewall.reconcile().unwrap());
        let whole = || without_handles(&nft("list ruleset"));
        let before = whole();
        for deletion in [
            "flush chain ip gantry-test published",
            "flush set ip gantry-test bridges",
            "flush map ip6 gantry-test ports",
            "delete element ip gantry-test ports { tcp . 8080 }",
            "add element ip gantry-test internal { br1 }",
            "add rule ip gantry-test reach counter drop",
            "chain ip gantry-test reach { policy drop; }",
            "flush chain ip gantry-test reach",
            "delete table ip6 gantry-test",
        ] {
            nft(deletion);
            assert!(firewall.reconcile().unwrap(), "{deletion}");
            reached();
            assert!(!firewall.reconcile().unwrap(), "{deletion}");
            if deletion.contains("delete table") {
                nft("add rule ip6 gantry-test user tcp dport 9 drop");
            }
            assert_eq!(whole(), before, "{deletion}");
        }
        nft("flush ruleset");
        assert!(firewall.reconcile().unwrap());
        reached();
        // A later daemon finds the user's rules, too.
        nft("add rule ip gantry-test user ip daddr 203.0.113.9 drop");
        drop(firewall);
        let later = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        publish(&later, &web, &everywhere("tcp", 8080));
        reached();
        assert!(nft("list chain ip gantry-test user").contains("203.0.113.9"));
        later.remove().unwrap();
        assert_eq!(nft("list ruleset"), "");
    });
}

/// Tables in the order of their names: those that were deleted come back at the end.
fn without_handles(ruleset: &str) -> Vec<String> {
    let mut tables: Vec<String> = ruleset.split("\n}\n").map(str::to_owned).collect();
    tables.sort();
    tables
}

#[test]
fn the_users_chain_sees_forwarded_packets_first() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let web = container(&one, 2);
        serve(&web.sandbox, 80);
        publish(&firewall, &web, &everywhere("tcp", 8080));
        let host = address(HOST[0]);
        ask_from(&outside, host, 8080);
        nft("add rule ip gantry-test user ip saddr 198.51.100.2 tcp dport 80 drop");
        refused_from(&outside, host, 8080);
        ask_from(&outside, address(HOST[1]), 8080);
        nft("flush chain ip gantry-test user");
        ask_from(&outside, host, 8080);
        // As docs/networks.md has it.
        nft(
            "add rule ip gantry-test user meta l4proto tcp ct original proto-dst 8080 ip saddr 198.51.100.0/24 drop",
        );
        refused_from(&outside, host, 8080);
    });
}

#[test]
fn tables_of_another_release_are_taken_over() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let file = std::env::temp_dir().join(format!("gantry-old-{}.nft", std::process::id()));
        std::fs::write(
            &file,
            "table ip gantry-test {
                set bridges { type ifname; elements = { \"br9\" } }
                map ports { type inet_proto . inet_service : ipv4_addr; }
                chain reach {
                    type filter hook forward priority 0; policy accept;
                    iifname @bridges counter drop
                }
                chain admit { type filter hook input priority 0; policy accept; drop; }
                chain user { ip daddr 203.0.113.9 drop; }
            }",
        )
        .unwrap();
        let loaded = std::process::Command::new("nft")
            .arg("-f")
            .arg(&file)
            .status();
        std::fs::remove_file(&file).unwrap();
        assert!(loaded.unwrap().success());
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let web = container(&one, 2);
        serve(&web.sandbox, 80);
        publish(&firewall, &web, &everywhere("tcp", 8080));
        ask_from(&outside, address(HOST[0]), 8080);
        let table = nft("list table ip gantry-test");
        assert!(table.contains("203.0.113.9"), "{table}");
        assert!(
            !table.contains("br9") && !table.contains("chain admit"),
            "{table}"
        );
    });
}

#[test]
fn tables_are_made_when_they_are_needed() {
    on_a_host(|| {
        let families = || {
            let tables = nft("list tables");
            let family = |line: &str| line.split(' ').nth(1).map(str::to_owned);
            tables.lines().filter_map(family).collect::<Vec<_>>()
        };
        let mut one = bridge(1);
        let both = std::mem::take(&mut one.subnets);
        one.subnets = both[..1].to_vec();
        let firewall = Firewall::open(options(), &[one.clone()]).unwrap();
        assert_eq!(families(), ["ip"]);
        one.subnets = both;
        firewall.add_bridge(&one).unwrap();
        assert_eq!(families(), ["ip", "ip6"]);
        let closed = BridgeRules {
            icc: false,
            ..bridge(2)
        };
        firewall.add_bridge(&closed).unwrap();
        assert_eq!(families(), ["ip", "ip6", "bridge"]);
        for link in ["br1", "br2", "br2", "other"] {
            firewall.remove_bridge(link).unwrap();
        }
        assert!(!nft("list ruleset").contains("elements"));
        firewall.remove().unwrap();

        let alone = FirewallOptions {
            v4: false,
            v6: false,
            ..options()
        };
        let firewall = Firewall::open(alone, &[closed]).unwrap();
        firewall
            .publish("br2", &everywhere("tcp", 80), Targets::default())
            .unwrap();
        assert!(!firewall.reconcile().unwrap());
        assert_eq!(nft("list ruleset"), "");
    });
}

/// An echo of UDP datagrams with a name in front.
fn echo(sandbox: &Sandbox, name: &'static str) {
    let socket = inside(sandbox, || UdpSocket::bind("[::]:80").unwrap());
    std::thread::spawn(move || {
        while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(name.as_bytes(), peer);
        }
    });
}

#[test]
fn a_client_of_udp_is_led_to_the_ports_new_owner_without_a_pause() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let (first, second) = (container(&one, 2), container(&one, 3));
        echo(&first.sandbox, "first");
        echo(&second.sandbox, "second");
        for family in [0, 1] {
            let client = inside(&outside, || {
                let any = ["0.0.0.0:0", "[::]:0"][family];
                let socket = UdpSocket::bind(any).unwrap();
                socket.connect((address(HOST[family]), 5300)).unwrap();
                let patience = Some(Duration::from_millis(50));
                socket.set_read_timeout(patience).unwrap();
                socket
            });
            let answer = || {
                let mut buffer = [0; 64];
                let _ = client.send(b"x");
                let length = client.recv(&mut buffer).unwrap_or_default();
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            };
            let ports = everywhere("udp", 5300);
            // Nobody is there yet, and the client does not stop asking.
            assert_eq!(answer(), "");
            publish(&firewall, &first, &ports);
            assert!(eventually(|| answer() == "first"));
            firewall.unpublish("br1", &ports, first.targets).unwrap();
            assert!(eventually(|| answer().is_empty()));
            publish(&firewall, &second, &ports);
            assert!(eventually(|| answer() == "second"));
            firewall.forget(second.targets);
            assert!(eventually(|| answer() == "second"));
            firewall.unpublish("br1", &ports, second.targets).unwrap();
        }
    });
}

#[test]
fn a_later_daemon_takes_the_tables_over_in_one_step() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let web = container(&one, 2);
        serve(&web.sandbox, 80);
        let first = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        publish(&first, &web, &everywhere("tcp", 8080));
        drop(first);
        let second = Firewall::new(options(), false).unwrap();
        second.add_bridge(&one).unwrap();
        for host in HOST {
            ask_from(&outside, address(host), 8080);
        }
        publish(&second, &web, &everywhere("tcp", 8081));
        refused_from(&outside, address(HOST[0]), 8081);
        second.load_all().unwrap();
        ask_from(&outside, address(HOST[0]), 8081);
        refused_from(&outside, address(HOST[0]), 8080);
    });
}

#[test]
fn a_connection_outlives_its_port_and_new_ones_are_refused() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let web = container(&one, 2);
        let listener = inside(&web.sandbox, || TcpListener::bind("[::]:80").unwrap());
        let ports = crate::ports::Ports::default();
        let published = everywhere("tcp", 8080);
        ports.retake(&published, web.targets).unwrap();
        publish(&firewall, &web, &published);
        for host in HOST.map(address) {
            let mut client = inside(&outside, || TcpStream::connect((host, 8080)).unwrap());
            let (mut server, _) = listener.accept().unwrap();
            firewall.unpublish("br1", &published, web.targets).unwrap();
            ports.release(&published);
            let refused = inside(&outside, || ask(host, 8080, PATIENCE)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            for _ in 0..2 {
                server.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
            ports.retake(&published, web.targets).unwrap();
            publish(&firewall, &web, &published);
        }
    });
}
