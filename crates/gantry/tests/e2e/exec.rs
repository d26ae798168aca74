//! Execs: further processes in a running container.

use gantry_testkit::{Engine, read_frames, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn with_container() -> Engine {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    engine
}

fn create(engine: &Engine, body: &Value) -> String {
    let made = engine.api("POST", "/containers/con/exec", Some(body));
    made.expect(201).json()["Id"].as_str().unwrap().to_owned()
}

fn inspect(engine: &Engine, id: &str) -> Value {
    engine
        .api("GET", &format!("/exec/{id}/json"), None)
        .expect(200)
        .json()
}

#[test]
fn streams_and_exit_codes() {
    let engine = with_container();
    let ran = engine.gantry_with(
        &[
            "exec",
            "-i",
            "con",
            "sh",
            "-c",
            "tr a-z A-Z; echo bad >&2; exit 9",
        ],
        b"in",
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (9, "IN", "bad\n"),
        "{ran}"
    );
    for (program, code, words) in [
        (
            "/nope",
            127,
            "exec: \"/nope\": stat /nope: no such file or directory",
        ),
        (
            "nope",
            127,
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (
            "/etc/passwd",
            126,
            "exec: \"/etc/passwd\": permission denied",
        ),
    ] {
        let ran = engine.gantry(&["exec", "con", program]);
        assert_eq!(ran.code, code, "{ran}");
        let prefix = "OCI runtime exec failed: exec failed: unable to start container process: ";
        assert_eq!(ran.stdout, format!("{prefix}{words}\r\n"));
    }
    let killed = engine.gantry(&["exec", "con", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, 137, "{killed}");
}

#[test]
fn a_hundred_megabytes_in_and_out() {
    let engine = with_container();
    // 100 MB in, and as much out: what is there is what was sent, and the end of the input is seen.
    let input: Vec<u8> = (0..100_000_000u32).map(|at| (at % 251) as u8).collect();
    let written = engine.gantry_with(&["exec", "-i", "con", "sh", "-c", "cat > /x"], &input);
    written.ok();
    let outside = gantry_testkit::ran(
        std::process::Command::new("md5sum"),
        &input,
        Duration::from_secs(60),
    );
    let inside = engine.gantry(&["exec", "con", "md5sum", "/x"]).ok();
    assert_eq!(inside.split(' ').next(), outside.ok().split(' ').next());
    let back = engine
        .gantry_with(&["exec", "-i", "con", "md5sum"], &input)
        .ok();
    assert_eq!(inside.split(' ').next(), back.split(' ').next());
    // Input that was half-closed, then 100 MB of answer.
    let id = create(
        &engine,
        &json!({"AttachStdin": true, "AttachStdout": true,
            "Cmd": ["sh", "-c", "wc -c; head -c 100000000 /dev/zero"]}),
    );
    let mut session = engine.hijack(&format!("/exec/{id}/start"), b"{\"Detach\":false}");
    session.stream.write_all(b"12345").unwrap();
    let (frames, rest) = read_frames(&session.finish());
    assert!(rest.is_empty());
    let all: Vec<u8> = frames.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert!(all.starts_with(b"5\n"));
    assert_eq!(all.len(), 2 + 100_000_000);
}

#[test]
fn user_environment_folder_and_privileges() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "con",
            "-e",
            "OWN=1",
            "--cap-drop",
            "CHOWN",
            "--group-add",
            "77",
            "--memory",
            "64m",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let exec = |words: &[&str]| {
        let all = [&["exec"], words].concat();
        engine.gantry(&all).ok()
    };
    assert_eq!(
        exec(&["con", "sh", "-c", "echo $OWN $HOME $TERM"]),
        "1 /root"
    );
    assert_eq!(
        exec(&[
            "-e",
            "OWN=2",
            "-e",
            "X=y",
            "con",
            "sh",
            "-c",
            "echo $OWN $X"
        ]),
        "2 y"
    );
    assert_eq!(exec(&["-w", "/tmp", "con", "pwd"]), "/tmp");
    assert_eq!(
        exec(&["-u", "1:2", "con", "sh", "-c", "id -u; id -g; id -G"]),
        "1\n2\n2 77"
    );
    let bounding = |words: &[&str]| {
        let status = exec(&[words, &["con", "grep", "CapBnd", "/proc/self/status"]].concat());
        u64::from_str_radix(status.rsplit('\t').next().unwrap(), 16).unwrap()
    };
    assert_eq!(bounding(&[]) & 1, 0, "CAP_CHOWN was dropped");
    assert_ne!(bounding(&["--privileged"]) & 1, 0);
    assert_eq!(
        exec(&["con", "grep", "Seccomp:", "/proc/self/status"]),
        "Seccomp:\t2"
    );
    // In the container's cgroup on the host, whatever it sees of it itself.
    engine.gantry(&["exec", "-d", "con", "sleep", "77"]).ok();
    let id = engine.inspect("con")["Id"].as_str().unwrap().to_owned();
    until("the exec is in the container's cgroup", PATIENCE, || {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|process| {
                let read = |name: &str| {
                    std::fs::read_to_string(process.path().join(name)).unwrap_or_default()
                };
                read("cmdline") == "sleep\u{0}77\u{0}" && read("cgroup").contains(&id)
            })
    });
}

#[test]
fn inspect_tells_how_far_it_is() {
    let engine = with_container();
    let id = create(
        &engine,
        &json!({"Cmd": ["sh", "-c", "sleep 1; exit 3"], "User": "1"}),
    );
    let before = inspect(&engine, &id);
    assert_eq!(before["Running"], false);
    assert_eq!(before["ExitCode"], Value::Null);
    assert_eq!(before["ProcessConfig"]["user"], "1");
    let body = json!({"Detach": true});
    let start = format!("/exec/{id}/start");
    engine.api("POST", &start, Some(&body)).expect(200);
    let during = inspect(&engine, &id);
    assert_eq!(during["Running"], true);
    assert_ne!(during["Pid"], 0);
    assert_eq!(engine.inspect("con")["ExecIDs"], json!([id]));
    let twice = engine.api("POST", &start, Some(&body)).expect(409).json();
    assert_eq!(
        twice["message"],
        format!("exec command {id} is already running")
    );
    until("it ends", PATIENCE, || {
        inspect(&engine, &id)["ExitCode"] == 3
    });
    assert_eq!(engine.inspect("con")["ExecIDs"], Value::Null);
    let twice = engine.api("POST", &start, Some(&body)).expect(409).json();
    assert_eq!(
        twice["message"],
        format!("exec command {id} has already run")
    );
}

#[test]
fn the_exit_code_is_there_when_the_stream_ends() {
    let engine = with_container();
    for round in 0..300 {
        let code = round % 256;
        let script = format!("exit {code}");
        let id = create(
            &engine,
            &json!({"AttachStdout": true, "Cmd": ["sh", "-c", script]}),
        );
        let session = engine.hijack(&format!("/exec/{id}/start"), b"{}");
        session.finish();
        let told = inspect(&engine, &id);
        assert_eq!(told["ExitCode"], code, "round {round}: {told}");
        assert_eq!(told["Running"], false);
    }
}

#[test]
fn an_exec_ends_with_its_container() {
    let engine = with_container();
    let id = create(
        &engine,
        &json!({"AttachStdout": true, "Cmd": ["sh", "-c", "echo on; sleep 1000"]}),
    );
    let session = engine.hijack(&format!("/exec/{id}/start"), b"{}");
    engine.gantry(&["kill", "con"]).ok();
    let (frames, _) = read_frames(&session.finish());
    let all: Vec<u8> = frames.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert!(all.is_empty() || all == b"on\n");
    let told = inspect(&engine, &id);
    assert_eq!(told["ExitCode"], 137, "{told}");
    let refused = engine.gantry(&["exec", "con", "true"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.ends_with("is not running\n"), "{refused}");
    engine.gantry(&["rm", "con"]).ok();
    engine
        .api("GET", &format!("/exec/{id}/json"), None)
        .expect(404);
}

#[test]
fn it_outlives_the_daemon_and_is_known_to_the_next() {
    let mut engine = with_container();
    let start = |engine: &Engine, script: &str| {
        let id = create(engine, &json!({"Cmd": ["sh", "-c", script]}));
        engine
            .api(
                "POST",
                &format!("/exec/{id}/start"),
                Some(&json!({"Detach": true})),
            )
            .expect(200);
        id
    };
    let long = start(&engine, "sleep 3; echo done > /long; exit 21");
    let short = start(&engine, "sleep 0.5; exit 22");
    let waiting = create(
        &engine,
        &json!({"AttachStdout": true, "Cmd": ["echo", "late"]}),
    );
    engine.kill_daemon();
    std::thread::sleep(Duration::from_secs(1));
    engine.launch();
    assert_eq!(inspect(&engine, &long)["Running"], true);
    assert_eq!(inspect(&engine, &short)["ExitCode"], 22);
    until("the long one ends", PATIENCE, || {
        inspect(&engine, &long)["ExitCode"] == 21
    });
    assert_eq!(engine.gantry(&["exec", "con", "cat", "/long"]).ok(), "done");
    let session = engine.hijack(&format!("/exec/{waiting}/start"), b"{}");
    let (frames, _) = read_frames(&session.finish());
    assert_eq!(frames, [(1, b"late\n".to_vec())]);
}

#[test]
fn a_stopped_shim_delays_nobody() {
    use rustix::process::{Pid, Signal, kill_process};
    let engine = with_container();
    engine
        .gantry(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"])
        .ok();
    let shim = Pid::from_raw(engine.shim_of("con")).unwrap();
    kill_process(shim, Signal::STOP).unwrap();
    let began = std::time::Instant::now();
    engine.gantry(&["ps"]).ok();
    engine.inspect("con");
    // An exec has a shim of its own.
    assert_eq!(engine.gantry(&["exec", "con", "echo", "here"]).ok(), "here");
    assert_eq!(
        engine.gantry(&["exec", "other", "echo", "there"]).ok(),
        "there"
    );
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
    engine.gantry(&["stop", "-t", "0", "other"]).ok();
    engine.gantry(&["rm", "other"]).ok();
    let took = began.elapsed();
    kill_process(shim, Signal::CONT).unwrap();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}

#[test]
fn events_and_detach_keys() {
    let engine = with_container();
    engine.gantry(&["exec", "con", "sh", "-c", "exit 4"]);
    let events = engine
        .gantry(&[
            "events",
            "--since",
            "1m",
            "--until",
            "0s",
            "--format",
            "{{.Action}}",
            "--filter",
            "container=con",
        ])
        .ok();
    let seen: Vec<&str> = events
        .lines()
        .filter(|line| line.starts_with("exec"))
        .collect();
    assert_eq!(
        seen,
        [
            "exec_create: sh -c exit 4",
            "exec_start: sh -c exit 4",
            "exec_die"
        ]
    );
    let id = create(
        &engine,
        &json!({"Tty": true, "AttachStdin": true, "AttachStdout": true, "DetachKeys": "a,b",
            "Cmd": ["cat"]}),
    );
    assert_eq!(inspect(&engine, &id)["DetachKeys"], "YWI=");
    let mut session = engine.hijack(&format!("/exec/{id}/start"), b"{\"Tty\":true}");
    session.stream.write_all(b"x").unwrap();
    let mut echo = [0];
    session.stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"x");
    session.stream.write_all(b"ab").unwrap();
    let rest = session.finish();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(inspect(&engine, &id)["Running"], true);
}
