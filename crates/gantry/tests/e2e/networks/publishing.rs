//! `update --publish-add`, `--publish-rm`: ports of a container that runs.

use super::{PATIENCE, Site};
use gantry_testkit::{Dice, Machine, until};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

const V4: &str = Machine::ADDRESS;
const V6: &str = Machine::ADDRESS6;

/// A connection of the outside's that stays open, and asks for `/` when it is told to.
pub(super) struct Kept {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Kept {
    pub(super) fn open(site: &Site, address: &str, port: u16) -> Self {
        let words = ["busybox", "nc", address, &port.to_string()];
        let mut command = site.machine.outside(&words);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdin,
            stdout,
        }
    }

    /// The status line of an answer; its head and body are read over.
    pub(super) fn ask(&mut self) -> String {
        let head = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
        self.stdin.write_all(head.as_bytes()).unwrap();
        let mut first = String::new();
        self.stdout.read_line(&mut first).unwrap();
        let mut line = String::from("?");
        while !line.trim().is_empty() {
            line.clear();
            self.stdout.read_line(&mut line).unwrap();
        }
        first.trim().to_owned()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn ports_come_to_a_running_nginx_and_go() {
    let site = Site::with_servers(&[]);
    site.ok("network create --ipv6 mine");
    let words = [
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "mine",
        "-p",
        "8080:80",
        "servers",
        "nginx",
        "-g",
        "daemon off;",
    ];
    site.engine.gantry(&words).ok();
    let welcome = |place: &str| site.outside_fetch(place).contains("nginx");
    until("nginx serves", PATIENCE, || welcome(&format!("{V4}:8080/")));
    let pid = site.engine.inspect("web")["State"]["Pid"].clone();
    let mut kept = Kept::open(&site, V4, 8080);
    assert_eq!(kept.ask(), "HTTP/1.1 200 OK");
    assert_eq!(
        site.ok("update --publish-add 8081:80 --publish-add 127.0.0.1:8082:80 web"),
        "web"
    );
    assert!(welcome(&format!("{V4}:8081/")));
    assert!(welcome(&format!("[{V6}]:8081/")));
    assert!(site.host_fetch("127.0.0.1:8082/").contains("nginx"));
    assert!(!welcome(&format!("{V4}:8082/")));
    assert_eq!(kept.ask(), "HTTP/1.1 200 OK");
    let mut second = Kept::open(&site, V4, 8081);
    assert_eq!(second.ask(), "HTTP/1.1 200 OK");
    assert_eq!(
        site.ok("port web"),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> 0.0.0.0:8081\n80/tcp -> 127.0.0.1:8082\n80/tcp -> [::]:8080\n80/tcp -> [::]:8081"
    );
    // One goes: who comes finds nothing, who is there by another port stays.
    site.ok("update --publish-rm 8081:80 web");
    assert!(!welcome(&format!("{V4}:8081/")));
    assert!(!welcome(&format!("[{V6}]:8081/")));
    assert!(welcome(&format!("{V4}:8080/")));
    assert_eq!(kept.ask(), "HTTP/1.1 200 OK");
    // The port is free for others.
    site.web("other", "-p 8081:80");
    assert_eq!(site.outside_fetch(&format!("{V4}:8081/")), "other");
    // What does not go changes nothing.
    let told = site.fails("update --publish-add 8083:80 --publish-add 8081:80 web", 1);
    assert!(told.contains("port is already allocated"), "{told}");
    assert!(!welcome(&format!("{V4}:8083/")));
    assert_eq!(site.ok("port web 80").lines().count(), 3);
    let told = site.fails("update --publish-rm 9999:80 web", 1);
    assert!(told.contains("does not publish 9999:80/tcp"), "{told}");
    // In one go, and one that the kernel chooses.
    site.ok("update --publish-rm 80 --publish-add 8084:80 --publish-add 80 web");
    let ports = site.ok("port web 80");
    assert!(ports.contains("0.0.0.0:8084"), "{ports}");
    assert_eq!(ports.lines().count(), 4, "{ports}");
    assert!(!welcome(&format!("{V4}:8080/")));
    assert!(welcome(&format!("{V4}:8084/")));
    // The container is the same all the time, and has its ports at the next start, and with the next daemon.
    assert_eq!(site.engine.inspect("web")["State"]["Pid"], pid);
    let mut site = site;
    site.engine.kill_daemon();
    site.engine.launch();
    assert!(welcome_of(&site, 8084));
    site.ok("update --publish-add 8085:80 web");
    assert!(welcome_of(&site, 8085));
    site.ok("restart -t 1 web");
    until("nginx serves again", PATIENCE, || welcome_of(&site, 8084));
    assert!(welcome_of(&site, 8085));
    site.ok("stop -t 0 web");
    site.ok("update --publish-rm 8085:80 web");
    site.ok("start web");
    until("nginx serves again", PATIENCE, || welcome_of(&site, 8084));
    assert!(!welcome_of(&site, 8085));
}

fn welcome_of(site: &Site, port: u16) -> bool {
    site.outside_fetch(&format!("{V4}:{port}/"))
        .contains("nginx")
}

#[test]
fn ports_go_with_the_network_that_bears_them() {
    let site = Site::new();
    site.ok("network create mine");
    site.web("web", "");
    site.ok("network connect mine web");
    site.ok("update --publish-add 8080:80 web");
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "web");
    site.ok("network disconnect bridge web");
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "web");
    site.ok("network disconnect mine web");
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "");
    site.ok("network connect mine web");
    assert_eq!(site.outside_fetch(&format!("{V4}:8080/")), "web");
    site.ok("run -d --name joined --network host busybox sleep 1000");
    let told = site.fails("update --publish-add 8081:80 joined", 1);
    assert!(
        told.contains("port publishing and the network mode host"),
        "{told}"
    );
}

#[test]
fn ports_that_come_while_a_container_ends_are_nobody_s() {
    let site = Site::new();
    site.ok("network create mine");
    site.ok("create --name con --network mine busybox sleep 1000");
    let mut dice = Dice(0x5eed_90e7);
    for round in 0..100 {
        site.ok("start con");
        let words = ["update", "--publish-add", "7777:80", "con"];
        let mut command = site.engine.command(&words);
        let mut client = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(dice.below(12_000)));
        site.engine.api("POST", "/containers/con/kill", None);
        site.ok("wait con");
        client.wait().unwrap();
        let rules = site.engine.rules();
        assert!(!rules.contains("7777"), "round {round}: {rules}");
        // It may have come after the end, for the next start.
        site.engine
            .gantry(&["update", "--publish-rm", "7777:80", "con"]);
    }
    site.idle("next", "--network mine -p 7777:80");
}
