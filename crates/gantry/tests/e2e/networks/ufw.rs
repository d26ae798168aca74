//! Debian's own ufw beside an engine.

use super::walls::HostServer;
use super::{PATIENCE, Site};
use gantry_testkit::{Firewalls, Machine, until};
use std::sync::Arc;

const V4: &str = Machine::ADDRESS;

/// A machine on which ufw denies what comes in, by the kernel's interface of today or (`legacy`) the one before.
fn denying(interface: &str) -> (Arc<Machine>, Firewalls) {
    let machine = Arc::new(Machine::new());
    let firewalls = Firewalls::on(&machine);
    for name in ["iptables", "ip6tables"] {
        let path = format!("/usr/sbin/{name}-{interface}");
        firewalls
            .run(&format!("update-alternatives --set {name} {path}"))
            .ok();
    }
    for command in [
        "ufw default deny incoming",
        "ufw allow 22",
        "ufw --force enable",
    ] {
        firewalls.run(command).ok();
    }
    (machine, firewalls)
}

impl Site {
    /// Published ports are open from everywhere, and the way out is.
    pub(super) fn is_open(&self) -> bool {
        let out = |address: &str| format!("ping -c 1 -W 1 {address}");
        self.outside_fetches(8080) == ["server", "server"]
            && self.shell("server", &out(Machine::OUTSIDE)).code == 0
            && self.shell("server", &out(Machine::OUTSIDE6)).code == 0
            && self.host_fetch(&format!("{V4}:8080/")) == "server"
            && self.fetch("old", &format!("{V4}:8080/")) == "server"
    }
}

#[test]
fn it_is_passed_by_as_with_docker() {
    is_passed_by("nft");
}

#[test]
fn it_is_passed_by_with_old_rules() {
    let machine = Machine::new();
    let listed = machine.inside(&["iptables-legacy", "-S"]).output().unwrap();
    if !listed.status.success() {
        eprintln!("this kernel has no old rules: {listed:?}");
        return;
    }
    is_passed_by("legacy");
}

fn is_passed_by(interface: &str) {
    let (machine, firewalls) = denying(interface);
    let site = Site::on(machine, &[]);
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80");
    site.idle("old", "");
    until("all is open", PATIENCE, || site.is_open());
    // The proxy is a program of the host's: it carries IPv6 to a container that has none.
    site.web("plain", "-p 8083:80");
    site.outside_gets(8083, ["plain", ""]);
    firewalls.run("ufw allow 8083/tcp").ok();
    site.outside_gets(8083, ["plain", "plain"]);
    // The host itself is closed to containers, too, until it is said otherwise.
    let _host = HostServer::on(&site);
    let place = format!("{}.1:7000/", site.engine.subnet());
    assert_eq!(site.fetch("old", &place), "");
    let bridge = site.engine.bridge();
    firewalls.run(&format!("ufw allow in on {bridge}")).ok();
    until("the host is open", PATIENCE, || {
        site.fetch("old", &place) == "host"
    });
    for change in [
        "ufw reload",
        "ufw deny 8080",
        "ufw --force disable",
        "ufw --force enable",
        "ufw --force reset",
        "ufw --force enable",
    ] {
        firewalls.run(change).ok();
        until(change, PATIENCE, || site.is_open());
    }
}

/// An engine that asks ufw, with a server whose ports 8080 and 8081 are published.
fn respectful() -> (Site, Firewalls) {
    let (machine, firewalls) = denying("nft");
    let site = Site::on(machine, &["--respect-host-firewall"]);
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80 -p 8081:80");
    (site, firewalls)
}

const OPEN: [&str; 2] = ["server", "server"];
const CLOSED: [&str; 2] = ["", ""];

#[test]
fn it_says_which_published_ports_are_open() {
    let (site, firewalls) = respectful();
    assert_eq!(site.outside_fetches(8080), CLOSED);
    firewalls.run("ufw allow 8080/tcp").ok();
    site.outside_gets(8080, OPEN);
    assert_eq!(site.outside_fetches(8081), CLOSED);
    assert_eq!(site.host_fetch("127.0.0.1:8081/"), "server");
    firewalls.run("ufw delete allow 8080/tcp").ok();
    site.outside_gets(8080, CLOSED);
    firewalls.run("ufw --force disable").ok();
    site.outside_gets(8081, OPEN);
    firewalls.run("ufw --force enable").ok();
    site.outside_gets(8081, CLOSED);
}

#[test]
fn it_says_to_whom_published_ports_are_open() {
    let (site, firewalls) = respectful();
    let outside = Machine::OUTSIDE;
    firewalls.run("ufw allow 8080").ok();
    firewalls
        .run(&format!("ufw insert 1 deny from {outside}"))
        .ok();
    site.outside_gets(8080, ["", "server"]);
    firewalls
        .run(&format!("ufw delete deny from {outside}"))
        .ok();
    site.outside_gets(8080, OPEN);
    firewalls.run("ufw delete allow 8080").ok();
    firewalls.run("ufw limit 8080/tcp").ok();
    site.outside_gets(8080, OPEN);
    // What goes out is not its business.
    site.shell("server", &format!("ping -c 1 -W 1 {outside}"))
        .ok();
}
