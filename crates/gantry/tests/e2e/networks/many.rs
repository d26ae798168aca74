//! Many networks, many containers on one, and much coming and going.

use super::Site;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn open_files(site: &Site) -> usize {
    let folder = format!("/proc/{}/fd", site.engine.daemon_pid());
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_thousand_connects_and_disconnects_leave_nothing() {
    let site = Site::new();
    // Few addresses: one that is not given back is soon missed.
    site.ok("network create --ipv6 --subnet 172.31.9.0/29 --subnet fd00:31:9::/125 mine");
    for n in 0..4 {
        site.idle(&format!("c{n}"), &format!("-p {}:80", 7100 + n));
    }
    let post = |verb: &str, n: usize| {
        let body = json!({"Container": format!("c{n}"), "EndpointConfig": {"Aliases": ["again"]}});
        let path = format!("/networks/mine/{verb}");
        site.engine.api("POST", &path, Some(&body)).expect(200);
    };
    let lap = || {
        std::thread::scope(|scope| {
            for n in 0..4 {
                scope.spawn(move || {
                    post("connect", n);
                    post("disconnect", n);
                });
            }
        });
    };
    lap();
    let state = || {
        let namespaces: Vec<String> = (0..4)
            .map(|n| {
                site.shell(
                    &format!("c{n}"),
                    "ip -o addr; ip route; ip -6 route; cat /etc/hosts",
                )
                .ok()
            })
            .collect();
        let mut links = site.engine.links();
        links.sort();
        (links, site.engine.rules(), namespaces)
    };
    let (before, files) = (state(), open_files(&site));
    for _ in 0..250 {
        lap();
    }
    assert_eq!(state(), before);
    let now = open_files(&site);
    assert!(now <= files + 8, "{files} files open before, {now} now");
    // All of the addresses are free.
    for n in 0..4 {
        post("connect", n);
    }
    site.idle("last", "--network mine");
    let told = site.fails("run --rm --network mine busybox true", 125);
    assert!(told.contains("no available IPv4 addresses"), "{told}");
}

#[test]
fn three_hundred_networks_are_there_at_once() {
    let site = Site::new();
    let make = |n: usize| {
        let body = json!({"Name": format!("net{n}")});
        let answer = site.engine.api("POST", "/networks/create", Some(&body));
        answer.expect(201).json()["Id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = (0..300).map(make).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 300);
    let list = site.engine.api("GET", "/networks", None).expect(200).json();
    let subnets: BTreeSet<String> = list
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|network| {
            network["IPAM"]["Config"][0]["Subnet"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(subnets.len(), 301);
    // The first and the last of them work as any.
    for name in ["net0", "net299"] {
        site.web(&format!("{name}-a"), &format!("--network {name}"));
        site.idle(&format!("{name}-b"), &format!("--network {name}"));
        assert_eq!(
            site.fetch(&format!("{name}-b"), &format!("{name}-a/")),
            format!("{name}-a")
        );
    }
    let other = format!("{}/", site.address("net0-a", "net0"));
    assert_eq!(site.fetch("net299-b", &other), "");
    // A daemon that comes has them all soon.
    let mut site = site;
    site.engine.kill_daemon();
    let start = std::time::Instant::now();
    site.engine.launch();
    let took = start.elapsed();
    assert!(took < std::time::Duration::from_secs(5), "{took:?}");
    assert_eq!(site.fetch("net299-b", "net299-a/"), "net299-a");
    site.ok("rm -f net0-a net0-b net299-a net299-b");
    assert_eq!(site.ok("network prune -f").lines().count(), 301);
    assert_eq!(site.engine.links(), Vec::<String>::new());
}

#[test]
fn two_hundred_containers_on_one_network_know_each_other() {
    const COUNT: usize = 200;
    let site = Site::with_servers(&[]);
    site.ok("network create --subnet 10.99.0.0/16 town");
    site.ok("run -d --name store --network town servers redis-server --protected-mode no");
    let words = [
        "run",
        "-d",
        "--name",
        "pages",
        "--network",
        "town",
        "servers",
        "nginx",
        "-g",
        "daemon off;",
    ];
    site.engine.gantry(&words).ok();
    let start = |n: usize| {
        let line = format!(
            "run -d --name house{n} --network town --network-alias h{n} servers sleep 10000"
        );
        site.ok(&line);
    };
    std::thread::scope(|scope| {
        for part in 0..4 {
            let start = &start;
            scope.spawn(move || (0..COUNT).filter(|n| n % 4 == part).for_each(start));
        }
    });
    let network = site
        .engine
        .api("GET", "/networks/town", None)
        .expect(200)
        .json();
    let expected: Vec<String> = (0..COUNT)
        .map(|n| {
            let name = format!("house{n}");
            let mut all = network["Containers"].as_object().unwrap().values();
            let own: &Value = all.find(|own| own["Name"] == name.as_str()).unwrap();
            own["IPv4Address"]
                .as_str()
                .unwrap()
                .split('/')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    // Each asks for all, by name and by alias in turns.
    let names: Vec<String> = (0..COUNT)
        .map(|n| {
            if n % 2 == 0 {
                format!("house{n}")
            } else {
                format!("h{n}")
            }
        })
        .collect();
    let ask = |n: usize| {
        let house = format!("house{n}");
        let mut words = vec!["exec", &house, "dig", "+short", "+tries=1", "+timeout=5"];
        words.extend(names.iter().map(String::as_str));
        let said = site.engine.gantry(&words).ok();
        assert_eq!(
            said.lines().collect::<Vec<_>>(),
            expected,
            "what {house} is told"
        );
    };
    std::thread::scope(|scope| {
        for part in 0..4 {
            let ask = &ask;
            scope.spawn(move || (0..COUNT).filter(|n| n % 4 == part).for_each(ask));
        }
    });
    // Real services by their names, while others come and go.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..COUNT).step_by(10) {
                site.ok(&format!("restart -t 0 house{n}"));
            }
        });
        for n in (1..COUNT).step_by(20) {
            let house = format!("house{n}");
            let set =
                format!("redis-cli -h store set {house} here && redis-cli -h store get {house}");
            assert_eq!(site.shell(&house, &set).ok(), "OK\nhere");
            let got = site.shell(&house, "curl -s http://pages/").ok();
            assert!(got.contains("nginx"), "{got}");
        }
    });
    let address = &expected[77];
    let said = site
        .shell("house1", &format!("dig +short -x {address}"))
        .ok();
    assert_eq!(said, "house77.town.");
}
