//! Published ports, from everywhere: the outside, the machine by its addresses and by localhost, other containers, and the
//! container itself.

use super::{PATIENCE, Site};
use gantry_testkit::{Machine, ran};
use std::time::{Duration, Instant};

const V4: &str = Machine::ADDRESS;
const V6: &str = Machine::ADDRESS6;

#[test]
fn a_port_is_reached_from_everywhere() {
    let site = Site::new();
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80");
    site.idle("neighbour", "--network mine");
    site.idle("stranger", "");
    let gateway = site.endpoint("server", "mine")["Gateway"].clone();
    let gateway = gateway.as_str().unwrap();
    let from_host = |place: &str| site.host_fetch(&format!("{place}:8080/"));
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "server");
    for place in [V4, "127.0.0.1", "127.0.0.5", gateway, &format!("[{V6}]")] {
        assert_eq!(from_host(place), "server", "{place}");
    }
    assert_eq!(site.outside_fetch(&format!("[{V6}]:8080/")), "server");
    for name in ["neighbour", "stranger", "server"] {
        let place = format!("{V4}:8080/");
        assert_eq!(site.fetch(name, &place), "server", "from {name}");
    }
    assert_eq!(site.fetch("server", &format!("{gateway}:8080/")), "server");
    // Who asks from without is seen as who it is.
    assert_eq!(
        site.outside_fetch(&format!("{V4}:8080/cgi-bin/who")),
        Machine::OUTSIDE
    );
    assert_eq!(
        site.ok("port server"),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"
    );
    assert_eq!(
        site.ok("ps --filter name=server --format {{.Ports}}"),
        "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
    );
    // Nothing else is open.
    assert_eq!(site.outside_fetch(&format!("{V4}:8081/")), "");
    site.ok("stop -t 0 server");
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "");
    assert_eq!(from_host("127.0.0.1"), "");
}

#[test]
fn a_port_on_one_address_is_on_no_other() {
    let site = Site::new();
    site.host("ip addr add 192.0.2.129/32 dev out").ok();
    let words = ["ip", "route", "add", "192.0.2.129/32", "via", V4];
    assert!(site.machine.outside(&words).status().unwrap().success());
    site.web("local", "-p 127.0.0.1:8080:80");
    site.web("one", "-p 192.0.2.129:8081:80");
    site.ok("network create --ipv6 sixes");
    site.web("six", &format!("--network sixes -p [{V6}]:8082:80"));
    assert_eq!(site.host_fetch("127.0.0.1:8080/"), "local");
    assert_eq!(site.host_fetch(&format!("{V4}:8080/")), "");
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "");
    assert_eq!(site.host_fetch("192.0.2.129:8081/"), "one");
    assert_eq!(site.outside_fetch("192.0.2.129:8081/"), "one");
    assert_eq!(site.outside_fetch(&format!("{V4}:8081/")), "");
    assert_eq!(site.host_fetch("127.0.0.1:8081/"), "");
    assert_eq!(site.outside_fetch(&format!("[{V6}]:8082/")), "six");
    assert_eq!(site.host_fetch(&format!("[{V6}]:8082/")), "six");
    assert_eq!(site.outside_fetch(&format!("{V4}:8082/")), "");
    // A neighbour who sends what is for 127.0.0.1 over the wire gets nothing.
    let routes = [
        "sh",
        "-c",
        "sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.in.route_localnet=1; ip route add 127.9.0.0/16 via 192.0.2.1",
    ];
    assert!(site.machine.outside(&routes).status().unwrap().success());
    site.web("nine", "-p 127.9.0.1:8083:80");
    assert_eq!(site.host_fetch("127.9.0.1:8083/"), "nine");
    assert_eq!(site.outside_fetch("127.9.0.1:8083/"), "");
    // And nobody reaches the container's own address by way of the machine.
    let address = site.address("local", "bridge");
    let words = ["ip", "route", "add", &format!("{address}/32"), "via", V4];
    assert!(site.machine.outside(&words).status().unwrap().success());
    assert_eq!(site.outside_fetch(&format!("{address}/")), "");
}

#[test]
fn ports_are_chosen_by_ranges_and_by_the_kernel() {
    let site = Site::new();
    site.ok("network create --ipv6 mine");
    site.web("aa", "--network mine -p 8090-8092:80");
    site.web("bb", "--network mine -p 8090-8092:80");
    assert_eq!(site.ok("port aa 80"), "0.0.0.0:8090\n[::]:8090");
    assert_eq!(site.ok("port bb 80"), "0.0.0.0:8091\n[::]:8091");
    site.web(
        "cc",
        "-p 7000-7001:80-81/tcp -p 80 -p 0.0.0.0::80 --expose 99 -P",
    );
    let ports = site.engine.inspect("cc")["NetworkSettings"]["Ports"].clone();
    let hosts = |port: &str| -> Vec<(String, u16)> {
        ports[port]
            .as_array()
            .unwrap()
            .iter()
            .map(|at| {
                let text = |key: &str| at[key].as_str().unwrap().to_owned();
                (text("HostIp"), text("HostPort").parse().unwrap())
            })
            .collect()
    };
    assert!(hosts("80/tcp").contains(&("0.0.0.0".to_owned(), 7000)));
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut range = range
        .split_whitespace()
        .map(|number| number.parse::<u16>().unwrap());
    let (first, last) = (range.next().unwrap(), range.next().unwrap());
    let chosen: Vec<u16> = hosts("80/tcp")
        .into_iter()
        .filter(|(_, port)| *port != 7000)
        .map(|(_, port)| port)
        .chain(hosts("99/tcp").into_iter().map(|(_, port)| port))
        .collect();
    assert!(chosen.len() >= 3, "{chosen:?}");
    for port in &chosen {
        assert!((first..=last).contains(port), "{port}");
    }
    for (host, port) in hosts("80/tcp") {
        if host == "0.0.0.0" {
            assert_eq!(site.outside_fetch(&format!("{V4}:{port}/")), "cc");
        }
    }
    // All of a range in use, a port in use by a container, one in use by somebody else.
    site.web("dd", "-p 8090-8092:80");
    for (flags, words) in [
        ("-p 8090-8092:80", "all ports are allocated"),
        (
            "-p 7000:80",
            "Bind for 0.0.0.0:7000 failed: port is already allocated",
        ),
        (
            "-p 127.0.0.1:7000:80",
            "Bind for 0.0.0.0:7000 failed: port is already allocated",
        ),
    ] {
        let told = site.fails(&format!("run --rm {flags} busybox true"), 125);
        assert!(told.contains(words), "{flags}: {told}");
    }
    let listen = "import socket, time; s = socket.create_server(('', 7005)); time.sleep(1000)";
    let other = site
        .machine
        .inside(&["/usr/bin/python3", "-c", listen])
        .spawn();
    let mut other = other.unwrap();
    gantry_testkit::until("the port is taken", PATIENCE, || {
        site.host("ss -Hltn sport = 7005").stdout.contains("7005")
    });
    let told = site.fails("run --rm -p 7005:80 busybox true", 125);
    assert!(told.contains("address already in use"), "{told}");
    other.kill().unwrap();
    other.wait().unwrap();
    // What failed has taken nothing.
    site.ok("run --rm -p 7005:80 busybox true");
}

/// Says back what it is told by UDP on port 9000, with its own name before.
pub(super) const ECHO: &str = "use Socket; socket(S, AF_INET6, SOCK_DGRAM, 0); setsockopt(S, IPPROTO_IPV6, 26, 0); \
                    bind(S, sockaddr_in6(9000, Socket::IN6ADDR_ANY)) or die; while (my $from = recv(S, $b, 2000, 0)) \
                    { send(S, \"$ARGV[0]: $b\", 0, $from) }";

#[test]
fn udp_finds_the_container_of_now() {
    let site = Site::with_servers(&[]);
    let echo = |name: &str, flags: &str| {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(flags.split(' '));
        words.extend(["servers", "perl", "-e", ECHO, name]);
        site.engine.gantry(&words).ok();
        let up = "until ss -Hlun | grep -q :9000; do sleep 0.02; done";
        site.shell(name, up).ok();
    };
    // From one port all the time: the kernel remembers where its packets went.
    let ask = |place: &str| {
        let script = format!(
            "import socket\nf=socket.AF_INET6 if ':' in '{place}' else socket.AF_INET\ns=socket.socket(f,socket.SOCK_DGRAM)\n\
             s.bind(('',4444));s.settimeout(1)\ns.sendto(b'hi',('{place}',9000))\n\
             try:print(s.recv(99).decode())\nexcept Exception:pass"
        );
        let ran = ran(
            site.machine.outside(&["/usr/bin/python3", "-c", &script]),
            b"",
            PATIENCE,
        );
        ran.stdout.trim().to_owned()
    };
    site.ok("network create --ipv6 mine");
    echo("first", "--network mine -p 9000:9000/udp");
    assert_eq!(ask(V4), "first: hi");
    assert_eq!(ask(V6), "first: hi");
    site.ok("rm -f first");
    assert_eq!(ask(V4), "");
    echo("second", "--network mine -p 9000:9000/udp");
    assert_eq!(ask(V4), "second: hi");
    assert_eq!(ask(V6), "second: hi");
    site.ok("restart -t 0 second");
    let up = "until ss -Hlun | grep -q :9000; do sleep 0.02; done";
    site.shell("second", up).ok();
    assert_eq!(ask(V4), "second: hi");
}

#[test]
fn flushed_rules_are_back_within_two_seconds() {
    let site = Site::new();
    site.ok("network create --ipv6 mine");
    site.ok("network create other");
    site.web("server", "--network mine -p 8080:80");
    site.web("apart", "--network other");
    site.idle("old", "");
    let apart = format!("{}/", site.address("apart", "other"));
    let before = site.engine.rules();
    assert!(!before.is_empty());
    for _ in 0..3 {
        site.host("nft flush ruleset").ok();
        let start = Instant::now();
        while site.engine.rules() != before {
            assert!(
                start.elapsed() < Duration::from_secs(2),
                "not as before: {}\n---\n{before}",
                site.engine.rules()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "server");
        assert_eq!(site.outside_fetch(&format!("[{V6}]:8080/")), "server");
        let ping = format!("ping -c 1 -W 2 {}", Machine::OUTSIDE);
        site.shell("old", &ping).ok();
        assert_eq!(site.fetch("server", &apart), "");
    }
}
