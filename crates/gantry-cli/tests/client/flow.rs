//! `run` step by step: order of requests, streams, exit codes, signals.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use super::client;
use super::daemon::{Daemon, Request, frame, json, upgrade, wait};

const CREATED: &str = r#"{"Id":"c0ffee","Warnings":[]}"#;

/// A daemon that makes containers; `attached` plays what is inside.
fn engine(attached: impl Fn(&Daemon, &mut UnixStream) + Send + Sync + 'static) -> Daemon {
    Daemon::start(move |daemon, request, stream| play(daemon, request, stream, &attached))
}

fn play(
    daemon: &Daemon,
    request: &Request,
    stream: &mut UnixStream,
    attached: &dyn Fn(&Daemon, &mut UnixStream),
) {
    let path = request.path.as_str();
    if path.starts_with("/containers/create") {
        json(stream, "201 Created", CREATED);
    } else if path.contains("/attach") {
        upgrade(stream);
        attached(daemon, stream);
        stream.shutdown(std::net::Shutdown::Both).ok();
    } else if path.contains("/wait") {
        wait(stream, 7, || daemon.wait_for("/start"));
    } else {
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(daemon: &Daemon, args: &[&str]) -> Output {
    let mut command = client(&daemon.host());
    command
        .arg("run")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn attach_and_wait_come_before_start_and_the_code_is_the_containers() {
    let daemon = engine(|daemon, stream| {
        daemon.wait_for("/start");
        frame(stream, 1, "to stdout\n");
        frame(stream, 2, "to stderr\n");
    });
    let output = run(&daemon, &["--rm", "busybox"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stdout), "to stdout\n");
    assert_eq!(text(&output.stderr), "to stderr\n");
    let lines = daemon.lines();
    let at = |part: &str| lines.iter().position(|line| line.contains(part)).unwrap();
    assert_eq!(lines.len(), 4, "no needless round trip: {lines:?}");
    assert_eq!(at("POST /containers/create"), 0);
    assert_eq!(at("POST /containers/c0ffee/start"), 3);
    assert!(
        lines[at("/attach")].ends_with("?stderr=1&stdout=1&stream=1"),
        "{lines:?}"
    );
    assert!(
        lines[at("/wait")].ends_with("?condition=removed"),
        "{lines:?}"
    );
    let head = &daemon.requests()[at("/attach")].headers.to_lowercase();
    assert!(
        head.contains("upgrade: tcp") && head.contains("connection: upgrade"),
        "{head}"
    );
}

#[test]
fn without_rm_the_next_exit_is_waited_for() {
    let daemon = engine(|daemon, _| daemon.wait_for("/start"));
    run(&daemon, &["busybox"]);
    assert!(
        daemon
            .lines()
            .iter()
            .any(|line| line.ends_with("/wait?condition=next-exit"))
    );
}

#[test]
fn a_detached_run_prints_the_id_and_does_not_attach() {
    let daemon = engine(|_, _| {});
    let output = run(&daemon, &["-d", "busybox"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(0), "c0ffee\n")
    );
    assert_eq!(
        daemon.lines(),
        ["POST /containers/create", "POST /containers/c0ffee/start"]
    );
}

#[test]
fn stdin_is_sent_whole_then_closed_while_output_goes_on() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let seen = got.clone();
    let daemon = engine(move |daemon, stream| {
        daemon.wait_for("/start");
        // Ends only because the client closes its half.
        stream.read_to_end(&mut seen.lock().unwrap()).unwrap();
        frame(stream, 1, "after the end of input");
    });
    let sent: Vec<u8> = (0..5_000_000u32)
        .flat_map(|number| (number % 251).to_le_bytes())
        .collect();
    let mut command = client(&daemon.host());
    command.args(["run", "-i", "busybox"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&sent).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "after the end of input");
    assert_eq!(output.status.code(), Some(7));
    assert!(*got.lock().unwrap() == sent, "the bytes differ");
}

#[test]
fn ten_megabytes_on_both_streams_stay_apart() {
    const LINES: usize = 100_000;
    let daemon = engine(|daemon, stream| {
        daemon.wait_for("/start");
        for number in 0..LINES {
            let kind = 1 + (number % 2) as u8;
            frame(stream, kind, &format!("{kind} {number:0>90}\n"));
        }
    });
    let output = run(&daemon, &["busybox"]);
    for (kind, bytes) in [("1 ", output.stdout), ("2 ", output.stderr)] {
        let text = text(&bytes);
        assert_eq!(text.lines().count(), LINES / 2);
        assert!(
            text.lines()
                .all(|line| line.starts_with(kind) && line.len() == 92)
        );
    }
}

#[test]
fn an_unknown_image_is_pulled_and_asked_for_again() {
    let daemon = Daemon::start(|daemon, request, stream| {
        let asked = daemon
            .lines()
            .iter()
            .filter(|line| line.contains("/containers/create"))
            .count();
        match request.path.as_str() {
            path if path.starts_with("/containers/create") && asked == 1 => {
                json(
                    stream,
                    "404 Not Found",
                    r#"{"message":"No such image: busybox:latest"}"#,
                );
            }
            path if path.starts_with("/images/create") => json(
                stream,
                "200 OK",
                "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"abc\"}\r\n{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n",
            ),
            path => {
                let attached = |daemon: &Daemon, _: &mut UnixStream| daemon.wait_for("/start");
                let request = Request {
                    path: path.to_owned(),
                    ..request.clone()
                };
                play(daemon, &request, stream, &attached);
            }
        }
    });
    let output = run(&daemon, &["busybox"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        text(&output.stderr),
        "Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\nabc: Pull complete\n"
    );
    assert!(daemon.lines()[1].contains("fromImage=docker.io%2Flibrary%2Fbusybox&tag=latest"));
    assert!(
        daemon.requests()[1]
            .headers
            .to_lowercase()
            .contains("x-registry-auth: e30=")
    );
}

#[test]
fn the_exit_code_of_a_failed_start_is_read_from_the_daemons_words() {
    for (message, code) in [
        (
            "exec: \\\"x\\\": executable file not found in $PATH: unknown",
            127,
        ),
        ("exec: \\\"/x\\\": stat /x: no such file or directory", 127),
        ("exec: \\\"/etc\\\": permission denied", 126),
        ("exec: \\\"/etc\\\": is a directory", 126),
        ("no space left on device", 125),
    ] {
        let daemon = Daemon::start(move |daemon, request, stream| match request.path.as_str() {
            path if path.ends_with("/start") => {
                json(
                    stream,
                    "400 Bad Request",
                    &format!("{{\"message\":\"{message}\"}}"),
                );
            }
            _ => play(daemon, request, stream, &|_, stream| {
                stream.read_exact(&mut [0]).ok();
            }),
        });
        let output = run(&daemon, &["--rm", "busybox"]);
        assert_eq!(output.status.code(), Some(code), "{message}");
        let told = text(&output.stderr);
        assert!(
            told.starts_with("gantry: Error response from daemon: "),
            "{told}"
        );
        assert!(
            told.ends_with("\n\nRun 'gantry run --help' for more information\n"),
            "{told}"
        );
    }
}

#[test]
fn signals_are_passed_on() {
    let daemon = engine(|daemon, stream| {
        daemon.wait_for("/start");
        frame(stream, 1, "ready\n");
        daemon.wait_for("/kill?signal=2");
        daemon.wait_for("/kill?signal=15");
        daemon.wait_for("/kill?signal=10");
    });
    let mut command = client(&daemon.host());
    command.args(["run", "busybox"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 6])
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    for signal in [
        rustix::process::Signal::INT,
        rustix::process::Signal::TERM,
        rustix::process::Signal::USR1,
    ] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_signal_gets_through_while_nobody_reads_our_output() {
    let daemon = engine(|daemon, stream| {
        daemon.wait_for("/start");
        stream.set_nonblocking(true).unwrap();
        let mut full = vec![1, 0, 0, 0];
        full.extend((1u32 << 30).to_be_bytes());
        stream.write_all(&full).unwrap();
        // Until everything between us and the silent reader is full.
        while stream.write(&[b'x'; 4096]).is_ok() {}
        daemon.wait_for("/kill?signal=15");
    });
    let mut command = client(&daemon.host());
    command.args(["run", "busybox"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    daemon.wait_for("/start");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    daemon.wait_for("/kill?signal=15");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn an_older_daemon_is_spoken_to_in_its_version() {
    let daemon = Daemon::start(|_, request, stream| match request.path.as_str() {
        "/_ping" => stream
            .write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK")
            .unwrap(),
        _ if request.version != "1.41" => json(
            stream,
            "400 Bad Request",
            r#"{"message":"client version 1.51 is too new. Maximum supported API version is 1.41"}"#,
        ),
        _ => json(stream, "200 OK", "[]"),
    });
    let output = client(&daemon.host()).arg("ps").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let versions: Vec<String> = daemon
        .requests()
        .into_iter()
        .map(|request| request.version)
        .collect();
    assert_eq!(versions, ["1.51", "", "1.41"]);
}

#[test]
fn a_created_container_ends_its_input_with_its_first_client() {
    let daemon = engine(|_, _| {});
    let mut command = client(&daemon.host());
    let output = command
        .args(["create", "-i", "busybox", "cat"])
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "c0ffee\n");
    let body: serde_json::Value = serde_json::from_slice(&daemon.requests()[0].body).unwrap();
    for key in [
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "OpenStdin",
        "StdinOnce",
    ] {
        assert_eq!(body[key], true, "{key}");
    }
}
