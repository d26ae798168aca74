//! Networks through Docker's own client and by requests: made, shown, refused, removed, and there again after a crash.

use gantry_testkit::{Engine, Machine, Options, Ran, call, docker_cli, ran};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// An engine on a machine of its own.
struct Bench {
    engine: Engine,
    machine: Arc<Machine>,
}

impl Bench {
    fn new(flags: &[&str]) -> Self {
        Self::with(Options {
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Options::default()
        })
    }

    fn with(options: Options) -> Self {
        let machine = Arc::new(Machine::new());
        let quiet = "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding";
        ran(machine.inside(&["sh", "-c", quiet]), b"", PATIENCE).ok();
        let engine = Engine::with(Options {
            machine: Some(machine.clone()),
            ..options
        });
        Self { engine, machine }
    }

    fn docker(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(docker_cli());
        command.args(["-H", &self.engine.host()]).args(words);
        ran(command, b"", PATIENCE)
    }

    fn ip(&self, words: &str) -> String {
        let words: Vec<&str> = ["ip"].into_iter().chain(words.split(' ')).collect();
        ran(self.machine.inside(&words), b"", PATIENCE).ok()
    }

    fn has_link(&self, name: &str) -> bool {
        let links = self.ip("-o link");
        links
            .lines()
            .any(|line| line.contains(&format!(" {name}:")))
    }

    fn inspect(&self, network: &str) -> Value {
        let path = format!("/networks/{network}");
        self.engine.api("GET", &path, None).expect(200).json()
    }

    /// What a request is answered with, as `status message`.
    fn refused(&self, method: &str, path: &str, body: Option<&Value>) -> String {
        let answer = self.engine.api(method, path, body);
        let message = answer.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        format!("{} {message}", answer.status)
    }
}

#[test]
fn dockers_client_makes_a_network_with_all_options() {
    let bench = Bench::new(&[]);
    let words = "network create --driver bridge --subnet 10.91.0.0/24 --gateway 10.91.0.254 --ip-range 10.91.0.128/25 \
        --aux-address printer=10.91.0.200 --ipv6 --subnet fd00:91::/64 --label a=b --attachable \
        -o com.docker.network.bridge.name=gl-full0 -o com.docker.network.bridge.enable_icc=false \
        -o com.docker.network.driver.mtu=1400 full";
    let id = bench
        .docker(&words.split_whitespace().collect::<Vec<_>>())
        .ok();
    let shown = bench.inspect("full");
    assert_eq!(shown["Id"], id);
    assert_eq!(shown["EnableIPv6"], true);
    assert_eq!(shown["Attachable"], true);
    assert_eq!(shown["Labels"], json!({"a": "b"}));
    assert_eq!(
        shown["IPAM"],
        json!({"Driver": "default", "Options": {}, "Config": [
            {"Subnet": "10.91.0.0/24", "IPRange": "10.91.0.128/25", "Gateway": "10.91.0.254",
             "AuxiliaryAddresses": {"printer": "10.91.0.200"}},
            {"Subnet": "fd00:91::/64"},
        ]})
    );
    assert_eq!(
        shown["Options"]["com.docker.network.bridge.name"],
        "gl-full0"
    );
    let link = bench.ip("addr show dev gl-full0");
    for part in ["mtu 1400", "inet 10.91.0.254/24", "inet6 fd00:91::1/64"] {
        assert!(link.contains(part), "{part}: {link}");
    }
    assert_eq!(bench.docker(&["network", "rm", "full"]).ok(), "full");
    assert!(!bench.has_link("gl-full0"));
    let gone = bench.docker(&["network", "inspect", "full"]);
    assert!(gone.stderr.contains("network full not found"), "{gone}");
}

#[test]
fn lists_and_their_filters() {
    let bench = Bench::new(&[]);
    for words in [
        &["network", "create", "--label", "team=red", "red-net"][..],
        &["network", "create", "--label", "team=blue", "blue-net"],
    ] {
        bench.docker(words).ok();
    }
    let ls = |filters: &[&str]| {
        let mut words = vec![
            "network",
            "ls",
            "--format",
            "{{.Name}} {{.Driver}} {{.Scope}}",
        ];
        for filter in filters {
            words.extend(["--filter", filter]);
        }
        bench.docker(&words).ok().replace('\n', ", ")
    };
    assert_eq!(
        ls(&[]),
        "blue-net bridge local, bridge bridge local, host host local, none null local, red-net bridge local"
    );
    assert_eq!(ls(&["label=team=red"]), "red-net bridge local");
    assert_eq!(
        ls(&["label=team"]),
        "blue-net bridge local, red-net bridge local"
    );
    assert_eq!(ls(&["type=builtin", "driver=null"]), "none null local");
    assert_eq!(
        ls(&["name=^b"]),
        "blue-net bridge local, bridge bridge local"
    );
    assert_eq!(
        ls(&["dangling=true"]),
        "blue-net bridge local, red-net bridge local"
    );
    let id = bench.inspect("red-net")["Id"].as_str().unwrap().to_owned();
    assert_eq!(ls(&[&format!("id={}", &id[..12])]), "red-net bridge local");
    assert_eq!(bench.inspect(&id[..9])["Name"], "red-net");
    assert_eq!(
        bench.refused(
            "GET",
            "/networks?filters=%7B%22type%22%3A%5B%22x%22%5D%7D",
            None
        ),
        "500 invalid filter: 'type'='x'"
    );
    let pruned = bench
        .docker(&["network", "prune", "-f", "--filter", "label!=team=blue"])
        .ok();
    assert_eq!(pruned, "Deleted Networks:\nred-net");
}

#[test]
fn refusals_leave_nothing() {
    let bench = Bench::new(&[]);
    let before = bench.ip("-o link").lines().count();
    let create = |body: Value| bench.refused("POST", "/networks/create", Some(&body));
    let named =
        |name: &str, options: Value| json!({"Name": "x", "Driver": name, "Options": options});
    for (body, expected) in [
        (
            json!({"Name": "x", "Driver": "overlay"}),
            "403 This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
        ),
        (
            named("macvlan", json!({"parent": "nosuch.5"})),
            "500 -o parent interface was not found on the host: nosuch",
        ),
        (
            named("bridge", json!({"com.docker.network.bridge.name": "lo"})),
            "500 existing interface lo is not a bridge",
        ),
        (
            json!({"Name": "x", "Scope": "swarm"}),
            "403 cannot create a swarm scoped network when swarm is not active",
        ),
    ] {
        assert_eq!(create(body), expected);
    }
    assert_eq!(bench.ip("-o link").lines().count(), before);
    let list = bench
        .engine
        .api("GET", "/networks", None)
        .expect(200)
        .json();
    assert_eq!(list.as_array().unwrap().len(), 3);
}

#[test]
fn three_hundred_networks_at_once() {
    let bench = Bench::new(&[]);
    std::thread::scope(|scope| {
        for worker in 0..10 {
            let engine = &bench.engine;
            scope.spawn(move || {
                for number in 0..30 {
                    let body = json!({"Name": format!("many-{worker}-{number}")});
                    engine
                        .api("POST", "/networks/create", Some(&body))
                        .expect(201);
                }
            });
        }
    });
    let list = bench
        .engine
        .api("GET", "/networks", None)
        .expect(200)
        .json();
    let list = list.as_array().unwrap();
    let subnets: BTreeSet<String> = list
        .iter()
        .filter(|n| n["Name"].as_str().unwrap().starts_with("many-"))
        .map(|n| {
            n["IPAM"]["Config"][0]["Subnet"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(subnets.len(), 300);
    let bridges = |bench: &Bench| bench.ip("-o link").matches(": br-").count();
    assert_eq!(bridges(&bench), 300);
    bench.docker(&["network", "prune", "-f"]).ok();
    assert_eq!(bridges(&bench), 0);
}

#[test]
fn what_the_records_say_is_there_after_a_crash() {
    let mut bench = Bench::new(&[]);
    let id = bench
        .docker(&["network", "create", "--subnet", "10.92.0.0/24", "kept"])
        .ok();
    let link = format!("br-{}", &id[..12]);
    let before = bench.inspect("kept");
    bench.engine.kill_daemon();
    // Somebody has taken the bridge away, and one is left that no record names.
    let mark = bench.ip(&format!("-o link show {link}"));
    let mark = mark.split("alias ").nth(1).unwrap().trim().to_owned();
    bench.ip(&format!("link del {link}"));
    bench.ip("link add br-0123456789ab type bridge");
    bench.ip(&format!("link set br-0123456789ab alias {mark}"));
    bench.ip("link add br-somebodys type bridge");
    bench.engine.launch();
    assert_eq!(bench.inspect("kept"), before);
    assert!(
        bench
            .ip(&format!("addr show {link}"))
            .contains("10.92.0.1/24")
    );
    assert!(!bench.has_link("br-0123456789ab"));
    assert!(bench.has_link("br-somebodys"));
    bench.ip("link del br-somebodys");
}

#[test]
fn the_default_bridge_shows_what_the_flags_say() {
    let flags = [
        "--ipv6",
        "--bip6=fd00:93::9/64",
        "--icc=false",
        "--ip=192.0.2.1",
        "--mtu=1300",
        "--default-address-pool=base=10.94.0.0/16,size=24",
        "--default-network-opt=bridge=com.docker.network.driver.mtu=1250",
    ];
    let bench = Bench::new(&flags);
    let shown = bench.inspect("bridge");
    let name = bench.engine.bridge();
    assert_eq!(
        shown["Options"],
        json!({
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "false",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "192.0.2.1",
            "com.docker.network.bridge.name": name,
            "com.docker.network.driver.mtu": "1300",
        })
    );
    assert_eq!(shown["IPAM"]["Config"][1]["Gateway"], "fd00:93::9");
    let link = bench.ip(&format!("addr show dev {name}"));
    assert!(
        link.contains("fd00:93::9/64") && link.contains("mtu 1300"),
        "{link}"
    );
    bench.docker(&["network", "create", "pooled"]).ok();
    let pooled = bench.inspect("pooled");
    assert_eq!(pooled["IPAM"]["Config"][0]["Subnet"], "10.94.0.0/24");
    assert_eq!(pooled["Options"]["com.docker.network.driver.mtu"], "1250");
    let info = bench.engine.api("GET", "/info", None).expect(200).json();
    assert_eq!(
        info["DefaultAddressPools"],
        json!([{"Base": "10.94.0.0/16", "Size": 24}])
    );
}

#[test]
fn containers_hold_their_networks() {
    let bench = Bench::new(&[]);
    bench
        .engine
        .import(&gantry_testkit::busybox_tar(), "busybox");
    bench
        .docker(&["network", "create", "--subnet", "10.95.0.0/24", "one"])
        .ok();
    let run = "run -d --name user --network one --stop-signal KILL busybox sleep 1000";
    let id = bench.docker(&run.split(' ').collect::<Vec<_>>()).ok();
    let shown = bench.inspect("one");
    let user = &shown["Containers"][&id];
    assert_eq!(user["Name"], "user");
    assert_eq!(user["IPv4Address"], "10.95.0.2/24");
    let endpoint = user["EndpointID"].as_str().unwrap();
    assert_eq!(
        bench.refused("DELETE", "/networks/one", None),
        format!(
            "403 error while removing network: network one has active endpoints (name:\"user\" id:\"{}\")",
            &endpoint[..12]
        )
    );
    bench.docker(&["network", "create", "two"]).ok();
    bench.docker(&["network", "connect", "two", "user"]).ok();
    let addresses = bench.docker(&["exec", "user", "ip", "-4", "addr"]).ok();
    assert!(addresses.contains("eth1"), "{addresses}");
    let ls = bench
        .docker(&["network", "ls", "-q", "--filter", "dangling=true"])
        .ok();
    assert_eq!(ls, "");
    bench.docker(&["network", "disconnect", "two", "user"]).ok();
    assert_eq!(
        bench.refused(
            "POST",
            "/networks/two/disconnect",
            Some(&json!({"Container": "user"}))
        ),
        format!("500 container {id} is not connected to network two")
    );
    assert_eq!(
        bench.refused(
            "POST",
            "/networks/two/disconnect",
            Some(&json!({"Container": "no", "Force": true}))
        ),
        "404 endpoint no not found"
    );
    bench.docker(&["rm", "-f", "user"]).ok();
    bench.docker(&["network", "rm", "one", "two"]).ok();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let format = "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}}";
    let mut words = vec![
        "events", "--since", "10m", "--until", &until, "--format", format,
    ];
    words.extend(["--filter", "type=network", "--filter", "network=two"]);
    let told = bench.docker(&words).ok();
    let told: Vec<&str> = told.lines().collect();
    let expected = ["create", "connect", "disconnect", "destroy"];
    assert_eq!(told, expected.map(|action| format!("{action} two bridge")));
}

/// IDs of the bridges that are there, and of the networks on record.
fn bridges_and_records(bench: &Bench) -> (BTreeSet<String>, BTreeSet<String>) {
    let links = bench.ip("-o link");
    let bridges = links.lines().filter_map(|line| {
        let name = line.split(' ').nth(1)?;
        Some(name.strip_prefix("br-")?.trim_end_matches(':').to_owned())
    });
    let list = bench.engine.api(
        "GET",
        "/networks?filters=%7B%22type%22%3A%5B%22custom%22%5D%7D",
        None,
    );
    let list = list.expect(200).json();
    let records = list.as_array().unwrap().iter();
    let records = records.map(|n| n["Id"].as_str().unwrap()[..12].to_owned());
    (bridges.collect(), records.collect())
}

#[test]
fn a_daemon_killed_while_networks_come_and_go() {
    let mut bench = Bench::new(&[]);
    for round in 0..12_u64 {
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let socket = bench.engine.socket();
                scope.spawn(move || {
                    // Until the daemon is gone.
                    for number in 0.. {
                        let name = format!("n-{round}-{worker}-{number}");
                        let body = json!({ "Name": name });
                        let path = format!("/networks/{name}");
                        let made = call(&socket, "POST", "/networks/create", Some(&body)).is_ok();
                        let gone = number % 2 == 0 || call(&socket, "DELETE", &path, None).is_ok();
                        if !made || !gone {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(40 + round * 17));
            bench.engine.kill_daemon();
        });
        bench.engine.launch();
        let (bridges, records) = bridges_and_records(&bench);
        assert_eq!(bridges, records, "round {round}");
    }
}

#[test]
fn the_host_is_left_alone_where_the_flags_say_so() {
    let flags = [
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
    ];
    let bench = Bench::new(&flags);
    bench.docker(&["network", "create", "--ipv6", "quiet"]).ok();
    bench
        .engine
        .import(&gantry_testkit::busybox_tar(), "busybox");
    let run = "run --rm --network quiet -p 8080:80 busybox true";
    bench.docker(&run.split(' ').collect::<Vec<_>>()).ok();
    let inside = |words: &[&str]| ran(bench.machine.inside(words), b"", PATIENCE).ok();
    assert_eq!(inside(&["nft", "list", "tables"]), "");
    for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        let path = format!("/proc/sys/net/{family}");
        assert_eq!(inside(&["cat", &path]), "0", "{family}");
    }
}

#[test]
fn without_a_default_bridge_containers_have_the_networks_that_they_name() {
    let bench = Bench::with(Options {
        users_bridge: Some("none".to_owned()),
        ..Options::default()
    });
    bench
        .engine
        .import(&gantry_testkit::busybox_tar(), "busybox");
    let ls = bench.docker(&["network", "ls", "--format", "{{.Name}}"]);
    assert_eq!(ls.ok(), "host\nnone");
    let links = |network: &str| {
        let words = format!("run --rm {network} busybox ls /sys/class/net");
        bench
            .docker(&words.split_whitespace().collect::<Vec<_>>())
            .ok()
    };
    assert_eq!(links(""), "lo");
    bench.docker(&["network", "create", "own"]).ok();
    assert_eq!(links("--network own"), "eth0\nlo");
}
