//! Published ports behind the host's own rules for input (`respect-host-firewall`).
use super::*;
use crate::ports::Ports;
use std::sync::Arc;

struct Scene {
    outside: Sandbox,
    web: Container,
    firewall: Arc<Firewall>,
    _ports: Ports,
}

/// A container that serves TCP on 8080 and 8081, its ports held as always.
fn scene() -> Scene {
    let outside = outsider();
    let one = bridge(1);
    let options = FirewallOptions {
        respect_host_firewall: true,
        ..options()
    };
    let firewall = Arc::new(Firewall::open(options, std::slice::from_ref(&one)).unwrap());
    let web = container(&one, 2);
    serve(&web.sandbox, 80);
    let ports = Ports::default();
    for number in [8080, 8081] {
        let published = everywhere("tcp", number);
        ports.retake(&published, web.targets).unwrap();
        publish(&firewall, &web, &published);
    }
    Scene {
        outside,
        web,
        firewall,
        _ports: ports,
    }
}

fn both_iptables(arguments: &str) {
    run("iptables-nft", arguments);
    run("ip6tables-nft", arguments);
}

/// What `ufw default deny` comes down to.
fn deny_input() {
    both_iptables("-A INPUT -i lo -j ACCEPT");
    both_iptables("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    run("ip6tables-nft", "-A INPUT -p ipv6-icmp -j ACCEPT");
    both_iptables("-P INPUT DROP");
}

#[test]
fn without_rules_of_the_host_all_is_open_after_a_second() {
    on_a_host(|| {
        let scene = scene();
        for family in [0, 1] {
            let host = address(HOST[family]);
            assert_eq!(ask_from(&scene.outside, host, 8080), OUTSIDER[family]);
            // From now on there is no second to wait for. (The machine may be slow now and then.)
            let is_quick = |ask: &dyn Fn() -> String, wanted: &str| {
                (0..5).any(|_| {
                    let start = Instant::now();
                    assert_eq!(ask(), wanted);
                    start.elapsed() < Duration::from_millis(500)
                })
            };
            let from_outside = || ask_from(&scene.outside, host, 8080);
            assert!(is_quick(&from_outside, OUTSIDER[family]));
            // The host asks nobody.
            let from_host = || ask(host, 8080, PATIENCE).unwrap();
            assert!(is_quick(&from_host, HOST[family]));
        }
        assert_eq!(
            ask(address("127.0.0.1"), 8080, PATIENCE).unwrap(),
            "10.1.0.1"
        );
        // Nothing else is kept from those who have not been noted.
        let own = TcpListener::bind("0.0.0.0:81").unwrap();
        inside(&scene.outside, || TcpStream::connect((HOST[0], 81))).unwrap();
        drop(own);
        refused_from(&scene.outside, address(HOST[0]), 8082);
    });
}

#[test]
fn what_the_host_denies_is_closed_and_what_it_allows_is_open() {
    on_a_host(|| {
        let scene = scene();
        let _watch = scene.firewall.watch().unwrap();
        deny_input();
        let hosts = HOST.map(address);
        let closed = |port| {
            let answer = |host| inside(&scene.outside, || ask(host, port, PATIENCE / 2));
            hosts.map(answer).iter().all(Result::is_err)
        };
        assert!(closed(8080));
        both_iptables("-A INPUT -p tcp --dport 8080 -j ACCEPT");
        for (host, client) in hosts.into_iter().zip(OUTSIDER) {
            assert_eq!(ask_from(&scene.outside, host, 8080), client);
        }
        assert!(closed(8081));
        // Containers are asked like others.
        assert_eq!(ask_from(&scene.web.sandbox, hosts[0], 8080), "10.1.0.1");
        // Taken back: for those who were let in before, too.
        both_iptables("-D INPUT -p tcp --dport 8080 -j ACCEPT");
        let taken_back = || {
            let answer = inside(&scene.outside, || ask(hosts[0], 8080, REFUSAL_PATIENCE));
            answer.is_err()
        };
        assert!(eventually(taken_back));
        assert!(closed(8080));
    });
}

#[test]
fn only_the_source_that_the_host_allows_is_let_in() {
    on_a_host(|| {
        let scene = scene();
        deny_input();
        inside(&scene.outside, || {
            ip("address add 198.51.100.3/24 dev eth0");
        });
        run(
            "iptables-nft",
            "-A INPUT -s 198.51.100.3 -p tcp --dport 8080 -j ACCEPT",
        );
        let from = |source: &str| {
            inside(&scene.outside, || {
                let route = format!("route replace 198.51.100.1/32 dev eth0 src {source}");
                ip(&route);
                ask(address(HOST[0]), 8080, PATIENCE / 2)
            })
        };
        assert!(from("198.51.100.2").is_err());
        assert_eq!(from("198.51.100.3").unwrap(), "198.51.100.3");
        assert!(from("198.51.100.2").is_err());
    });
}

#[test]
fn firewalld_is_asked_as_well() {
    on_a_host(|| {
        let scene = scene();
        for rule in [
            "add table inet firewalld",
            "add chain inet firewalld filter_INPUT { type filter hook input priority 10; }",
            "add rule inet firewalld filter_INPUT ct state established,related accept",
            "add rule inet firewalld filter_INPUT meta l4proto ipv6-icmp accept",
            "add rule inet firewalld filter_INPUT tcp dport 8080 accept",
            "add rule inet firewalld filter_INPUT reject with icmpx admin-prohibited",
        ] {
            nft(rule);
        }
        scene.firewall.reconcile().unwrap();
        let own = TcpListener::bind("[::]:82").unwrap();
        for host in HOST.map(address) {
            ask_from(&scene.outside, host, 8080);
            refused_from(&scene.outside, host, 8081);
            // Containers, which it lets reach the host itself, are asked about published ports.
            ask_from(&scene.web.sandbox, host, 8080);
            refused_from(&scene.web.sandbox, host, 8081);
            inside(&scene.web.sandbox, || TcpStream::connect((host, 82))).unwrap();
        }
        drop(own);
    });
}

#[test]
fn datagrams_after_the_first_arrive() {
    on_a_host(|| {
        let scene = scene();
        let published = everywhere("udp", 5300);
        scene._ports.retake(&published, scene.web.targets).unwrap();
        publish(&scene.firewall, &scene.web, &published);
        deny_input();
        let server = inside(&scene.web.sandbox, || UdpSocket::bind("[::]:80").unwrap());
        let arrives = |host: &str, patience: Duration| {
            server.set_read_timeout(Some(patience)).unwrap();
            inside(&scene.outside, || {
                let any = if host.contains(':') {
                    "[::]:0"
                } else {
                    "0.0.0.0:0"
                };
                let socket = UdpSocket::bind(any).unwrap();
                socket.send_to(b"x", (address(host), 5300)).unwrap();
            });
            server.recv_from(&mut [0; 1]).is_ok()
        };
        for host in HOST {
            assert!(!arrives(host, REFUSAL_PATIENCE) && !arrives(host, REFUSAL_PATIENCE));
        }
        both_iptables("-A INPUT -p udp --dport 5300 -j ACCEPT");
        for host in HOST {
            assert!(!arrives(host, REFUSAL_PATIENCE));
            assert!(arrives(host, PATIENCE) && arrives(host, PATIENCE));
        }
    });
}
