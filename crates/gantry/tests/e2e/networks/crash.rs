//! A daemon killed while containers join networks, leave them, start and end: the next one has links, addresses and elements
//! exactly as its records say.

use super::Site;
use gantry_testkit::Dice;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const KILLS: u64 = 300;
const CONTAINERS: u64 = 6;
const NETWORKS: u64 = 3;

/// Something that a client asks for.
fn anything(site: &Site, dice: &mut Dice) -> Child {
    let c = dice.below(CONTAINERS);
    let n = dice.below(NETWORKS);
    let port = 7000 + c;
    let kind = ["-d", "-d", "-d --rm"][dice.below(3) as usize];
    let line = match dice.below(16) {
        0..4 => format!("run {kind} --name c{c} --network n{n} -p {port}:80 busybox sleep 10000"),
        4 => format!("run {kind} --name c{c} -p {port}:80 busybox sleep 10000"),
        5 | 6 => format!("rm -f c{c}"),
        7 => format!("start c{c}"),
        8 => format!("restart -t 0 c{c}"),
        9..12 => format!("network connect n{n} c{c}"),
        12 | 13 => format!("network disconnect n{n} c{c}"),
        14 => format!("update --publish-add 71{c}{n}:80 c{c}"),
        _ => format!("update --publish-rm 80 c{c}"),
    };
    let words: Vec<&str> = line.split(' ').collect();
    let mut command = site.engine.command(&words);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn containers(site: &Site) -> Vec<Value> {
    let ids = site.ok("ps -aq --no-trunc");
    ids.lines().map(|id| site.engine.inspect(id)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Holds what is in the kernel against what the daemon says; the addresses and ports that are in use.
fn compare(site: &Site) -> (usize, BTreeSet<String>) {
    let (mut endpoints, mut used) = (0, BTreeSet::new());
    for container in containers(site) {
        if container["State"]["Running"] != true {
            continue;
        }
        let name = text(&container["Name"]);
        let networks = container["NetworkSettings"]["Networks"]
            .as_object()
            .unwrap();
        let pid = &container["State"]["Pid"];
        let shown = site.host(&format!(
            "nsenter --net=/proc/{pid}/ns/net ip -o -4 addr show scope global"
        ));
        let mut there: Vec<String> = Vec::new();
        for line in shown.ok().lines() {
            there.push(line.split_whitespace().nth(3).unwrap().to_owned());
        }
        there.sort();
        let mut told: Vec<String> = Vec::new();
        for endpoint in networks.values() {
            told.push(format!(
                "{}/{}",
                text(&endpoint["IPAddress"]),
                endpoint["IPPrefixLen"]
            ));
            assert!(
                used.insert(text(&endpoint["IPAddress"])),
                "{name}: an address twice"
            );
        }
        told.sort();
        assert_eq!(there, told, "{name}: addresses");
        let links = site.host(&format!("nsenter --net=/proc/{pid}/ns/net ip -o link"));
        assert_eq!(
            links.ok().lines().count(),
            told.len() + 1,
            "{name}: {}",
            links.stdout
        );
        endpoints += told.len();
        for (port, at) in container["NetworkSettings"]["Ports"].as_object().unwrap() {
            for at in at.as_array().into_iter().flatten() {
                let host = format!("{} {}", text(&at["HostIp"]), text(&at["HostPort"]));
                assert!(used.insert(host.clone()), "{name}: {host} for {port} twice");
            }
        }
    }
    (endpoints, used)
}

/// Lines without order.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text
        .split(['\n', ','])
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_daemon_killed_hundreds_of_times_has_its_networks_as_its_records_say() {
    let mut site = Site::new();
    for n in 0..NETWORKS {
        site.ok(&format!("network create --subnet 172.31.{n}.0/28 n{n}"));
    }
    let mut dice = Dice(0x5eed_0fd1_5c5c);
    let bridges = site.engine.links().len();
    for round in 0..KILLS {
        let clients = [(); 2].map(|()| anything(&site, &mut dice));
        std::thread::sleep(Duration::from_millis(3 + dice.below(50)));
        site.engine.kill_daemon();
        for mut client in clients {
            client.wait().unwrap();
        }
        site.engine.launch();
        if round % 50 != 49 {
            continue;
        }
        // What is in the kernel of containers that end goes a little later.
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let (endpoints, _) = compare(&site);
            let links = site.engine.links();
            if links.len() == bridges + endpoints {
                break;
            }
            assert!(
                Instant::now() < end,
                "{bridges} bridges, {endpoints} endpoints: {links:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        // The rules are those that the records make where there are none.
        let before = sorted(&site.engine.rules());
        site.host("nft flush ruleset").ok();
        let end = Instant::now() + Duration::from_secs(4);
        while sorted(&site.engine.rules()) != before {
            if Instant::now() > end {
                let after = sorted(&site.engine.rules());
                let more: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
                let less: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
                panic!("more than the records say: {more:#?}, less: {less:#?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    // Nothing is held by nobody: all ports and all addresses can be had again.
    for id in site.ok("ps -aq").lines() {
        site.ok(&format!("rm -f {id}"));
    }
    for n in 0..NETWORKS {
        // Of 16 addresses the network, the broadcast and the bridge have one each.
        for c in 0..13 {
            let port = if n == 0 {
                format!("-p {}:80", 7000 + c)
            } else {
                String::new()
            };
            site.idle(&format!("full{n}-{c}"), &format!("--network n{n} {port}"));
        }
        let told = site.fails(&format!("run --rm --network n{n} busybox true"), 125);
        assert!(told.contains("no available IPv4 addresses"), "{told}");
    }
}
