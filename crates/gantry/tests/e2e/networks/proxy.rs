//! Published ports that the kernel cannot lead to the container: IPv6 addresses of the host for a container without IPv6, ::1,
//! and a machine whose firewall is not to be touched.

use super::ports::ECHO;
use super::publishing::Kept;
use super::{PATIENCE, Site};
use gantry_testkit::{Machine, ran, until};
use rustix::process::{Pid, Signal, kill_process};

const V4: &str = Machine::ADDRESS;
const V6: &str = Machine::ADDRESS6;

/// What this address and port answer to a datagram; empty where nothing comes back.
fn asked_by_udp(site: &Site, address: &str, port: u16) -> String {
    let script = format!(
        "import socket\nf=socket.AF_INET6 if ':' in '{address}' else socket.AF_INET\ns=socket.socket(f,socket.SOCK_DGRAM)\n\
         s.settimeout(1)\ns.connect(('{address}',{port}))\ns.send(b'hi')\n\
         try:print(s.recv(99).decode())\nexcept Exception:pass"
    );
    let command = site.machine.inside(&["/usr/bin/python3", "-c", &script]);
    ran(command, b"", PATIENCE).stdout.trim().to_owned()
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn ipv6_addresses_lead_to_containers_without_ipv6() {
    let site = Site::new();
    assert_eq!(site.engine.proxy(), None);
    site.web("server", "-p 8080:80 -p [::1]:8081:80");
    assert_eq!(
        site.ok("port server"),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::1]:8081\n80/tcp -> [::]:8080"
    );
    let ports = "ps --filter name=server --format {{.Ports}}";
    assert_eq!(
        site.ok(ports),
        "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, [::1]:8081->80/tcp"
    );
    for place in ["127.0.0.1", V4, "[::1]", &format!("[{V6}]")] {
        assert_eq!(
            site.host_fetch(&format!("{place}:8080/")),
            "server",
            "{place}"
        );
    }
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "server");
    assert_eq!(site.outside_fetch(&format!("[{V6}]:8080/")), "server");
    assert_eq!(site.host_fetch("[::1]:8081/"), "server");
    assert_eq!(site.outside_fetch(&format!("[{V6}]:8081/")), "");
    // A container with IPv6 is reached at ::1 as well, and elsewhere without the proxy.
    site.ok("network create --ipv6 six");
    site.web("both", "--network six -p 8082:80");
    assert_eq!(site.host_fetch("[::1]:8082/"), "both");
    let who = site.outside_fetch(&format!("[{V6}]:8082/cgi-bin/who"));
    assert_eq!(who, Machine::OUTSIDE6);
    // The host's ports are taken, for both families.
    let told = site.fails("run --rm -p [::1]:8080:80 busybox true", 125);
    assert!(
        told.contains("Bind for :::8080 failed: port is already allocated"),
        "{told}"
    );

    site.ok("stop -t 0 server");
    assert_eq!(site.host_fetch("[::1]:8080/"), "");
    site.ok("start server");
    until("the server is back", PATIENCE, || {
        site.host_fetch("[::1]:8080/") == "server"
    });
    site.ok("update --publish-rm 8080:80 server");
    assert_eq!(site.host_fetch("[::1]:8080/"), "");
    site.ok("rm -f server both");
    until("the proxy ends", PATIENCE, || site.engine.proxy().is_none());
}

/// What the outside gets at the machine's link-local address.
fn asked_on_the_link(site: &Site, port: u16) -> String {
    let shown = site.host("ip -6 -o addr show dev out scope link").ok();
    let address = shown.split_whitespace().nth(3).unwrap();
    let address = address.split('/').next().unwrap();
    let script = format!(
        "import http.client\nasked=http.client.HTTPConnection('{address}%in',{port},timeout=2)\n\
         try:asked.request('GET','/');print(asked.getresponse().read().decode())\nexcept Exception:pass"
    );
    let command = site.machine.outside(&["/usr/bin/python3", "-c", &script]);
    ran(command, b"", PATIENCE).stdout.trim().to_owned()
}

#[test]
fn link_local_addresses_are_addresses_too() {
    for flags in [&[][..], &["--respect-host-firewall"]] {
        let site = Site::with(flags);
        site.web("server", "-p 8080:80");
        site.ok("network create --ipv6 six");
        site.web("both", "--network six -p 8082:80");
        // A second or two after a link is up its address may be used.
        until("the link's addresses are sure", PATIENCE, || {
            let unsure = |link| ["ip", "-6", "addr", "show", "dev", link, "tentative"];
            let ends = [
                site.machine.inside(&unsure("out")),
                site.machine.outside(&unsure("in")),
            ];
            ends.into_iter()
                .all(|end| ran(end, b"", PATIENCE).ok().is_empty())
        });
        assert_eq!(asked_on_the_link(&site, 8080), "server", "{flags:?}");
        assert_eq!(asked_on_the_link(&site, 8082), "both", "{flags:?}");
        site.host("ip6tables-nft -A INPUT -p tcp --dport 8082 -j DROP")
            .ok();
        assert_eq!(asked_on_the_link(&site, 8082), "", "{flags:?}");
    }
}

#[test]
fn datagrams_are_carried_too() {
    let site = Site::with_servers(&[]);
    let run = "run -d --name echo -p 9000:9000/udp servers perl -e";
    let mut words: Vec<&str> = run.split(' ').collect();
    words.extend([ECHO, "echo"]);
    site.engine.gantry(&words).ok();
    until("it answers", PATIENCE, || {
        asked_by_udp(&site, "::1", 9000) == "echo: hi"
    });
    assert_eq!(asked_by_udp(&site, V6, 9000), "echo: hi");
    assert_eq!(
        site.ok("port echo"),
        "9000/udp -> 0.0.0.0:9000\n9000/udp -> [::]:9000"
    );
}

#[test]
fn neither_daemon_nor_proxy_is_missed_for_long() {
    let mut site = Site::with_servers(&[]);
    let run = "run -d --name web -p 8080:80 servers nginx -g";
    let mut words: Vec<&str> = run.split(' ').collect();
    words.push("daemon off;");
    site.engine.gantry(&words).ok();
    let welcome = |site: &Site| {
        site.outside_fetch(&format!("[{V6}]:8080/"))
            .contains("nginx")
    };
    until("nginx serves", PATIENCE, || welcome(&site));
    let mut kept = Kept::open(&site, V6, 8080);
    assert_eq!(kept.ask(), "HTTP/1.1 200 OK");
    let proxy = site.engine.proxy().unwrap();
    // A daemon comes and goes: what goes through goes on.
    for _ in 0..3 {
        site.engine.kill_daemon();
        assert_eq!(kept.ask(), "HTTP/1.1 200 OK");
        assert!(welcome(&site));
        site.engine.launch();
        assert_eq!(kept.ask(), "HTTP/1.1 200 OK");
        assert!(welcome(&site));
    }
    assert_eq!(site.engine.proxy(), Some(proxy));
    // The proxy is killed: another one takes its place.
    signal(proxy, Signal::KILL);
    until("it is served again", PATIENCE, || welcome(&site));
    // Stopped, and the daemon killed: the next daemon does not wait for it.
    let proxy = site.engine.proxy().unwrap();
    signal(proxy, Signal::STOP);
    site.engine.kill_daemon();
    site.engine.launch();
    until("it is served again", PATIENCE, || welcome(&site));
    assert_ne!(site.engine.proxy(), Some(proxy));
    // Killed together; and the container ends while there is no daemon.
    site.engine.kill_daemon();
    let proxy = site.engine.proxy().unwrap();
    signal(proxy, Signal::KILL);
    site.engine.launch();
    assert!(welcome(&site));
    let init = site.engine.inspect("web")["State"]["Pid"].as_i64().unwrap();
    site.engine.kill_daemon();
    signal(i32::try_from(init).unwrap(), Signal::KILL);
    site.engine.launch();
    until("the port is closed", PATIENCE, || {
        site.engine.proxy().is_none()
    });
    site.ok("run --rm -p 8080:80 busybox true");
}

#[test]
fn a_port_is_free_as_soon_as_its_container_has_ended() {
    let site = Site::new();
    let flags = "-p 8080:80 -p 9000:9000/udp";
    for _ in 0..20 {
        site.ok(&format!("run --rm {flags} busybox true"));
    }
    site.web("server", flags);
    for _ in 0..10 {
        site.ok("restart -t 0 server");
        site.ok("update --publish-rm 8080:80 --publish-rm 9000:9000/udp server");
        site.ok("update --publish-add 8080:80 --publish-add 9000:9000/udp server");
    }
    until("it is served", PATIENCE, || {
        site.host_fetch("[::1]:8080/") == "server"
    });
}

#[test]
fn without_it_there_is_what_the_kernel_can_do() {
    let mut site = Site::with(&["--userland-proxy=false"]);
    site.web("server", "-p 8080:80");
    site.ok("network create --ipv6 six");
    site.web("both", "--network six -p 8082:80");
    assert_eq!(site.ok("port server"), "80/tcp -> 0.0.0.0:8080");
    assert_eq!(
        site.ok("port both"),
        "80/tcp -> 0.0.0.0:8082\n80/tcp -> [::]:8082"
    );
    assert_eq!(site.host_fetch("127.0.0.1:8080/"), "server");
    for place in ["[::1]:8080/", "[::1]:8082/"] {
        assert_eq!(site.host_fetch(place), "", "{place}");
    }
    assert_eq!(site.outside_fetch(&format!("[{V6}]:8082/")), "both");
    assert_eq!(site.engine.proxy(), None);
    site.engine.stop_daemon();
    site.engine.launch();
    assert_eq!(site.outside_fetch(&format!("[{V6}]:8082/")), "both");
}

#[test]
fn where_the_firewall_is_left_alone_it_carries_everything() {
    let site = Site::with(&["--iptables=false", "--ip6tables=false"]);
    site.web("server", "-p 8080:80");
    site.ok("network create --ipv6 six");
    site.web("both", "--network six -p 8082:80");
    site.idle("neighbour", "--network six");
    for place in ["127.0.0.1", V4, "[::1]", &format!("[{V6}]")] {
        assert_eq!(
            site.host_fetch(&format!("{place}:8080/")),
            "server",
            "{place}"
        );
        assert_eq!(
            site.host_fetch(&format!("{place}:8082/")),
            "both",
            "{place}"
        );
    }
    for place in [V4, &format!("[{V6}]")] {
        assert_eq!(site.outside_fetch(&format!("{place}:8080/")), "server");
        assert_eq!(site.outside_fetch(&format!("{place}:8082/")), "both");
        assert_eq!(site.fetch("neighbour", &format!("{place}:8080/")), "server");
    }
}
