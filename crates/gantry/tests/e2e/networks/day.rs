//! A day with networks: made, joined, left, listed and removed.

use super::Site;
use gantry_testkit::Machine;
use serde_json::json;

#[test]
fn a_container_is_on_two_networks_and_comes_and_goes() {
    let site = Site::new();
    site.ok("network create --subnet 172.30.1.0/24 front");
    site.ok("network create --subnet 172.30.2.0/24 --gateway 172.30.2.254 back");
    site.web("db", "--network back --network-alias data --ip 172.30.2.10");
    site.web("app", "--network front");
    site.idle("client", "--network front");
    assert_eq!(site.address("db", "back"), "172.30.2.10");
    assert_eq!(site.endpoint("db", "back")["Gateway"], "172.30.2.254");
    // Names and addresses of another network are not reachable.
    assert_eq!(site.fetch("client", "app/"), "app");
    assert_eq!(site.fetch("client", "db/"), "");
    assert_eq!(site.fetch("client", "172.30.2.10/"), "");
    // A running container joins.
    site.ok("network connect --alias shop --ip 172.30.2.11 back app");
    let links = site.shell("app", "ls /sys/class/net").ok();
    assert_eq!(links, "eth0\neth1\nlo");
    assert_eq!(site.fetch("app", "data/"), "db");
    assert_eq!(site.fetch("app", "db/"), "db");
    assert_eq!(site.fetch("db", "shop/"), "app");
    assert_eq!(site.fetch("db", "app/"), "app");
    assert_eq!(site.fetch("client", "app/"), "app");
    // Of several gateways that of the first network by name is the one.
    let route = || site.shell("app", "ip route | grep default").ok();
    assert_eq!(route(), "default via 172.30.2.254 dev eth1");
    site.ok("network disconnect back app");
    assert_eq!(route(), "default via 172.30.1.1 dev eth0");
    site.ok("network connect --alias shop --ip 172.30.2.11 --gw-priority=-1 back app");
    assert_eq!(route(), "default via 172.30.1.1 dev eth0");
    // It leaves that one: the route goes to the other's gateway.
    site.ok("network disconnect front app");
    assert_eq!(site.shell("app", "ls /sys/class/net").ok(), "eth1\nlo");
    assert_eq!(route(), "default via 172.30.2.254 dev eth1");
    assert_eq!(site.fetch("client", "app/"), "");
    assert_eq!(site.fetch("db", "shop/"), "app");
    // And back again, after a restart, too.
    site.ok("network connect front app");
    assert_eq!(site.fetch("client", "app/"), "app");
    site.ok("restart -t 0 app");
    let up = "until timeout 1 wget -qO- http://127.0.0.1/ >/dev/null 2>&1; do sleep 0.02; done";
    site.shell("app", up).ok();
    assert_eq!(site.fetch("client", "app/"), "app");
    assert_eq!(site.fetch("db", "shop/"), "app");
    assert_eq!(site.address("app", "back"), "172.30.2.11");
    // A network in use stays.
    let told = site.fails("network rm back", 1);
    assert!(told.contains("has active endpoints"), "{told}");
    let told = site.fails("network connect back app", 1);
    assert!(told.contains("already exists in network back"), "{told}");
    let listed = site.ok("network ls --format {{.Name}}:{{.Driver}}");
    assert_eq!(
        listed,
        "back:bridge\nbridge:bridge\nfront:bridge\nhost:host\nnone:null"
    );
    site.ok("rm -f app client");
    let pruned = site.ok("network prune -f");
    assert_eq!(pruned, "Deleted Networks:\nfront");
}

#[test]
fn a_stopped_container_joins_and_leaves() {
    let site = Site::new();
    site.ok("network create one");
    site.ok("network create two");
    site.ok("create --name box --network one busybox sleep 1000");
    site.ok("network connect two box");
    site.ok("network disconnect one box");
    site.ok("start box");
    let networks = site.engine.inspect("box")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().len(), 1);
    assert!(!site.address("box", "two").is_empty());
    let told = site.fails("network disconnect one box", 1);
    assert!(
        told.contains("is not connected to network one")
            || told.contains("is not connected to the network one"),
        "{told}"
    );
}

#[test]
fn networks_are_isolated_from_each_other_and_from_without() {
    let site = Site::new();
    site.ok("network create a");
    site.ok("network create b");
    site.ok("network create --internal inner");
    site.ok("network create -o com.docker.network.bridge.enable_icc=false alone");
    site.web("in_a", "--network a");
    site.web("in_b", "--network b");
    site.web("in_inner", "--network inner");
    site.idle("also_inner", "--network inner");
    site.web("alone1", "--network alone");
    site.idle("alone2", "--network alone");
    site.web("default", "");
    let of = |name: &str, network: &str| format!("{}/", site.address(name, network));
    assert_eq!(site.fetch("in_a", &of("in_b", "b")), "");
    assert_eq!(site.fetch("in_a", &of("default", "bridge")), "");
    assert_eq!(site.fetch("default", &of("in_a", "a")), "");
    assert_eq!(
        site.fetch("also_inner", &of("in_inner", "inner")),
        "in_inner"
    );
    assert_eq!(site.fetch("also_inner", &of("in_a", "a")), "");
    assert_eq!(site.fetch("in_a", &of("in_inner", "inner")), "");
    assert_eq!(site.fetch("alone2", &of("alone1", "alone")), "");
    // The outside: by NAT from a network, not from an internal one.
    let ping = |name: &str| {
        let script = format!("ping -c 1 -W 2 {}", Machine::OUTSIDE);
        site.shell(name, &script).code
    };
    assert_eq!(ping("in_a"), 0);
    assert_eq!(ping("alone2"), 0);
    assert_ne!(ping("also_inner"), 0);
    // An internal network has no way out at all.
    assert_eq!(site.shell("also_inner", "ip route | grep default").code, 1);
    // From without nobody gets to a container's own address, even one who knows the way.
    let subnet = site.address("in_a", "a");
    let route = format!("ip route add {subnet}/32 via {}", Machine::ADDRESS);
    let words: Vec<&str> = route.split(' ').collect();
    assert!(site.machine.outside(&words).status().unwrap().success());
    assert_eq!(site.outside_fetch(&of("in_a", "a")), "");
    // The machine itself does.
    assert_eq!(site.host_fetch(&of("in_a", "a")), "in_a");
    assert_eq!(site.host_fetch(&of("in_inner", "inner")), "in_inner");
}

#[test]
fn without_icc_neighbours_are_strangers() {
    let site = Site::with(&["--icc=false"]);
    site.web("server", "-p 8080:80");
    site.idle("other", "");
    let own = format!("{}/", site.address("server", "bridge"));
    assert_eq!(site.fetch("other", &own), "");
    // What is published is so for them, too.
    let gateway = format!("{}.1", site.engine.subnet());
    for host in [Machine::ADDRESS, &gateway] {
        assert_eq!(site.fetch("other", &format!("{host}:8080/")), "server");
    }
    assert_eq!(
        site.outside_fetch(&format!("{}:8080/", Machine::ADDRESS)),
        "server"
    );
}

#[test]
fn what_a_network_is_asked_for_it_has() {
    let site = Site::new();
    let made = site.ok(
        "network create --subnet 10.77.0.0/16 --ip-range 10.77.5.0/24 --gateway 10.77.0.9 --aux-address printer=10.77.5.0 \
         --aux-address scanner=10.77.5.1 --label a=b -o com.docker.network.bridge.name=bridge77 \
         -o com.docker.network.driver.mtu=1400 seventy",
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&site.ok("network inspect seventy")).unwrap();
    assert_eq!(inspected[0]["Id"], made);
    assert_eq!(
        inspected[0]["IPAM"]["Config"],
        json!([{
            "Subnet": "10.77.0.0/16", "IPRange": "10.77.5.0/24", "Gateway": "10.77.0.9",
            "AuxiliaryAddresses": {"printer": "10.77.5.0", "scanner": "10.77.5.1"},
        }])
    );
    site.idle("box", "--network seventy --mac-address 92:d0:c6:0a:29:33");
    assert_eq!(site.address("box", "seventy"), "10.77.5.2");
    let link = site.shell("box", "ip link show eth0").ok();
    assert!(link.contains("mtu 1400"), "{link}");
    assert!(link.contains("92:d0:c6:0a:29:33"), "{link}");
    let bridge = site.host("ip -4 -o addr show bridge77").ok();
    assert!(bridge.contains("10.77.0.9/16"), "{bridge}");
    let inspected: serde_json::Value =
        serde_json::from_str(&site.ok("network inspect seventy")).unwrap();
    let there = inspected[0]["Containers"].as_object().unwrap();
    let (_, there) = there.iter().next().unwrap();
    assert_eq!(there["Name"], "box");
    assert_eq!(there["IPv4Address"], "10.77.5.2/16");
    assert_eq!(there["MacAddress"], "92:d0:c6:0a:29:33");
    for (line, words) in [
        (
            "network create --subnet 10.77.128.0/24 other",
            "Pool overlaps with other one on this address space",
        ),
        (
            "network create seventy",
            "network with name seventy already exists",
        ),
        (
            "network rm bridge",
            "bridge is a pre-defined network and cannot be removed",
        ),
        (
            "network create -d nothing x",
            "plugin \"nothing\" not found",
        ),
        (
            "network connect --ip 10.78.0.1 seventy box",
            "already exists in network seventy",
        ),
    ] {
        let told = site.fails(line, 1);
        assert!(told.contains(words), "{line}: {told}");
    }
    let told = site.fails(
        "run --rm --network seventy --ip 10.78.0.1 busybox true",
        125,
    );
    assert!(
        told.contains("no configured subnet or ip-range contain the IP address 10.78.0.1"),
        "{told}"
    );
    let told = site.fails(
        "run --rm --network seventy --ip 10.77.5.2 busybox true",
        125,
    );
    assert!(told.contains("Address already in use"), "{told}");
    let told = site.fails("run --rm --ip 10.77.5.9 busybox true", 125);
    assert!(
        told.contains("user specified IP address is supported on user defined networks only"),
        "{told}"
    );
    let told = site.fails("run --rm --network nowhere busybox true", 125);
    assert!(told.contains("network nowhere not found"), "{told}");
    site.ok("rm -f box");
    site.ok("network rm seventy");
    assert_ne!(site.host("ip link show bridge77").code, 0);
}

#[test]
fn ipv6_has_all_that_ipv4_has() {
    let site = Site::new();
    site.ok("network create --ipv6 --subnet fd00:77::/64 --subnet 10.66.0.0/24 six");
    site.ok("network create --ipv6 other");
    site.web("server", "--network six --ip6 fd00:77::80");
    site.idle("client", "--network six");
    site.web("apart", "--network other");
    assert_eq!(
        site.endpoint("server", "six")["GlobalIPv6Address"],
        "fd00:77::80"
    );
    assert_eq!(site.fetch("client", "[fd00:77::80]/"), "server");
    // No wait for duplicates: the address is good at once.
    let address = site.shell("client", "ip -6 addr show eth0").ok();
    assert!(!address.contains("tentative"), "{address}");
    let apart = site.endpoint("apart", "other")["GlobalIPv6Address"].clone();
    let apart = format!("[{}]/", apart.as_str().unwrap());
    assert_eq!(site.fetch("client", &apart), "");
    assert_eq!(site.host_fetch(&apart), "apart");
    // The way out is by NAT: the outside knows no way back.
    let ping = format!("ping -6 -c 1 -W 2 {}", Machine::OUTSIDE6);
    assert_eq!(site.shell("client", &ping).code, 0);
}
