//! The default bridge, and `--network none|host|bridge`.

use gantry_testkit::{Engine, Machine, Options, busybox_tar, ran};
use std::sync::Arc;
use std::time::Duration;

/// An engine on a network of its own, where nobody else has rules.
fn on_a_machine() -> (Engine, Arc<Machine>) {
    let machine = Arc::new(Machine::new());
    let engine = Engine::with(Options {
        machine: Some(machine.clone()),
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    (engine, machine)
}

#[test]
fn bridge_none_and_host() {
    let engine = Engine::with_busybox();
    let run = |network: &str, script: &str| {
        engine
            .gantry(&[
                "run",
                "--rm",
                "--network",
                network,
                "busybox",
                "sh",
                "-c",
                script,
            ])
            .ok()
    };
    assert_eq!(run("none", "ls /sys/class/net"), "lo");
    let said = run(
        "bridge",
        "ls /sys/class/net; ip -4 -o addr show eth0; ip route",
    );
    assert!(said.starts_with("eth0\nlo\n"), "{said}");
    assert!(
        said.contains(&format!("inet {}.", engine.subnet())),
        "{said}"
    );
    assert!(
        said.contains(&format!("default via {}.1 dev eth0", engine.subnet())),
        "{said}"
    );
    let host = run("host", "ls /sys/class/net");
    assert!(host.lines().any(|link| link == engine.bridge()), "{host}");
}

#[test]
fn containers_reach_each_other_and_the_host() {
    let (engine, _machine) = on_a_machine();
    engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "server",
            "busybox",
            "sh",
            "-c",
            "echo hi > /i; httpd -f -h / -p 80",
        ])
        .ok();
    let address = engine.inspect("server")["NetworkSettings"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://{address}/i && exit; sleep 0.2; done; exit 1"
    );
    assert_eq!(
        engine
            .gantry(&["run", "--rm", "busybox", "sh", "-c", &script])
            .ok(),
        "hi"
    );
    let gateway = format!("{}.1", engine.subnet());
    engine
        .gantry(&[
            "run", "--rm", "busybox", "ping", "-c", "1", "-W", "2", &gateway,
        ])
        .ok();
}

#[test]
fn files_of_the_network_are_as_docker_writes_them() {
    let engine = Engine::with_busybox();
    let said = engine
        .gantry(&[
            "run",
            "--rm",
            "--hostname",
            "box",
            "--add-host",
            "other:10.1.2.3",
            "--dns",
            "9.9.9.9",
            "busybox",
            "sh",
            "-c",
            "cat /etc/hostname /etc/hosts; grep ^nameserver /etc/resolv.conf",
        ])
        .ok();
    assert!(said.starts_with("box\n127.0.0.1\tlocalhost\n"), "{said}");
    assert!(said.contains("10.1.2.3\tother\n"), "{said}");
    assert!(
        said.lines()
            .any(|line| line.starts_with(engine.subnet()) && line.ends_with("\tbox")),
        "{said}"
    );
    assert!(said.ends_with("nameserver 9.9.9.9"), "{said}");
}

#[test]
fn addresses_are_used_again_after_release() {
    let engine = Engine::with(Options {
        prefix: 29,
        ..Default::default()
    });
    engine.import(&busybox_tar(), "busybox");
    for _ in 0..20 {
        engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
    }
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(
            engine
                .gantry(&["run", "-d", "busybox", "sleep", "1000"])
                .ok(),
        );
    }
    // 8 addresses: network, broadcast, bridge, five containers: the sixth finds none, and says so.
    let full = engine
        .gantry(&["run", "--rm", "busybox", "true"])
        .fails_with(125);
    assert!(full.contains("no available IPv4 addresses"), "{full}");
    engine.gantry(&["rm", "-f", &held[0]]).ok();
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
}

#[test]
fn a_container_joins_anothers_network() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "first", "busybox", "sleep", "1000"])
        .ok();
    let address = engine.inspect("first")["NetworkSettings"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    let seen = engine
        .gantry(&[
            "run",
            "--rm",
            "--network",
            "container:first",
            "busybox",
            "ip",
            "-4",
            "-o",
            "addr",
            "show",
            "eth0",
        ])
        .ok();
    assert!(seen.contains(&address), "{seen}");
}

#[test]
fn the_outside_sees_the_machines_address() {
    let (engine, machine) = on_a_machine();
    // The outside knows no way back to the bridge's subnet: without NAT no answer would come.
    let server = "import http.server as h\nclass A(h.BaseHTTPRequestHandler):\n def do_GET(s):\n  b=s.client_address[0].encode()\n  \
                  s.send_response(200); s.send_header('Content-Length', str(len(b))); s.end_headers(); s.wfile.write(b)\n \
                  def log_message(s, *a): pass\nh.HTTPServer(('192.0.2.2', 80), A).serve_forever()";
    let mut server = machine.outside(&["python3", "-c", server]).spawn().unwrap();
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do timeout 3 wget -qO- http://{}/ && exit; sleep 0.3; done; exit 1",
        Machine::OUTSIDE
    );
    let seen = engine.gantry(&["run", "--rm", "busybox", "sh", "-c", &script]);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(seen.ok(), Machine::ADDRESS);
    // And nothing goes out by itself with --network none.
    let script = format!("timeout 3 wget -qO- http://{}/", Machine::OUTSIDE);
    let none = engine
        .gantry(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            &script,
        ])
        .fails_with(1);
    assert!(none.contains("unreachable"), "{none}");
}

#[test]
fn rules_of_others_stay_as_they_are() {
    let machine = Arc::new(Machine::new());
    let inside = |words: &[&str]| {
        let mut command = machine.inside(words);
        command.stdin(std::process::Stdio::null());
        ran(command, b"", Duration::from_secs(10)).ok()
    };
    inside(&[
        "nft",
        "add table inet theirs; add chain inet theirs c { type filter hook forward priority 0; policy accept; }; add rule inet theirs c counter",
    ]);
    let before = inside(&["nft", "-s", "list", "table", "inet", "theirs"]);
    {
        let engine = Engine::with(Options {
            machine: Some(machine.clone()),
            ..Options::default()
        });
        engine.import(&busybox_tar(), "busybox");
        engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
    }
    assert_eq!(
        inside(&["nft", "-s", "list", "table", "inet", "theirs"]),
        before
    );
}
