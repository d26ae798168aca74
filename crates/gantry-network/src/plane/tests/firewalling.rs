use super::*;
use std::net::UdpSocket;

const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[test]
fn a_port_is_reached_from_everywhere() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let (web, endpoint) = attach_with(&bridge, &publish(ANY, 8080, "tcp"));
        let (other, neighbour) = attach(&bridge);
        serve(&web, 80);
        assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
        assert_eq!(ask(HOST, 8080, PATIENCE).unwrap(), HOST.to_string());
        assert_eq!(ask(LOCALHOST, 8080, PATIENCE).unwrap(), "172.17.0.1");
        assert_eq!(ask_from(&other, bridge.gateway(), 8080), "172.17.0.1");
        assert_eq!(ask_from(&other, HOST, 8080), "172.17.0.1");
        assert_eq!(ask_from(&web, HOST, 8080), "172.17.0.1");
        let answer = ask_from(&other, address(&endpoint), 80);
        assert_eq!(answer, address(&neighbour).to_string());

        bridge.release(&endpoint).unwrap();
        refused_from(&outside, HOST, 8080);
        assert!(ask(LOCALHOST, 8080, REFUSAL_PATIENCE).is_err());
    });
}

#[test]
fn a_port_of_localhost_is_for_the_host_alone() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let (web, _) = attach_with(&bridge, &publish(LOCALHOST, 8080, "tcp"));
        let (other, _) = attach(&bridge);
        serve(&web, 80);
        assert_eq!(ask(LOCALHOST, 8080, PATIENCE).unwrap(), "172.17.0.1");
        assert!(ask(HOST, 8080, REFUSAL_PATIENCE).is_err());
        for stranger in [&outside, &other] {
            refused_from(stranger, HOST, 8080);
        }
        refused_from(&other, bridge.gateway(), 8080);
        // Not even when they say that they mean 127.0.0.1.
        send_loopback_to(&outside, HOST);
        send_loopback_to(&other, bridge.gateway());
        for stranger in [&outside, &other] {
            refused_from(stranger, LOCALHOST, 8080);
        }
    });
}

#[test]
fn containers_do_not_reach_the_hosts_loopback() {
    on_a_host(|| {
        let bridge = bridge(config());
        let (one, _) = attach_with(&bridge, &publish(ANY, 8080, "tcp"));
        let _secret = TcpListener::bind("127.0.0.1:81").unwrap();
        ask(LOCALHOST, 81, REFUSAL_PATIENCE).expect_err("it accepts, and says nothing");
        TcpStream::connect("127.0.0.1:81").unwrap();
        send_loopback_to(&one, bridge.gateway());
        let address = SocketAddr::from((LOCALHOST, 81));
        let connected = inside(&one, || {
            TcpStream::connect_timeout(&address, REFUSAL_PATIENCE)
        });
        assert!(connected.is_err());
    });
}

#[test]
fn a_container_is_not_reached_past_its_ports() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let (web, endpoint) = attach_with(&bridge, &publish(HOST, 8080, "tcp"));
        serve(&web, 80);
        inside(&outside, || {
            ip(&format!("route add 172.17.0.0/16 via {HOST}"))
        });
        refused_from(&outside, address(&endpoint), 80);
        assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
        assert!(ask(LOCALHOST, 8080, REFUSAL_PATIENCE).is_err());
    });
}

#[test]
fn udp_is_published_beside_tcp() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let mut request = publish(ANY, 8080, "udp");
        request.ports.extend(publish(ANY, 8080, "tcp").ports);
        let (server, _) = attach_with(&bridge, &request);
        serve(&server, 80);
        let socket = inside(&server, || UdpSocket::bind("0.0.0.0:80").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], peer);
            }
        });
        let echo = |address: Ipv4Addr| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect((address, 8080)).unwrap();
            socket.send(b"hello").unwrap();
            let mut buffer = [0; 64];
            socket.recv(&mut buffer).map(|length| length == 5)
        };
        assert!(inside(&outside, || echo(HOST)).unwrap());
        assert!(echo(LOCALHOST).unwrap());
        assert!(echo(HOST).unwrap());
        assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
    });
}

#[test]
fn conflicts_are_told_in_dockers_words_and_ephemeral_ports_avoid_them() {
    on_a_host(|| {
        let bridge = bridge(config());
        let _taken = TcpListener::bind("127.0.0.1:8080").unwrap();
        let sandbox = Sandbox::new().unwrap();
        let error = |port| {
            bridge
                .attach(ID, &sandbox, &publish(ANY, port, "tcp"))
                .unwrap_err()
        };
        let bound =
            "failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: address already in use";
        assert_eq!(error(8080).to_string(), bound);
        let (_one, _) = attach_with(&bridge, &publish(LOCALHOST, 8081, "tcp"));
        let allocated = "Bind for 127.0.0.1:8081 failed: port is already allocated";
        assert_eq!(error(8081).to_string(), allocated);
        let _next = TcpListener::bind("127.0.0.1:32768").unwrap();
        let (web, endpoint) = attach_with(&bridge, &publish(ANY, 0, "tcp"));
        let port = endpoint.ports[0].host_port;
        assert!(port > 32768);
        serve(&web, 80);
        assert_eq!(ask(LOCALHOST, port, PATIENCE).unwrap(), "172.17.0.1");
        assert!(TcpListener::bind(("0.0.0.0", port)).is_err());
    });
}

#[test]
fn other_tables_are_left_alone() {
    on_a_host(|| {
        nft("add table ip theirs");
        nft("add chain ip theirs c { type nat hook prerouting priority dstnat; }");
        nft("add table inet gantry-test");
        let before = nft("list ruleset");
        let first = bridge(config());
        let (_sandbox, endpoint) = attach_with(&first, &publish(ANY, 8080, "tcp"));
        let with_port = nft("list ruleset");
        assert!(
            with_port.contains("tcp . 8080 : 172.17.0.2 . 80"),
            "{with_port}"
        );
        assert!(
            with_port.contains("elements = { \"docker0\" }"),
            "{with_port}"
        );
        first.release(&endpoint).unwrap();
        // As long as it lives it puts its rules back.
        drop(first);
        bridge(config()).remove().unwrap();
        assert_eq!(nft("list ruleset"), before);
    });
}

#[test]
fn flushed_rules_come_back() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let (web, first) = attach_with(&bridge, &publish(ANY, 8080, "tcp"));
        serve(&web, 80);
        for _ in 0..3 {
            nft("flush ruleset");
            // Who comes meanwhile gets through, as the host's own socket stays silent.
            assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
        }

        // A new port brings them back, too.
        nft("flush ruleset");
        let (more, second) = attach_with(&bridge, &publish(ANY, 8081, "tcp"));
        serve(&more, 80);
        assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
        assert_eq!(ask_from(&outside, HOST, 8081), OUTSIDER.to_string());
        nft("flush ruleset");
        bridge.release(&first).unwrap();
        bridge.release(&second).unwrap();
        bridge.remove().unwrap();
    });
}
