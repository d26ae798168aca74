//! Debian's own firewalld beside an engine.

use super::{PATIENCE, Site};
use gantry_testkit::{Firewalls, Machine, until};
use std::process::Child;
use std::sync::Arc;

const V4: &str = Machine::ADDRESS;
const V6: &str = Machine::ADDRESS6;

/// A machine with firewalld, whose zone `public` lets in ssh only.
fn denying() -> (Arc<Machine>, Firewalls) {
    let machine = Arc::new(Machine::new());
    let firewalls = Firewalls::on(&machine);
    firewalls.start_firewalld();
    (machine, firewalls)
}

/// A web server of the host's own at port 7000.
struct HostServer(Child);

impl HostServer {
    fn on(site: &Site) -> Self {
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

#[test]
fn it_is_passed_by_as_with_docker() {
    let (machine, firewalls) = denying();
    let site = Site::on(machine, &[]);
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80");
    site.idle("old", "");
    let _host = HostServer::on(&site);
    // Containers reach the host; others do not.
    let host = |from: &str, address: &str| site.fetch(from, &format!("{address}:7000/"));
    let gateway = format!("{}.1", site.engine.subnet());
    let is_open = || {
        site.is_open()
            && host("old", &gateway) == "host"
            && host("server", V4) == "host"
            && host("server", &format!("[{V6}]")) == "host"
    };
    assert!(is_open());
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
}

#[test]
fn it_says_which_published_ports_are_open() {
    let (machine, firewalls) = denying();
    let site = Site::on(machine, &["--respect-host-firewall"]);
    site.ok("network create --ipv6 mine");
    site.web("server", "--network mine -p 8080:80");
    site.idle("old", "");
    let closed = || site.outside_fetches(8080) == ["", ""];
    let open = || site.outside_fetches(8080) == ["server", "server"];
    assert!(closed());
    assert_eq!(site.fetch("old", &format!("{V4}:8080/")), "");
    assert_eq!(site.host_fetch(&format!("{V4}:8080/")), "server");
    firewalls.run("firewall-cmd --add-port=8080/tcp").ok();
    assert!(open());
    assert_eq!(site.fetch("old", &format!("{V4}:8080/")), "server");
    // It was not said to last.
    firewalls.run("firewall-cmd --reload").ok();
    assert!(closed());
    // The host's own services are another matter.
    let _host = HostServer::on(&site);
    let place = format!("{V4}:7000/");
    assert_eq!(site.fetch("old", &place), "host");
    assert_eq!(site.outside_fetch(&place), "");
}
