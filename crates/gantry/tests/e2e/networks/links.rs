//! What people do to containers' networks by hand, from without.

use super::Site;
use gantry_testkit::Machine;

#[test]
fn a_cable_between_two_containers() {
    let site = Site::new();
    site.idle("one", "--network none");
    site.idle("two", "--network none");
    let pid = |name: &str| site.engine.inspect(name)["State"]["Pid"].to_string();
    let (one, two) = (pid("one"), pid("two"));
    // As the pipework and `ip netns` recipes do it: the namespaces are at /proc/PID/ns/net.
    for (line, expected) in [
        (
            format!("ip link add cable1 netns {one} type veth peer name cable2 netns {two}"),
            0,
        ),
        (
            format!(
                "nsenter --net=/proc/{one}/ns/net ip addr add 10.9.9.1/32 peer 10.9.9.2/32 dev cable1"
            ),
            0,
        ),
        (
            format!("nsenter --net=/proc/{one}/ns/net ip link set cable1 up"),
            0,
        ),
        (
            format!(
                "nsenter --net=/proc/{two}/ns/net ip addr add 10.9.9.2/32 peer 10.9.9.1/32 dev cable2"
            ),
            0,
        ),
        (
            format!("nsenter --net=/proc/{two}/ns/net ip link set cable2 up"),
            0,
        ),
    ] {
        let ran = site.host(&line);
        assert_eq!(ran.code, expected, "{ran}");
    }
    site.shell("one", "ping -c 1 -W 2 10.9.9.2").ok();
    site.shell("two", "ping -c 1 -W 2 10.9.9.1").ok();
    // `SandboxKey` names the namespace as well as the process does.
    let key = site.engine.inspect("one")["NetworkSettings"]["SandboxKey"].clone();
    let same = |path: &str| {
        std::fs::metadata(path)
            .map(|m| std::os::unix::fs::MetadataExt::ino(&m))
            .unwrap()
    };
    assert_eq!(
        same(key.as_str().unwrap()),
        same(&format!("/proc/{one}/ns/net"))
    );
}

#[test]
fn a_bridge_of_the_users_own() {
    let machine = std::sync::Arc::new(Machine::new());
    let make =
        "ip link add mine type bridge && ip addr add 10.88.0.1/24 dev mine && ip link set mine up";
    let made = machine.inside(&["sh", "-c", make]).status().unwrap();
    assert!(made.success());
    {
        let engine = gantry_testkit::Engine::with(gantry_testkit::Options {
            machine: Some(machine.clone()),
            users_bridge: Some("mine".to_owned()),
            ..gantry_testkit::Options::default()
        });
        engine.import(&gantry_testkit::busybox_tar(), "busybox");
        let said = engine.gantry(&[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "ip -4 -o addr show eth0; ip route; ping -c 1 -W 2 10.88.0.1",
        ]);
        let said = said.ok();
        assert!(said.contains("inet 10.88.0."), "{said}");
        assert!(said.contains("default via 10.88.0.1 dev eth0"), "{said}");
        engine
            .gantry(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
            .ok();
        let ports = machine
            .inside(&["ip", "-o", "link", "show", "master", "mine"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&ports.stdout).lines().count(), 1);
        engine.gantry(&["rm", "-f", "box"]).ok();
    }
    // It is the user's, and stays as it was.
    let addresses = machine
        .inside(&["ip", "-4", "-o", "addr", "show", "mine"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&addresses.stdout).contains("10.88.0.1/24"));
}

#[test]
fn a_macvlan_is_a_machine_beside_the_machine() {
    let site = Site::new();
    site.ok("network create -d macvlan --subnet 192.0.2.0/24 --ip-range 192.0.2.128/25 --gateway 192.0.2.2 -o parent=out lan");
    site.web("box", "--network lan --ip 192.0.2.200");
    let words = ["ip", "addr", "add", "192.0.2.10/24", "dev", "in"];
    assert!(site.machine.outside(&words).status().unwrap().success());
    assert_eq!(site.outside_fetch("192.0.2.200/"), "box");
    // The source is its own address: no NAT.
    assert_eq!(site.outside_fetch("192.0.2.200/cgi-bin/who"), "192.0.2.10");
    site.ok("rm -f box");
    let told = site.fails("network create -d overlay x", 1);
    assert!(told.contains("swarm"), "{told}");
}
