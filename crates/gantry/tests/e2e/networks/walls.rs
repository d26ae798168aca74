//! The machine's other firewalls, and rules of the owner's.

use super::{PATIENCE, Site};
use gantry_testkit::{Machine, until};
use std::process::Child;

const V4: &str = Machine::ADDRESS;
const V6: &str = Machine::ADDRESS6;

/// A web server of the host's own at port 7000.
pub(super) struct HostServer(Child);

impl HostServer {
    pub(super) fn on(site: &Site) -> Self {
        let folder = site.engine.folder().join("www");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("index.html"), "host").unwrap();
        let words = ["busybox", "httpd", "-f", "-p", "7000", "-h"];
        let mut command = site.machine.inside(&words);
        let server = Self(command.arg(folder).spawn().unwrap());
        until("the host serves", PATIENCE, || {
            site.host_fetch("127.0.0.1:7000/") == "host"
        });
        server
    }
}

impl Drop for HostServer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Site {
    /// What `ufw default deny` comes down to.
    fn deny_input(&self) {
        for iptables in ["iptables-nft", "ip6tables-nft"] {
            for rule in [
                "-A INPUT -i lo -j ACCEPT",
                "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-A INPUT -p ipv6-icmp -j ACCEPT",
                "-P INPUT DROP",
            ] {
                self.host(&format!("{iptables} {rule}")).ok();
            }
        }
    }

    /// What the outside gets of a port by either family.
    pub(super) fn outside_fetches(&self, port: u16) -> [String; 2] {
        let places = [V4.to_owned(), format!("[{V6}]")];
        std::thread::scope(|scope| {
            places
                .map(|place| scope.spawn(move || self.outside_fetch(&format!("{place}:{port}/"))))
                .map(|asked| asked.join().expect("it is asked"))
        })
    }

    /// Waits until the outside gets this of a port by either family: who is let in first is a second late.
    pub(super) fn outside_gets(&self, port: u16, wanted: [&str; 2]) {
        until(&format!("{wanted:?} at {port}"), PATIENCE, || {
            self.outside_fetches(port) == wanted
        });
    }

    /// The name of the engine's tables.
    fn table(&self) -> String {
        let rules = self.engine.rules();
        rules
            .split(' ')
            .nth(2)
            .expect("there is a table")
            .to_owned()
    }
}

#[test]
fn the_hosts_own_rules_say_which_published_ports_are_open() {
    let site = Site::with(&["--respect-host-firewall"]);
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80 -p 8081:80");
    site.deny_input();
    assert_eq!(site.outside_fetches(8080), ["", ""]);
    for iptables in ["iptables-nft", "ip6tables-nft"] {
        site.host(&format!(
            "{iptables} -A INPUT -p tcp --dport 8080 -j ACCEPT"
        ))
        .ok();
    }
    site.outside_gets(8080, ["server", "server"]);
    assert_eq!(site.outside_fetches(8081), ["", ""]);
    assert_eq!(site.host_fetch("127.0.0.1:8081/"), "server");
    assert_eq!(
        site.outside_fetch(&format!("{V4}:8080/cgi-bin/who")),
        Machine::OUTSIDE
    );
    site.host("iptables-nft -D INPUT -p tcp --dport 8080 -j ACCEPT")
        .ok();
    assert_eq!(site.outside_fetch(&format!("{V4}:8081/")), "");
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "");
}

#[test]
fn without_being_told_so_published_ports_pass_by_them_as_with_docker() {
    let site = Site::new();
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80");
    site.deny_input();
    site.outside_gets(8080, ["server", "server"]);
    // Where somebody's forwarding drops by default, the engine's packets pass.
    for iptables in ["iptables-nft", "ip6tables-nft"] {
        site.host(&format!("{iptables} -P FORWARD DROP")).ok();
    }
    site.web("next", "--network mine -p 8082:80");
    site.outside_gets(8080, ["server", "server"]);
    site.outside_gets(8082, ["next", "next"]);
    let listed = site.host("iptables-nft -S FORWARD").ok();
    assert!(listed.contains("--mark"), "{listed}");
}

#[test]
fn ones_own_rules_outlive_the_daemon() {
    let mut site = Site::new();
    site.web("server", "-p 8080:80 -p 8081:80");
    let table = site.table();
    let outside = Machine::OUTSIDE;
    let rule = format!("ip saddr {outside} meta l4proto tcp ct original proto-dst 8081 drop");
    site.host(&format!("nft add rule ip {table} user {rule}"))
        .ok();
    let is_kept = |site: &Site| {
        assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "server");
        assert_eq!(site.outside_fetch(&format!("{V4}:8081/")), "");
        assert_eq!(site.host_fetch(&format!("{V4}:8081/")), "server");
    };
    is_kept(&site);
    site.engine.kill_daemon();
    is_kept(&site);
    site.engine.launch();
    is_kept(&site);
    site.ok("restart -t 0 server");
    let up = "until timeout 1 wget -qO- http://127.0.0.1/ >/dev/null 2>&1; do sleep 0.02; done";
    site.shell("server", up).ok();
    site.host(&format!("nft delete chain ip {table} published"))
        .ok();
    let back = || site.outside_fetch(&format!("{V4}:8080/")) == "server";
    assert!((0..10).any(|_| back()));
    is_kept(&site);
}
