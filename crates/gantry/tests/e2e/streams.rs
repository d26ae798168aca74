//! Standard streams: attached, multiplexed, on a terminal, logged.

use gantry_testkit::{Engine, read_frames, until};
use serde_json::json;
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn input_goes_in_and_both_outputs_come_out() {
    let engine = Engine::with_busybox();
    let ran = engine.gantry_with(
        &[
            "run",
            "-i",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "tr a-z A-Z; echo problem >&2",
        ],
        b"first\nsecond",
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
        (0, "FIRST\nSECOND", "problem\n"),
        "{ran}"
    );
}

#[test]
fn large_streams_arrive_whole() {
    let engine = Engine::with_busybox();
    // Numbered lines on both streams at once; every line must be there, in order.
    let script = "i=0; (seq 1 200000 >&2) & seq 1 200000; wait";
    let ran = engine.gantry(&["run", "--rm", "busybox", "sh", "-c", script]);
    ran.ok();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(
        ran.stdout == expected,
        "{} of {} bytes on stdout",
        ran.stdout.len(),
        expected.len()
    );
    assert!(
        ran.stderr == expected,
        "{} of {} bytes on stderr",
        ran.stderr.len(),
        expected.len()
    );
    // And in: 20 MB through standard input, counted and hashed inside.
    let input: Vec<u8> = (0..20_000_000u32).map(|at| (at % 251) as u8).collect();
    let inside = engine
        .gantry_with(
            &["run", "-i", "--rm", "busybox", "sh", "-c", "md5sum"],
            &input,
        )
        .ok();
    let outside = gantry_testkit::ran(
        std::process::Command::new("md5sum"),
        &input,
        Duration::from_secs(30),
    )
    .ok();
    assert_eq!(inside, outside);
}

#[test]
fn the_half_closed_stream_still_gives_the_answer() {
    let engine = Engine::with_busybox();
    let body = json!({"Image": "busybox", "OpenStdin": true, "StdinOnce": true, "AttachStdin": true,
        "Cmd": ["sh", "-c", "n=$(wc -c); sleep 1; echo got $n; head -c 3000000 /dev/zero"]});
    engine
        .api("POST", "/containers/create?name=half", Some(&body))
        .expect(201);
    let mut attached = engine.hijack(
        "/containers/half/attach?stream=1&stdin=1&stdout=1&stderr=1",
        b"",
    );
    assert_eq!(attached.status, 101);
    engine
        .api("POST", "/containers/half/start", None)
        .expect(204);
    attached.stream.write_all(b"12345").unwrap();
    let (frames, rest) = read_frames(&attached.finish());
    assert!(rest.is_empty());
    let all: Vec<u8> = frames.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert!(
        all.starts_with(b"got 5\n"),
        "{:?}",
        &all[..all.len().min(20)]
    );
    assert_eq!(all.len(), 6 + 3_000_000);
}

#[test]
fn a_terminal_has_no_frames_and_a_size_from_the_start() {
    let engine = Engine::with_busybox();
    let body = json!({"Image": "busybox", "Tty": true, "OpenStdin": true, "AttachStdin": true,
        "Cmd": ["sh", "-c", "stty size; read line; stty size; echo $line"], "HostConfig": {"ConsoleSize": [33, 77]}});
    engine
        .api("POST", "/containers/create?name=term", Some(&body))
        .expect(201);
    let mut attached = engine.hijack(
        "/containers/term/attach?stream=1&stdin=1&stdout=1&stderr=1",
        b"",
    );
    engine
        .api("POST", "/containers/term/start", None)
        .expect(204);
    let mut seen = attached.early.clone();
    let mut piece = [0; 256];
    while !seen.windows(5).any(|bytes| bytes == b"33 77") {
        let read = attached.stream.read(&mut piece).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend(&piece[..read]);
    }
    engine
        .api("POST", "/containers/term/resize?h=11&w=22", None)
        .expect(200);
    attached.stream.write_all(b"hello\n").unwrap();
    attached.stream.read_to_end(&mut seen).unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(text.starts_with("33 77\r\n"), "{text:?}");
    assert!(text.contains("11 22\r\nhello\r\n"), "{text:?}");
}

#[test]
fn a_client_that_leaves_takes_nothing_with_it() {
    let engine = Engine::with_busybox();
    let body =
        json!({"Image": "busybox", "Cmd": ["sh", "-c", "yes | head -c 5000000; echo; echo end"]});
    engine
        .api("POST", "/containers/create?name=left", Some(&body))
        .expect(201);
    let attached = engine.hijack("/containers/left/attach?stream=1&stdout=1", b"");
    engine
        .api("POST", "/containers/left/start", None)
        .expect(204);
    drop(attached);
    assert_eq!(engine.gantry(&["wait", "left"]).ok(), "0");
    assert!(engine.gantry(&["logs", "--tail", "1", "left"]).ok() == "end");
}

#[test]
fn a_client_that_does_not_read_yet_delays_nobody_s_end() {
    const LENGTH: usize = 900_000;
    let engine = Engine::with_busybox();
    let script = format!("read x; yes | head -c {LENGTH}");
    let body = json!({"Image": "busybox", "OpenStdin": true, "StdinOnce": true, "Cmd": ["sh", "-c", script]});
    engine
        .api("POST", "/containers/create?name=two", Some(&body))
        .expect(201);
    engine
        .api("POST", "/containers/two/start", None)
        .expect(204);
    let path = "/containers/two/attach?stream=1&stdin=1&stdout=1&stderr=1";
    let (late, early) = (engine.hijack(path, b""), engine.hijack(path, b""));
    let received = |one: gantry_testkit::Hijacked| {
        let (frames, rest) = read_frames(&one.finish());
        assert!(rest.is_empty());
        frames.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    };
    // The first half-close is the end of the input; the second client takes nothing until the first has all. Without
    // that it would be cut off first, after ten seconds.
    assert_eq!(received(early), LENGTH);
    assert_eq!(received(late), LENGTH);
}

#[test]
fn logs_are_dockers_json_and_rotate() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run",
            "--name",
            "logged",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2; printf unfinished",
        ])
        .ok();
    let path = engine.inspect("logged")["LogPath"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines
            .iter()
            .any(|line| line["log"] == "err\n" && line["stream"] == "stderr"),
        "{text}"
    );
    assert!(
        lines.iter().any(|line| line["log"] == "unfinished"),
        "{text}"
    );
    let ran = engine.gantry(&["logs", "logged"]);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("out\nunfinished", "err\n")
    );
    let stamped = engine.gantry(&["logs", "-t", "--tail", "1", "logged"]).ok();
    assert!(stamped.ends_with("Z unfinished"), "{stamped}");

    engine
        .gantry(&[
            "run",
            "--name",
            "rotated",
            "--log-opt",
            "max-size=10k",
            "--log-opt",
            "max-file=3",
            "busybox",
            "seq",
            "1",
            "5000",
        ])
        .ok();
    let path = engine.inspect("rotated")["LogPath"]
        .as_str()
        .unwrap()
        .to_owned();
    for suffix in ["", ".1", ".2"] {
        let size = std::fs::metadata(format!("{path}{suffix}")).unwrap().len();
        assert!(size <= 11_000, "{suffix}: {size}");
    }
    assert!(!std::path::Path::new(&format!("{path}.3")).exists());
    assert_eq!(
        engine.gantry(&["logs", "--tail", "2", "rotated"]).ok(),
        "4999\n5000"
    );
}

#[test]
fn logs_are_followed_to_the_end() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "followed",
            "busybox",
            "sh",
            "-c",
            "for i in $(seq 1 20); do echo $i; sleep 0.05; done",
        ])
        .ok();
    let followed = engine.gantry(&["logs", "-f", "followed"]).ok();
    let expected: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
    assert_eq!(followed, expected.join("\n"));
}

#[test]
fn signals_reach_the_program() {
    let engine = Engine::with_busybox();
    let mut client = engine
        .command(&[
            "run",
            "--name",
            "signalled",
            "busybox",
            "sh",
            "-c",
            "trap 'echo caught; exit 42' INT; echo ready; while :; do sleep 0.1; done",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("the program is ready", Duration::from_secs(15), || {
        engine
            .gantry(&["logs", "signalled"])
            .stdout
            .contains("ready")
    });
    let pid = rustix::process::Pid::from_child(&client);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = client.wait().unwrap();
    assert_eq!(status.code(), Some(42));
    assert!(
        engine
            .gantry(&["logs", "signalled"])
            .ok()
            .ends_with("caught")
    );
}
