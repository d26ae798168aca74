//! The daemon as a process: its flags, sockets, and how it starts and ends.

use gantry_testkit::{Engine, Options, ran, until};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_second_daemon_on_the_same_root_refuses() {
    let engine = Engine::start();
    let second = ran(engine.daemon_command(), b"", PATIENCE);
    assert_ne!(second.code, 0);
    let pid = engine.daemon_pid().to_string();
    assert!(
        second.stderr.contains(&pid),
        "it says who is in the way: {second}"
    );
    engine.serves();
}

#[test]
fn an_unknown_flag_is_told() {
    let engine = Engine::start();
    let mut command = engine.daemon_command();
    command.arg("--no-such-flag");
    let refused = ran(command, b"", PATIENCE);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("--no-such-flag"), "{refused}");
    let client = engine
        .gantry(&["run", "--no-such-flag", "busybox"])
        .fails_with(125);
    assert!(client.contains("unknown flag: --no-such-flag"), "{client}");
    engine.serves();
}

#[test]
fn the_socket_is_for_root_and_the_group() {
    let engine = Engine::start();
    let meta = std::fs::metadata(engine.socket()).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    assert_eq!(meta.uid(), 0);
}

#[test]
fn a_socket_file_of_a_killed_daemon_is_replaced() {
    let mut engine = Engine::start();
    engine.kill_daemon();
    assert!(engine.socket().exists());
    engine.launch();
    engine.serves();
}

#[test]
fn it_listens_on_tcp_beside_the_unix_socket() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let engine = Engine::with(Options {
        flags: vec!["-H".into(), format!("tcp://{address}")],
        ..Options::default()
    });
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream
        .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("OK"),
        "{answer}"
    );
    let mut client = std::process::Command::new(engine.folder().join("gantry"));
    client.args([
        "-H",
        &format!("tcp://{address}"),
        "version",
        "--format",
        "{{.Server.Os}}",
    ]);
    assert_eq!(ran(client, b"", PATIENCE).ok(), "linux");
}

#[test]
fn daemon_json_is_read_and_flags_must_not_contradict_it() {
    let folder = tempfile::Builder::new()
        .prefix("gantry-config-")
        .tempdir()
        .unwrap();
    let config = folder.path().join("daemon.json");
    std::fs::write(
        &config,
        r#"{"log-opts": {"max-size": "123k"}, "dns": ["8.8.4.4"]}"#,
    )
    .unwrap();
    let engine = Engine::with(Options {
        flags: vec![
            "--config-file".into(),
            config.to_string_lossy().into_owned(),
        ],
        ..Options::default()
    });
    engine.import(&gantry_testkit::busybox_tar(), "busybox");
    let said = engine
        .gantry(&["run", "--name", "con", "busybox", "cat", "/etc/resolv.conf"])
        .ok();
    assert!(said.contains("nameserver 8.8.4.4"), "{said}");
    assert_eq!(
        engine.inspect("con")["HostConfig"]["LogConfig"]["Config"]["max-size"],
        "123k"
    );
    std::fs::write(&config, "{ not json").unwrap();
    let refused = ran(engine.daemon_command(), b"", PATIENCE);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("daemon.json"),
        "the file is named: {refused}"
    );
}

#[test]
fn the_daemon_is_stopped_by_the_client() {
    let mut engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    let pid = engine.daemon_pid();
    engine.gantry(&["system", "stop-daemon"]).ok();
    // It is this process's child: it has ended when nothing but its exit status is left.
    until("the daemon ends", PATIENCE, || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    });
    engine.reap();
    engine.launch();
    assert_eq!(engine.inspect("con")["State"]["Running"], true);
}

#[test]
fn no_daemon_and_a_named_host_is_a_clear_sentence() {
    let engine = Engine::start();
    let mut client = std::process::Command::new(engine.folder().join("gantry"));
    let nowhere = format!("unix://{}", engine.folder().join("nowhere").display());
    client.args(["-H", &nowhere, "ps"]);
    let said = ran(client, b"", PATIENCE).fails_with(1);
    assert!(
        said.contains("Cannot connect to the Gantry daemon at"),
        "{said}"
    );
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn it_is_at_home_with_dockers_headers() {
    let engine = Engine::start();
    let ping = engine.api("GET", "/_ping", None).expect(200);
    assert_eq!(ping.text(), "OK");
    for (name, value) in [
        ("api-version", "1.51"),
        ("ostype", "linux"),
        ("docker-experimental", "false"),
    ] {
        assert_eq!(ping.header(name), Some(value));
    }
    engine.api("GET", "/v1.24/version", None).expect(200);
    let old = engine.api("GET", "/v1.23/version", None).expect(400).json();
    assert!(
        old["message"]
            .as_str()
            .unwrap()
            .contains("client version 1.23 is too old"),
        "{old}"
    );
    let none = engine.api("GET", "/v1.51/no/such", None).expect(404).json();
    assert_eq!(none["message"], "page not found");
}

#[test]
fn events_tell_the_life_of_a_container() {
    let engine = Engine::with_busybox();
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    engine
        .gantry(&["run", "--rm", "--name", "told", "busybox", "true"])
        .ok();
    until("the container is gone", PATIENCE, || {
        engine.api("GET", "/containers/told/json", None).status == 404
    });
    std::thread::sleep(Duration::from_millis(1100));
    let now = since + 60;
    let path = format!("/events?since={since}&until={}", now.min(since + 2));
    let text = engine.api("GET", &path, None).expect(200).text();
    let actions: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| {
            event["Actor"]["Attributes"]["name"] == "told" || event["Type"] == "network"
        })
        .map(|event| event["Action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        actions,
        [
            "create",
            "attach",
            "connect",
            "start",
            "die",
            "disconnect",
            "destroy"
        ],
        "{text}"
    );
}

/// The default places, as a newcomer has them, in mount and network namespaces made for this test; only the cgroups are
/// the machine's, so they get a parent of the test's own by the configuration file.
#[test]
fn the_first_command_starts_a_daemon_and_hello_world_needs_no_network() {
    let parent = format!("/gantry-first-{}", std::process::id());
    let script = format!(
        r#"set -e
        for dir in /run /var/lib /etc/gantry; do mkdir -p $dir; mount -t tmpfs tmpfs $dir; done
        printf '{{"cgroup-parent":"{parent}"}}' > /etc/gantry/daemon.json
        ip link set lo up
        $GANTRY_BINARY run hello-world
        $GANTRY_BINARY run --rm --rootfs /:O sh -c 'echo own files; touch /var/tmp/first-mark-{pid}; ls /var/tmp'
        ls /var/tmp
        $GANTRY_BINARY ps -a --format '{{{{.Image}}}} {{{{.Status}}}}'
        ip -o link show docker0 | grep -c docker0
        $GANTRY_BINARY rm $($GANTRY_BINARY ps -aq)
        $GANTRY_BINARY system stop-daemon
        $GANTRY_BINARY -H unix:///run/gantry/gantry.sock ps 2>&1 || true"#,
        pid = std::process::id()
    );
    let made = !std::path::Path::new("/etc/gantry").exists();
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--mount",
        "--net",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
    ]);
    command.env_remove("DOCKER_HOST").env_remove("GANTRY_HOST");
    let told = ran(command, b"", Duration::from_secs(60));
    if made {
        // The empty mount point.
        std::fs::remove_dir("/etc/gantry").unwrap();
    }
    remove_cgroup(&parent);
    let text = told.ok();
    assert!(
        text.contains("built into Gantry") || told.stderr.contains("Unable to find image"),
        "{told}"
    );
    let mark = format!("first-mark-{}", std::process::id());
    assert_eq!(
        text.matches(&mark).count(),
        1,
        "the container's file is the container's: {told}"
    );
    assert!(text.contains("hello-world Exited (0)"), "{told}");
    assert!(
        text.contains("Cannot connect to the Gantry daemon"),
        "the daemon was stopped: {told}"
    );
}

/// Takes a cgroup parent of a test away from every hierarchy.
fn remove_cgroup(parent: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = hierarchy.path().join(parent.trim_start_matches('/'));
        if group.exists() {
            std::fs::remove_dir(&group).expect("no container's group is left in it");
        }
    }
}
