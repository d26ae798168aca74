//! Where other engines went wrong: what is not with the subject it belongs to.

use gantry_testkit::{Engine, Options, busybox_tar, call, ran, read_frames, until};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_thousand_exits_are_seven() {
    let engine = Engine::with_busybox();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let words = [
                        "run",
                        "--rm",
                        "--network",
                        "none",
                        "busybox",
                        "sh",
                        "-c",
                        "exit 7",
                    ];
                    let ran = engine.gantry(&words);
                    assert_eq!(ran.code, 7, "{ran}");
                }
            });
        }
    });
    engine.clean();
}

#[test]
fn a_wait_for_the_next_exit_before_the_start() {
    let engine = Engine::with_busybox();
    for round in 0..30 {
        let name = format!("con{round}");
        let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "exit 9"],
            "HostConfig": {"AutoRemove": true, "NetworkMode": "none"}});
        engine
            .api(
                "POST",
                &format!("/containers/create?name={name}"),
                Some(&body),
            )
            .expect(201);
        let socket = engine.socket();
        let waiting: Vec<_> = ["next-exit", "removed"]
            .into_iter()
            .map(|condition| {
                let path = format!("/containers/{name}/wait?condition={condition}");
                let socket = socket.clone();
                std::thread::spawn(move || call(&socket, "POST", &path, None))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(round % 7));
        engine
            .api("POST", &format!("/containers/{name}/start"), None)
            .expect(204);
        for waiter in waiting {
            let answer = waiter.join().unwrap().unwrap();
            // Only one that asked after the removal finds nothing.
            if answer.status != 404 {
                assert_eq!(answer.expect(200).json()["StatusCode"], 9);
            }
        }
    }
}

#[test]
fn an_interrupt_of_the_client_ends_the_program_with_130() {
    use rustix::process::{Pid, Signal, kill_process};
    let engine = Engine::with_busybox();
    let mut client = engine
        .command(&[
            "run",
            "--rm",
            "--name",
            "con",
            "busybox",
            "sh",
            "-c",
            "trap 'exit 130' INT; echo ready; while :; do sleep 0.05; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    client
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    let pid = Pid::from_raw(client.id() as i32).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(130));
}

#[test]
fn a_hundred_resizes_lose_no_byte() {
    let engine = Engine::with_busybox();
    let script = "for i in $(seq 1 3000); do echo line $i; [ $((i % 30)) = 0 ] && sleep 0.01; done";
    let body = json!({"Image": "busybox", "Tty": true, "Cmd": ["sh", "-c", script],
        "HostConfig": {"ConsoleSize": [24, 80]}});
    engine
        .api("POST", "/containers/create?name=con", Some(&body))
        .expect(201);
    let attached = engine.hijack("/containers/con/attach?stream=1&stdout=1", b"");
    engine
        .api("POST", "/containers/con/start", None)
        .expect(204);
    for round in 0..100 {
        let path = format!(
            "/containers/con/resize?h={}&w={}",
            20 + round % 50,
            60 + round
        );
        let answer = engine.api("POST", &path, None);
        assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
    }
    let all = String::from_utf8(attached.finish()).unwrap();
    let expected: String = (1..=3000).map(|i| format!("line {i}\r\n")).collect();
    assert!(all == expected, "{} of {} bytes", all.len(), expected.len());
}

#[test]
fn ten_megabytes_on_both_streams_at_once() {
    let engine = Engine::with_busybox();
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c",
        "head -c 10000000 /dev/zero | tr '\\0' o & head -c 10000000 /dev/zero | tr '\\0' e >&2; wait"]});
    engine
        .api("POST", "/containers/create?name=con", Some(&body))
        .expect(201);
    let attached = engine.hijack("/containers/con/attach?stream=1&stdout=1&stderr=1", b"");
    engine
        .api("POST", "/containers/con/start", None)
        .expect(204);
    let (frames, rest) = read_frames(&attached.finish());
    assert!(rest.is_empty());
    for (kind, letter) in [(1, b'o'), (2, b'e')] {
        let bytes: Vec<u8> = frames
            .iter()
            .filter(|(of, _)| *of == kind)
            .flat_map(|(_, bytes)| bytes.clone())
            .collect();
        assert_eq!(bytes.len(), 10_000_000);
        assert!(bytes.iter().all(|byte| *byte == letter));
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A certificate authority, and what it signed for the daemon and for a client.
fn certificates(folder: &Path) {
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(folder);
        ran(command, b"", PATIENCE).ok();
    };
    std::fs::create_dir_all(folder).unwrap();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca-key.pem",
        "-out",
        "ca.pem",
    ]);
    for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let extensions = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(folder.join(format!("{name}.ext")), extensions).unwrap();
        let (key, request) = (format!("{name}-key.pem"), format!("{name}.csr"));
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
            "-extfile",
            &format!("{name}.ext"),
            "-out",
            &format!("{name}.pem"),
        ]);
    }
}

/// Input that ends, and then the answer to it: through a client that talks to the daemon in its own way.
fn half_closes(client: &dyn Fn(&[&str]) -> Command) {
    let input: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    let inside = ran(
        client(&["exec", "-i", "con", "sh", "-c", "cat > /x; md5sum < /x"]),
        &input,
        PATIENCE,
    )
    .ok();
    let outside = ran(Command::new("md5sum"), &input, PATIENCE).ok();
    assert_eq!(inside, outside);
    let script = "wc -c; head -c 50000000 /dev/zero | tr '\\0' x";
    let answer = ran(
        client(&["exec", "-i", "con", "sh", "-c", script]),
        b"12345",
        PATIENCE,
    )
    .ok();
    assert!(answer.starts_with("5\n"));
    assert_eq!(answer.len(), 2 + 50_000_000);
}

#[test]
fn half_closed_streams_over_tcp_and_tls() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    for tls in [false, true] {
        let address = format!("tcp://127.0.0.1:{}", free_port());
        let mut flags = vec!["-H".to_owned(), address.clone()];
        if tls {
            flags.extend([
                "--tlsverify".to_owned(),
                "--tlscacert".into(),
                path("ca.pem"),
            ]);
            flags.extend(["--tlscert".into(), path("server.pem")]);
            flags.extend(["--tlskey".into(), path("server-key.pem")]);
        }
        let engine = Engine::with(Options {
            flags,
            ..Options::default()
        });
        engine.import(&busybox_tar(), "busybox");
        engine
            .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
            .ok();
        let with = |certified: bool, words: &[&str]| {
            let mut command = Command::new(engine.folder().join("gantry"));
            command.args(["-H", &address]).env_remove("DOCKER_HOST");
            if tls {
                command.args(["--tlsverify", "--tlscacert", &path("ca.pem")]);
            }
            if tls && certified {
                command.args(["--tlscert", &path("client.pem")]);
                command.args(["--tlskey", &path("client-key.pem")]);
            }
            command.args(words);
            command
        };
        half_closes(&|words| with(true, words));
        if tls {
            // A client without a certificate, and one that does not speak TLS, are not let in.
            let stranger = ran(with(false, &["ps"]), b"", PATIENCE);
            assert_ne!(stranger.code, 0, "{stranger}");
            let mut plain =
                std::net::TcpStream::connect(address.trim_start_matches("tcp://")).unwrap();
            plain.set_read_timeout(Some(PATIENCE)).unwrap();
            plain
                .write_all(b"GET /containers/json HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            let mut answer = Vec::new();
            let _ = plain.read_to_end(&mut answer);
            assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
        }
    }
}

#[test]
fn versions_and_endpoints() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    for minor in 24..=51 {
        for path in [
            "/version",
            "/info",
            "/containers/json?all=1",
            "/containers/con/json",
            "/images/json",
            "/images/busybox/json",
            "/volumes",
            "/containers/con/top",
            "/system/df",
            "/containers/con/stats?stream=0&one-shot=1",
            "/containers/con/changes",
            "/containers/con/logs?stdout=1",
        ] {
            let path = format!("/v1.{minor}{path}");
            let answer = engine.api("GET", &path, None);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let inspected = engine
            .api("GET", &format!("/v1.{minor}/containers/con/json"), None)
            .json();
        // Up to 1.51 the default bridge's address stands at the top, too.
        assert!(
            inspected["NetworkSettings"]["IPAddress"]
                .as_str()
                .unwrap()
                .contains('.')
        );
    }
    engine.api("GET", "/v1.23/version", None).expect(400);
    engine.api("GET", "/v1.52/version", None).expect(400);
}

#[test]
fn created_and_pruned_at_the_same_time() {
    let engine = Engine::with_busybox();
    std::thread::scope(|scope| {
        let making = scope.spawn(|| {
            for round in 0..150 {
                let name = format!("con{round}");
                let made =
                    engine.gantry(&["run", "--name", &name, "-v", "/anon", "busybox", "true"]);
                // It may be pruned before its start, or before its exit is seen.
                let pruned = ["No such container", "marked for removal"];
                assert!(
                    made.code == 0 || pruned.iter().any(|why| made.stderr.contains(why)),
                    "{made}"
                );
            }
        });
        while !making.is_finished() {
            for path in ["/containers/prune", "/volumes/prune"] {
                engine.api("POST", path, None).expect(200);
            }
        }
        making.join().unwrap();
    });
    engine.api("POST", "/containers/prune", None).expect(200);
    engine.api("POST", "/volumes/prune", None).expect(200);
    until("nothing is left", PATIENCE, || engine.leaks().is_empty());
    let volumes = engine.api("GET", "/volumes", None).json();
    assert_eq!(volumes["Volumes"], json!([]));
}
