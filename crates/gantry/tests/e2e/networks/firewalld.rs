//! Debian's own firewalld beside an engine.

use super::walls::HostServer;
use super::{PATIENCE, Site};
use gantry_testkit::{Firewalls, Machine, Options, until};
use std::sync::Arc;

const V4: &str = Machine::ADDRESS;
const V6: &str = Machine::ADDRESS6;

/// Whether firewalld, as it does by itself, lets nobody else change its table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Locked,
    Open,
}

/// An engine beside a firewalld whose zone `public` lets in ssh only, with a server on a network of its own, and an idle
/// container on the default bridge. A firewalld with a locked table comes last, the other first.
fn beside(table: Table, flags: &[&str]) -> (Site, Firewalls) {
    let machine = Arc::new(Machine::new());
    let firewalls = Firewalls::on(&machine);
    if table == Table::Open {
        let unlocked = "s/^NftablesTableOwner=.*/NftablesTableOwner=no/";
        let file = "/etc/firewalld/firewalld.conf";
        firewalls.run(&format!("sed -i {unlocked} {file}")).ok();
    }
    if table == Table::Open {
        firewalls.start_firewalld();
    }
    let site = Site::of(Options {
        machine: Some(machine),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        programs: Some(firewalls.programs().to_owned()),
        ..Options::default()
    });
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80");
    site.idle("old", "");
    if table == Table::Locked {
        firewalls.start_firewalld();
    }
    (site, firewalls)
}

#[test]
fn it_is_passed_by_as_with_docker() {
    let (mut site, firewalls) = beside(Table::Locked, &[]);
    is_passed_by(&site, &firewalls);
    let zone = || {
        let list = "firewall-cmd --zone=trusted --list-interfaces";
        firewalls.run(list).ok()
    };
    assert_eq!(zone().split(' ').count(), 2, "{}", zone());
    // A later daemon finds what is missing; what goes is taken out.
    site.engine.kill_daemon();
    for link in zone().split(' ') {
        let remove = format!("firewall-cmd --zone=trusted --remove-interface={link}");
        firewalls.run(&remove).ok();
    }
    site.engine.launch();
    assert_eq!(zone().split(' ').count(), 2, "{}", zone());
    site.ok("rm -f server");
    site.ok("network rm mine");
    assert_eq!(zone(), site.engine.bridge());
}

#[test]
fn a_rule_lets_pass_where_its_table_may_be_changed() {
    let (site, firewalls) = beside(Table::Open, &[]);
    is_passed_by(&site, &firewalls);
    assert_eq!(
        firewalls
            .run("firewall-cmd --zone=trusted --list-interfaces")
            .ok(),
        ""
    );
}

fn is_passed_by(site: &Site, firewalls: &Firewalls) {
    let _host = HostServer::on(site);
    // Containers reach the host; others do not.
    let host = |from: &str, address: &str| site.fetch(from, &format!("{address}:7000/"));
    let gateway = format!("{}.1", site.engine.subnet());
    let is_open = || {
        site.is_open()
            && host("old", &gateway) == "host"
            && host("server", V4) == "host"
            && host("server", &format!("[{V6}]")) == "host"
    };
    until("firewalld is opened", PATIENCE, &is_open);
    let outside = || site.outside_fetch(&format!("{V4}:7000/"));
    assert_eq!(outside(), "");
    for change in [
        "firewall-cmd --reload",
        "firewall-cmd --complete-reload",
        "firewall-cmd --set-default-zone=drop",
    ] {
        firewalls.run(change).ok();
        until(change, PATIENCE, &is_open);
        assert_eq!(outside(), "");
    }
    firewalls.restart_firewalld();
    until("firewalld is opened again", PATIENCE, &is_open);
}

#[test]
fn it_says_which_published_ports_are_open() {
    let (site, firewalls) = beside(Table::Open, &["--respect-host-firewall"]);
    assert_eq!(site.fetch("old", &format!("{V4}:8080/")), "");
    says_which_are_open(&site, &firewalls);
    // The host's own services are another matter.
    let _host = HostServer::on(&site);
    let place = format!("{V4}:7000/");
    assert_eq!(site.fetch("old", &place), "host");
    assert_eq!(site.outside_fetch(&place), "");
}

/// Containers are in a zone then that lets everything in.
#[test]
fn it_says_so_to_others_than_containers_where_its_table_is_locked() {
    let (site, firewalls) = beside(Table::Locked, &["--respect-host-firewall"]);
    until("containers are let in", PATIENCE, || {
        site.fetch("old", &format!("{V4}:8080/")) == "server"
    });
    says_which_are_open(&site, &firewalls);
}

fn says_which_are_open(site: &Site, firewalls: &Firewalls) {
    assert_eq!(site.outside_fetches(8080), ["", ""]);
    assert_eq!(site.host_fetch(&format!("{V4}:8080/")), "server");
    firewalls.run("firewall-cmd --add-port=8080/tcp").ok();
    site.outside_gets(8080, ["server", "server"]);
    until("containers are let in, too", PATIENCE, || {
        site.fetch("old", &format!("{V4}:8080/")) == "server"
    });
    // It was not said to last.
    firewalls.run("firewall-cmd --reload").ok();
    site.outside_gets(8080, ["", ""]);
}
