//! Log drivers, and reading logs while they are written, rotated, compressed and cut off.

use gantry_testkit::{Engine, read_frames, until};
use serde_json::{Value, json};
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// Names and sizes in a container's folder.
fn files(engine: &Engine, container: &str) -> Vec<String> {
    let id = engine.inspect(container)["Id"].as_str().unwrap().to_owned();
    let folder = engine.data_root().join("containers").join(id);
    let mut names = Vec::new();
    for folder in [folder.clone(), folder.join("local-logs")] {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        names.extend(entries.map(|e| e.unwrap().file_name().into_string().unwrap()));
    }
    names.sort();
    names
}

fn log_opts<'a>(driver: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["--log-driver", driver];
    for option in options {
        words.extend(["--log-opt", option]);
    }
    words
}

fn run(engine: &Engine, name: &str, log: &[&str], script: &str) -> gantry_testkit::Ran {
    let mut words = vec!["run", "--name", name];
    words.extend(log);
    words.extend(["busybox", "sh", "-c", script]);
    engine.gantry(&words)
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn compressed_files_are_read_as_one() {
    let engine = Engine::with_busybox();
    for (driver, options) in [
        (
            "json-file",
            ["max-size=400k", "max-file=40", "compress=true"],
        ),
        ("local", ["max-size=100k", "max-file=40", "compress=true"]),
    ] {
        let script = "seq 1 40000; printf 'no end'";
        run(&engine, driver, &log_opts(driver, &options), script).ok();
        let all = engine.gantry(&["logs", driver]).ok();
        let wanted: Vec<String> = (1..=40_000).map(|n| n.to_string()).collect();
        assert!(
            all == format!("{}\nno end", wanted.join("\n")),
            "{driver}: {} bytes from {:?} on",
            all.len(),
            all.lines().next()
        );
        let tail = engine.gantry(&["logs", "--tail", "30001", driver]).ok();
        assert!(tail.starts_with("10001\n"), "{driver}: {}", &tail[..20]);
        let names = files(&engine, driver);
        let compressed = names.iter().filter(|name| name.ends_with(".gz"));
        assert!(compressed.count() > 3, "{names:?}");
        let current = if driver == "local" {
            "container.log"
        } else {
            "-json.log"
        };
        assert!(
            names.iter().any(|name| name.ends_with(current)),
            "{names:?}"
        );
        let stamped = engine.gantry(&["logs", "-t", "--tail", "2", driver]).ok();
        let time = stamped.split(' ').next().unwrap().to_owned();
        assert_eq!(
            time.len(),
            "2025-01-02T03:04:05.123456789Z".len(),
            "{stamped}"
        );
        let since = engine.gantry(&["logs", "--since", &time, driver]).ok();
        assert!(since.contains("40000"), "{since}");
        assert_eq!(
            engine
                .gantry(&["logs", "--since", "2099-01-01", driver])
                .ok(),
            ""
        );
        assert_eq!(
            engine
                .gantry(&["logs", "--until", "2001-01-01", driver])
                .ok(),
            ""
        );
    }
    let path = engine.inspect("local")["LogPath"].clone();
    assert_eq!(path, "", "the local driver's files are its own");
}

#[test]
fn a_follower_comes_to_the_end_of_a_log_that_is_cut_off() {
    let engine = Engine::with_busybox();
    for (driver, options) in [
        ("json-file", vec!["max-size=1k", "max-file=1"]),
        ("local", vec!["max-size=1k", "max-file=1", "compress=false"]),
        ("local", vec!["max-size=20k", "max-file=3"]),
    ] {
        let mut words = vec!["run", "-d", "--name", "much"];
        let log = log_opts(driver, &options);
        words.extend(log);
        words.extend(["busybox", "sh", "-c", "sleep 1; seq 1 200000; printf last"]);
        engine.gantry(&words).ok();
        let ran = engine.gantry(&["logs", "-f", "much"]);
        let (lines, last) = ran.stdout.rsplit_once('\n').unwrap();
        assert_eq!(last, "last", "{driver}");
        let numbers = numbers(lines);
        assert!(
            numbers.windows(2).all(|two| two[0] < two[1]),
            "{driver}: order"
        );
        assert_eq!(numbers.last(), Some(&200_000), "{driver}");
        engine.gantry(&["rm", "much"]).ok();
    }
}

#[test]
fn output_goes_on_while_the_daemon_is_away() {
    let mut engine = Engine::with_busybox();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("fluentd-address={}", server.local_addr().unwrap());
    let script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.1; done";
    for (name, log) in [
        ("file", log_opts("local", &[])),
        ("remote", log_opts("fluentd", &[&address])),
    ] {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(log);
        words.extend(["busybox", "sh", "-c", script]);
        engine.gantry(&words).ok();
    }
    engine.kill_daemon();
    std::thread::sleep(Duration::from_secs(5));
    engine.launch();
    let wanted: Vec<u32> = (1..=40).collect();
    for name in ["file", "remote"] {
        let followed = engine.gantry(&["logs", "-f", name]).ok();
        assert!(numbers(&followed) == wanted, "{name}: {followed}");
    }
    let mut bytes = Vec::new();
    let (mut socket, _) = server.accept().unwrap();
    socket.read_to_end(&mut bytes).unwrap();
    let count = bytes
        .windows(4)
        .filter(|window| *window == b"\xa3log")
        .count();
    assert_eq!(count, 40);
}

/// What a server of syslog over TCP has got when its client hung up.
fn received(server: &TcpListener) -> String {
    let mut text = String::new();
    server
        .accept()
        .unwrap()
        .0
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[test]
fn remote_drivers_send_and_keep_a_copy() {
    let engine = Engine::with_busybox();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=tcp://{}", tcp.local_addr().unwrap());
    let mut log = log_opts(
        "syslog",
        &[
            &address,
            "syslog-format=rfc5424micro",
            "syslog-facility=local3",
            "tag={{.Name}}/{{.ImageName}}",
        ],
    );
    log.extend(["--label", "a=b"]);
    run(&engine, "sys", &log, "echo out; echo; echo err >&2").ok();
    let text = received(&tcp);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("<158>1 2") && l.ends_with(" sys/busybox - out")),
        "{text}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("<155>1 2") && l.ends_with(" sys/busybox - err")),
        "{text}"
    );
    assert_eq!(engine.gantry(&["logs", "sys"]).stdout, "out\n\n");
    assert_eq!(
        files(&engine, "sys"),
        ["container-cached.log", "local-logs"][..1]
    );

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = format!("gelf-address=udp://{}", udp.local_addr().unwrap());
    let mut log = log_opts(
        "gelf",
        &[
            &address,
            "gelf-compression-type=none",
            "labels=a,c",
            "env-regex=^X",
            "tag=t",
        ],
    );
    log.extend(["--label", "a=b", "-e", "XY=z"]);
    run(&engine, "gelf", &log, "echo hello").ok();
    let mut bytes = [0; 8192];
    let count = udp.recv(&mut bytes).unwrap();
    let message: Value = serde_json::from_slice(&bytes[..count]).unwrap();
    for (name, value) in [
        ("short_message", "hello"),
        ("_container_name", "gelf"),
        ("_a", "b"),
        ("_XY", "z"),
        ("_tag", "t"),
        ("_command", "sh -c echo hello"),
        ("_image_name", "busybox"),
    ] {
        assert_eq!(message[name], value, "{message}");
    }
    assert_eq!(engine.gantry(&["logs", "gelf"]).ok(), "hello");

    let path = engine.folder().join("fluentd");
    let unix = UnixListener::bind(&path).unwrap();
    let address = format!("fluentd-address=unix://{}", path.display());
    let log = log_opts("fluentd", &[&address, "cache-disabled=true"]);
    run(&engine, "flu", &log, "echo hello").ok();
    let mut bytes = Vec::new();
    unix.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
    let id = engine.inspect("flu")["Id"].as_str().unwrap().to_owned();
    assert!(bytes.starts_with(&[b"\x93\xac", &id.as_bytes()[..12], b"\xd3"].concat()));
    let ran = engine.gantry(&["logs", "flu"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            1,
            "Error response from daemon: configured logging driver does not support reading\n"
        )
    );
}

#[test]
fn a_remote_that_takes_nothing() {
    let engine = Engine::with_busybox();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("fluentd-address={}", server.local_addr().unwrap());
    let script = "seq 1 300000; echo done >/dev/console 2>/dev/null; sleep 60";
    for (name, mode) in [("free", "mode=non-blocking"), ("held", "mode=blocking")] {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(log_opts("fluentd", &[&address, mode]));
        words.extend(["busybox", "sh", "-c", script]);
        engine.gantry(&words).ok();
    }
    let last = |name| engine.gantry(&["logs", "--tail", "1", name]).ok();
    until("all output is taken", Duration::from_secs(60), || {
        last("free").trim() == "300000"
    });
    // The other one waits, but its shim does not: it attaches, resizes, stops.
    let before = last("held");
    assert_ne!(before.trim(), "300000");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(last("held"), before);
    let begin = Instant::now();
    engine.gantry(&["kill", "held"]).ok();
    assert_eq!(engine.gantry(&["wait", "held"]).ok().trim(), "137");
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );
    engine.gantry(&["rm", "-f", "free"]).ok();
}

#[test]
fn attaching_with_logs_misses_and_repeats_nothing() {
    let engine = Engine::with_busybox();
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); printf $i; printf '\\n'; done; read x";
    let body = json!({"Image": "busybox", "OpenStdin": true, "Cmd": ["sh", "-c", script],
        "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "100"}}}});
    engine
        .api("POST", "/containers/create?name=both", Some(&body))
        .expect(201);
    engine
        .api("POST", "/containers/both/start", None)
        .expect(204);
    let mut attached = Vec::new();
    for _ in 0..8 {
        attached.push(engine.hijack(
            "/containers/both/attach?stream=1&logs=1&stdin=1&stdout=1&stderr=1",
            b"",
        ));
        std::thread::sleep(Duration::from_millis(5));
    }
    until("all is written", Duration::from_secs(20), || {
        engine.gantry(&["logs", "--tail", "1", "both"]).ok().trim() == "3000"
    });
    engine.gantry(&["kill", "both"]).ok();
    let wanted: Vec<u32> = (1..=3000).collect();
    for one in attached {
        let (frames, rest) = read_frames(&one.finish());
        assert!(rest.is_empty());
        let text: Vec<u8> = frames.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let numbers = numbers(&String::from_utf8(text).unwrap());
        assert!(numbers == wanted, "{} lines", numbers.len());
    }
    // Of one that has ended, and without going on.
    let ended = engine.hijack("/containers/both/attach?logs=1&stdout=1", b"");
    let (frames, _) = read_frames(&ended.finish());
    assert_eq!(frames.len(), 3000);
}

/// Driver, options, and why they are refused when a container is made.
const AT_CREATE: &[(&str, &[&str], &str)] = &[
    (
        "json-file",
        &["x=y"],
        "unknown log opt 'x' for json-file log driver",
    ),
    (
        "local",
        &["labels=y"],
        "unknown log opt 'labels' for log driver local",
    ),
    (
        "journald",
        &["max-size=1"],
        "unknown log opt 'max-size' for journald log driver",
    ),
    (
        "syslog",
        &["a=b"],
        "unknown log opt 'a' for syslog log driver",
    ),
    (
        "syslog",
        &["syslog-address=ftp://x"],
        "unsupported scheme: 'ftp'",
    ),
    (
        "syslog",
        &["syslog-address=unix:///nope"],
        "stat /nope: no such file or directory",
    ),
    ("syslog", &["syslog-facility=x"], "invalid syslog facility"),
    ("syslog", &["syslog-format=x"], "Invalid syslog format"),
    (
        "syslog",
        &["syslog-address=127.0.0.1:5"],
        "parse \"127.0.0.1:5\": first path segment in URL cannot contain colon",
    ),
    ("gelf", &[], "gelf-address is a required parameter"),
    (
        "gelf",
        &["gelf-address=http://a:1"],
        "gelf: endpoint needs to be TCP or UDP",
    ),
    (
        "gelf",
        &["gelf-address=tcp://a"],
        "gelf: please provide gelf-address as proto://host:port",
    ),
    (
        "gelf",
        &["gelf-address=tcp://a:1", "gelf-compression-type=gzip"],
        "compression is only supported on UDP",
    ),
    (
        "gelf",
        &["gelf-address=udp://a:1", "gelf-compression-level=10"],
        "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
    ),
    (
        "fluentd",
        &["b=c"],
        "unknown log opt 'b' for fluentd log driver",
    ),
    (
        "fluentd",
        &["fluentd-address=udp://a"],
        "invalid fluentd-address (udp://a): unsupported scheme: 'udp'",
    ),
    (
        "fluentd",
        &["fluentd-retry-wait=5"],
        "time: missing unit in duration \"5\"",
    ),
    (
        "json-file",
        &["mode=x"],
        "logger: logging mode not supported: x",
    ),
    (
        "json-file",
        &["max-buffer-size=1m"],
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ),
    (
        "json-file",
        &["mode=non-blocking", "max-buffer-size=x"],
        "error parsing option max-buffer-size: invalid size: 'x'",
    ),
    (
        "nope",
        &[],
        "error looking up logging plugin nope: plugin \"nope\" not found",
    ),
];

/// Driver, options, and why a container with them does not start.
const AT_START: &[(&str, &[&str], &str)] = &[
    ("json-file", &["max-size=x"], "invalid size: 'x'"),
    ("json-file", &["max-size=5z"], "invalid suffix: 'z'"),
    (
        "json-file",
        &["max-file=0"],
        "max-file cannot be less than 1",
    ),
    (
        "json-file",
        &["compress=true", "max-file=1"],
        "compress cannot be true when max-file is less than 2 or max-size is not set",
    ),
    (
        "local",
        &["max-file=1"],
        "compression cannot be enabled when max file count is 1",
    ),
    (
        "syslog",
        &["syslog-address=tcp://127.0.0.1:1"],
        "dial tcp 127.0.0.1:1: connect: connection refused",
    ),
    (
        "gelf",
        &["gelf-address=tcp://127.0.0.1:1"],
        "gelf: cannot connect to GELF endpoint: 127.0.0.1:1 dial tcp 127.0.0.1:1: connect: connection refused",
    ),
    (
        "fluentd",
        &["fluentd-address=127.0.0.1:1"],
        "dial tcp 127.0.0.1:1: connect: connection refused",
    ),
];

#[test]
fn wrong_options_in_dockers_words() {
    let engine = Engine::with_busybox();
    for (driver, options, words) in AT_CREATE {
        let mut create = vec!["create"];
        create.extend(log_opts(driver, options));
        create.extend(["busybox", "true"]);
        let said = engine.gantry(&create).fails_with(1);
        assert_eq!(
            said.trim(),
            format!("Error response from daemon: {words}"),
            "{driver} {options:?}"
        );
    }
    for (driver, options, words) in AT_START {
        let mut run = vec!["run", "--rm"];
        run.extend(log_opts(driver, options));
        run.extend(["busybox", "true"]);
        let said = engine.gantry(&run).fails_with(125);
        let wanted = format!(
            "Error response from daemon: failed to create task for container: failed to initialize logging driver: {words}"
        );
        assert!(said.contains(&wanted), "{driver} {options:?}: {said}");
    }
    // Told to go on without: the container runs.
    let log = log_opts(
        "fluentd",
        &["fluentd-address=127.0.0.1:1", "fluentd-async=true"],
    );
    assert_eq!(run(&engine, "async", &log, "echo hello").ok(), "hello");
    assert_eq!(engine.gantry(&["logs", "async"]).ok(), "hello");
}

#[test]
fn attributes_of_lines() {
    let engine = Engine::with_busybox();
    let mut log = log_opts(
        "json-file",
        &[
            "labels=a",
            "labels-regex=^x\\.",
            "env=E,NOPE",
            "env-regex=^F",
            "tag={{.ImageName}}:{{.ID}}:{{upper .Name}}",
        ],
    );
    log.extend([
        "-l", "a=1 2", "-l", "x.y=3", "-l", "b=no", "-e", "E=4", "-e", "FF=5",
    ]);
    run(&engine, "attr", &log, "echo line").ok();
    let id = engine.inspect("attr")["Id"].as_str().unwrap()[..12].to_owned();
    assert_eq!(
        engine.gantry(&["logs", "--details", "attr"]).ok(),
        format!("E=4,FF=5,a=1+2,tag=busybox%3A{id}%3AATTR,x.y=3 line")
    );
}
