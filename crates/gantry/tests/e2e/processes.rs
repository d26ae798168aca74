//! A container's processes: their limits, what they use, their list, signals, and restart policies.

use gantry_testkit::{Engine, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A limit as the kernel has it, by v1's name or v2's.
fn held(engine: &Engine, id: &str, v1: &str, v2: &str) -> String {
    let (controller, _) = v1.split_once('.').unwrap();
    let group = format!("{}/{id}", engine.cgroup());
    let old = format!("/sys/fs/cgroup/{controller}/{group}/{v1}");
    let new = format!("/sys/fs/cgroup/{group}/{v2}");
    let path = if Path::new(&old).exists() { old } else { new };
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
        .trim()
        .to_owned()
}

fn run(engine: &Engine, more: &[&str], command: &[&str]) -> String {
    let words = [&["run", "-d"], more, &["busybox"], command].concat();
    engine.gantry(&words).ok()
}

fn status(engine: &Engine, name: &str) -> String {
    let inspected = engine.inspect(name);
    inspected["State"]["Status"].as_str().unwrap().to_owned()
}

#[test]
fn limits_change_while_it_runs() {
    let engine = Engine::with_busybox();
    let limits = [
        "--name",
        "con",
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        "--pids-limit",
        "50",
    ];
    let id = run(&engine, &limits, &["sleep", "1000"]);
    let memory = || held(&engine, &id, "memory.limit_in_bytes", "memory.max");
    let pids = || held(&engine, &id, "pids.max", "pids.max");
    let shares = || held(&engine, &id, "cpu.shares", "cpu.weight");
    assert_eq!((memory(), pids()), ((32 << 20).to_string(), "50".into()));
    let more = [
        "-m",
        "128m",
        "--memory-swap",
        "256m",
        "--memory-reservation",
        "16m",
    ];
    let rest = [
        "--pids-limit",
        "70",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
        "--cpu-quota",
        "50000",
    ];
    let words = [&["update"], &more[..], &rest[..], &["con"]].concat();
    assert_eq!(engine.gantry(&words).ok(), "con");
    assert_eq!((memory(), pids()), ((128 << 20).to_string(), "70".into()));
    assert!(matches!(shares().as_str(), "512" | "20"), "{}", shares());
    assert_eq!(held(&engine, &id, "cpuset.cpus", "cpuset.cpus"), "0");
    let host = engine.inspect("con")["HostConfig"].clone();
    assert_eq!(host["MemorySwap"], 256 << 20);
    assert_eq!(host["MemoryReservation"], 16 << 20);
    assert_eq!(
        (&host["CpusetCpus"], &host["CpuQuota"]),
        (&json!("0"), &json!(50000))
    );
    // And down again; -1 is no limit.
    let less = [
        "update",
        "-m",
        "64m",
        "--memory-swap",
        "-1",
        "--pids-limit",
        "-1",
        "con",
    ];
    engine.gantry(&less).ok();
    assert_eq!((memory(), pids()), ((64 << 20).to_string(), "max".into()));
    // The next run has them from the start.
    engine.gantry(&["restart", "-t", "0", "con"]).ok();
    assert_eq!(memory(), (64 << 20).to_string());
    // A stopped one only notes them.
    engine.gantry(&["stop", "-t", "0", "con"]).ok();
    engine
        .gantry(&["update", "-m", "96m", "--memory-swap", "96m", "con"])
        .ok();
    assert_eq!(engine.inspect("con")["HostConfig"]["Memory"], 96 << 20);
    engine.gantry(&["start", "con"]).ok();
    assert_eq!(memory(), (96 << 20).to_string());
    // Paused, its limits change too.
    engine.gantry(&["pause", "con"]).ok();
    engine.gantry(&["update", "-m", "80m", "con"]).ok();
    assert_eq!(memory(), (80 << 20).to_string());
    engine.clean();
}

#[test]
fn updates_that_are_refused_change_nothing() {
    let engine = Engine::with_busybox();
    let limits = [
        "--name",
        "con",
        "--memory",
        "32m",
        "--memory-swap",
        "64m",
        "--cpus",
        "0.5",
    ];
    run(&engine, &limits, &["sleep", "1000"]);
    let before = engine.inspect("con")["HostConfig"].clone();
    let refused = |body: Value, code: u16, words: &str| {
        let answer = engine.api("POST", "/containers/con/update", Some(&body));
        assert_eq!(answer.status, code, "{body}: {}", answer.text());
        assert!(answer.text().contains(words), "{body}: {}", answer.text());
        assert_eq!(engine.inspect("con")["HostConfig"], before, "{body}");
    };
    refused(
        json!({"Memory": 5}),
        400,
        "Minimum memory limit allowed is 6MB",
    );
    refused(
        json!({"Memory": 128 << 20}),
        409,
        "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
    );
    refused(
        json!({"CpuPeriod": 50_000}),
        409,
        "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
    );
    refused(
        json!({"BlkioWeight": 5}),
        400,
        "Range of blkio weight is from 10 to 1000",
    );
    refused(
        json!({"CpusetCpus": "4000"}),
        400,
        "Requested CPUs are not available",
    );
    refused(
        json!({"RestartPolicy": {"Name": "x"}}),
        400,
        "unknown policy 'x'",
    );
    refused(
        json!({"GantryUpdate": {"LogOptions": {"nonsense": "1"}}}),
        400,
        "unknown log opt 'nonsense' for json-file log driver",
    );
    engine.gantry(&["update", "con"]).fails_with(1);
    let missing = engine
        .gantry(&["update", "-m", "64m", "nobody"])
        .fails_with(1);
    assert!(missing.contains("No such container: nobody"), "{missing}");
    engine.clean();
}

#[test]
fn more_than_limits_can_be_changed() {
    let engine = Engine::with_busybox();
    let options = [
        "--name", "con", "-e", "A=1", "-e", "B=2", "-l", "x=1", "-l", "y=2",
    ];
    run(
        &engine,
        &options,
        &["sh", "-c", "echo A=$A B=$B C=$C; sleep 1000"],
    );
    let env = ["update", "-e", "A=new", "-e", "C=3", "--env-rm", "B"];
    let rest = [
        "--label-add",
        "z=3",
        "--label-rm",
        "x",
        "--log-opt",
        "max-size=1m",
        "con",
    ];
    engine.gantry(&[&env[..], &rest[..]].concat()).ok();
    let inspected = engine.inspect("con");
    assert_eq!(inspected["Config"]["Labels"], json!({"y": "2", "z": "3"}));
    assert_eq!(
        inspected["HostConfig"]["LogConfig"]["Config"]["max-size"],
        "1m"
    );
    engine.gantry(&["restart", "-t", "0", "con"]).ok();
    until("the second run writes", PATIENCE, || {
        engine.gantry(&["logs", "con"]).ok().lines().count() == 2
    });
    assert_eq!(
        engine.gantry(&["logs", "con"]).ok(),
        "A=1 B=2 C=\nA=new B= C=3"
    );
    engine.clean();
}

#[test]
fn the_list_of_processes() {
    let engine = Engine::with_busybox();
    let script = "sleep 1000 & exec sleep 2000";
    run(
        &engine,
        &["--name", "con", "-u", "12"],
        &["sh", "-c", script],
    );
    until("both run", PATIENCE, || {
        engine.gantry(&["top", "con"]).ok().lines().count() == 3
    });
    let full = engine.gantry(&["top", "con"]).ok();
    let mut lines = full.lines();
    let titles: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        titles,
        ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    );
    assert!(lines.any(|line| line.ends_with("sleep 2000")), "{full}");
    let pid = engine.inspect("con")["State"]["Pid"].to_string();
    let ours = engine.gantry(&["top", "con", "-o", "pid,uid,comm"]).ok();
    let first = ours.lines().nth(1).unwrap();
    let words: Vec<&str> = first.split_whitespace().collect();
    assert_eq!(words, [pid.as_str(), "12", "sleep"]);
    // Options that the host's `ps` has to answer.
    let threads = engine
        .gantry(&["top", "con", "-eL", "-o", "pid,lwp,args"])
        .ok();
    assert!(
        threads.contains("LWP") && threads.contains("sleep 2000"),
        "{threads}"
    );
    for (ps_args, words) in [
        ("-o comm", "Couldn't find PID field in ps output"),
        ("--nonsense", "ps: error"),
        ("-o ppid=PID", "specifying \\\"ppid=PID\\\" is not allowed"),
    ] {
        let ps_args = ps_args.replace(' ', "%20");
        let answer = engine.api(
            "GET",
            &format!("/containers/con/top?ps_args={ps_args}"),
            None,
        );
        assert_eq!(answer.status, 500, "{ps_args}: {}", answer.text());
        assert!(
            answer.text().contains(words),
            "{ps_args}: {}",
            answer.text()
        );
    }
    engine.gantry(&["stop", "-t", "0", "con"]).ok();
    let stopped = engine.gantry(&["top", "con"]).fails_with(1);
    assert!(stopped.contains("is not running"), "{stopped}");
    engine.clean();
}

#[test]
fn what_is_used() {
    let engine = Engine::with_busybox();
    let limits = ["--name", "busy", "--memory", "64m", "--memory-swap", "64m"];
    run(&engine, &limits, &["sh", "-c", "while :; do :; done"]);
    engine
        .gantry(&["create", "--name", "idle", "busybox", "true"])
        .ok();
    let stats = engine
        .api("GET", "/containers/busy/stats?stream=0", None)
        .expect(200)
        .json();
    let number = |path: &str| stats.pointer(path).and_then(Value::as_f64).unwrap_or(-1.0);
    assert_eq!(stats["name"], "/busy");
    assert_eq!(number("/memory_stats/limit"), f64::from(64 << 20));
    assert!(number("/memory_stats/usage") > 0.0, "{stats}");
    assert!(number("/pids_stats/current") >= 1.0, "{stats}");
    assert!(
        stats.pointer("/networks/eth0/rx_bytes").is_some(),
        "{stats}"
    );
    let own = number("/cpu_stats/cpu_usage/total_usage");
    let before = number("/precpu_stats/cpu_usage/total_usage");
    assert!(own > before && before > 0.0, "{stats}");
    // One piece of a stream, the shape of a container that does not run, and one-shot.
    let idle = engine
        .api("GET", "/containers/idle/stats?stream=0", None)
        .expect(200)
        .json();
    assert_eq!(
        (&idle["name"], &idle["memory_stats"]),
        (&json!("/idle"), &json!({}))
    );
    assert_eq!(idle["blkio_stats"]["io_time_recursive"], Value::Null);
    let shoot = || {
        let shot = engine.api("GET", "/containers/busy/stats?stream=0&one-shot=1", None);
        shot.expect(200).json()
    };
    let shot = shoot();
    // It does not wait a second for a second look. (The machine may be slow now and then.)
    let is_quick = |_| {
        let once = Instant::now();
        shoot();
        once.elapsed() < Duration::from_millis(900)
    };
    assert!((0..5).any(is_quick));
    assert_eq!(shot.get("name"), None);
    let wrong = engine.api("GET", "/containers/busy/stats?stream=1&one-shot=1", None);
    assert!(
        wrong
            .expect(400)
            .text()
            .contains("cannot have stream=true and one-shot=true")
    );
    engine
        .api("GET", "/containers/nobody/stats?stream=0", None)
        .expect(404);
    let table = engine.gantry(&["stats", "--no-stream"]).ok();
    assert!(table.starts_with("CONTAINER ID"), "{table}");
    assert!(table.contains("busy") && !table.contains("idle"), "{table}");
    let lines = engine
        .gantry(&["stats", "-a", "--no-stream", "--format", "json"])
        .ok();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let format = [
        "stats",
        "--no-stream",
        "--format",
        "{{.CPUPerc}} {{.MemUsage}}",
        "busy",
    ];
    let shown = engine.gantry(&format).ok();
    let percent: f64 = shown.split_once('%').unwrap().0.parse().unwrap();
    assert!(percent > 5.0 && percent < 900.0, "{shown}");
    assert!(shown.ends_with("/ 64MiB"), "{shown}");
    let missing = engine
        .gantry(&["stats", "--no-stream", "nobody"])
        .fails_with(1);
    assert!(missing.contains("No such container: nobody"), "{missing}");
    engine.clean();
}

#[test]
fn a_stream_of_numbers_ends_with_its_container() {
    let engine = Engine::with_busybox();
    run(&engine, &["--name", "con"], &["sleep", "1000"]);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| engine.api("GET", "/containers/con/stats", None));
        std::thread::sleep(Duration::from_millis(2500));
        engine.gantry(&["rm", "-f", "con"]).ok();
        let answer = reader.join().unwrap().expect(200);
        let text = answer.text();
        assert!(text.lines().count() >= 2, "{text}");
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["preread"], "0001-01-01T00:00:00Z");
    });
    engine.clean();
}

#[test]
fn a_stuck_shim_delays_nobody() {
    let engine = Engine::with_busybox();
    run(&engine, &["--name", "con"], &["sleep", "1000"]);
    let shim = Pid::from_raw(engine.shim_of("con")).unwrap();
    kill_process(shim, Signal::STOP).unwrap();
    let start = Instant::now();
    for (method, path) in [
        ("GET", "/containers/con/json"),
        ("GET", "/containers/con/top"),
        ("GET", "/containers/con/stats?stream=0&one-shot=1"),
        ("POST", "/containers/con/pause"),
        ("POST", "/containers/con/unpause"),
        ("POST", "/containers/con/kill?signal=WINCH"),
    ] {
        let answer = engine.api(method, path, None);
        assert!(answer.status < 300, "{path}: {}", answer.text());
    }
    let body = json!({"CpuShares": 512});
    engine
        .api("POST", "/containers/con/update", Some(&body))
        .expect(200);
    let took = start.elapsed();
    kill_process(shim, Signal::CONT).unwrap();
    assert!(took < Duration::from_secs(2), "{took:?}");
    engine.clean();
}

#[test]
fn signals_by_name_and_number() {
    let engine = Engine::with_busybox();
    let script = "trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo rt' 37; echo ready; while :; do sleep 0.05; done";
    run(&engine, &["--name", "con"], &["sh", "-c", script]);
    let logged = |words: &str| {
        until(words, PATIENCE, || {
            engine.gantry(&["logs", "con"]).ok().ends_with(words)
        });
    };
    logged("ready");
    for (signal, words) in [
        ("HUP", "hup"),
        ("sigusr1", "usr1"),
        ("1", "hup"),
        ("RTMIN+3", "rt"),
        ("SIGUSR1", "usr1"),
        ("37", "rt"),
    ] {
        assert_eq!(engine.gantry(&["kill", "-s", signal, "con"]).ok(), "con");
        logged(words);
    }
    let wrong = engine
        .gantry(&["kill", "-s", "NONSENSE", "con"])
        .fails_with(1);
    assert!(
        wrong.contains("cannot kill container: con: invalid signal: NONSENSE"),
        "{wrong}"
    );
    // A link is not a container: nothing of it is removed.
    let link = engine.gantry(&["rm", "-l", "con"]).fails_with(1);
    assert!(
        link.contains("cannot remove the default link name"),
        "{link}"
    );
    assert_eq!(engine.gantry(&["rm", "-f", "-v", "con"]).ok(), "con");
    engine.clean();
}

#[test]
fn stop_signals_and_timeouts() {
    let engine = Engine::with_busybox();
    let script = "trap 'exit 5' USR1; trap '' TERM; while :; do sleep 0.05; done";
    run(
        &engine,
        &["--name", "own", "--stop-signal", "USR1"],
        &["sh", "-c", script],
    );
    engine.gantry(&["stop", "own"]).ok();
    assert_eq!(engine.inspect("own")["State"]["ExitCode"], 5);
    run(
        &engine,
        &["--name", "deaf", "--stop-timeout", "1"],
        &["sh", "-c", script],
    );
    let start = Instant::now();
    engine.gantry(&["stop", "deaf"]).ok();
    assert!(
        (1..9).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(engine.inspect("deaf")["State"]["ExitCode"], 137);
    engine.gantry(&["start", "deaf"]).ok();
    engine
        .gantry(&["stop", "-s", "USR1", "-t", "20", "deaf"])
        .ok();
    assert_eq!(engine.inspect("deaf")["State"]["ExitCode"], 5);
    engine.clean();
}

#[test]
fn out_of_memory_is_told() {
    let engine = Engine::with_busybox();
    let limits = ["--name", "eater", "--memory", "16m", "--memory-swap", "16m"];
    run(
        &engine,
        &limits,
        &["sh", "-c", "x=a; while :; do x=$x$x; done"],
    );
    assert_eq!(engine.gantry(&["wait", "eater"]).ok(), "137");
    let state = engine.inspect("eater")["State"].clone();
    assert_eq!(
        (&state["OOMKilled"], &state["ExitCode"]),
        (&json!(true), &json!(137))
    );
    let words = [
        "events",
        "--since",
        "1m",
        "--until",
        "0s",
        "--format",
        "{{.Action}}",
    ];
    let events = engine.gantry(&words).ok();
    let at = |word: &str| events.lines().position(|line| line == word);
    assert!(at("oom").is_some() && at("oom") < at("die"), "{events}");
    engine.clean();
}

/// What a daemon that starts brings back, and what not.
#[test]
fn policies_at_the_start_of_a_daemon() {
    let mut engine = Engine::with_busybox();
    let cases = [
        // Policy, stopped by hand, comes back.
        ("always", false, true),
        ("always", true, true),
        ("unless-stopped", false, true),
        ("unless-stopped", true, false),
        ("on-failure", false, true),
        ("on-failure", true, false),
        ("no", false, false),
    ];
    let name = |policy: &str, stopped: bool| format!("{policy}-{stopped}");
    for (policy, stopped, _) in cases {
        let name = name(policy, stopped);
        run(
            &engine,
            &["--name", &name, "--restart", policy],
            &["sleep", "1000"],
        );
        if stopped {
            engine.gantry(&["stop", "-t", "0", &name]).ok();
        }
    }
    let pids: Vec<i64> = cases
        .iter()
        .map(|(policy, stopped, _)| {
            engine.inspect(&name(policy, *stopped))["State"]["Pid"]
                .as_i64()
                .unwrap()
        })
        .filter(|pid| *pid != 0)
        .collect();
    // As after the machine went down: no process is left, and nothing of the exec root.
    engine.kill_daemon();
    for pid in pids {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    std::fs::remove_dir_all(engine.exec_root()).unwrap();
    engine.launch();
    for (policy, stopped, back) in cases {
        let name = name(policy, stopped);
        if back {
            until(&name, PATIENCE, || status(&engine, &name) == "running");
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    for (policy, stopped, back) in cases {
        let name = name(policy, stopped);
        let expected = if back { "running" } else { "exited" };
        assert_eq!(status(&engine, &name), expected, "{name}");
    }
    engine.clean();
}

#[test]
fn a_policy_can_be_changed_and_a_signal_ends_it() {
    let engine = Engine::with_busybox();
    run(
        &engine,
        &["--name", "con"],
        &["sh", "-c", "sleep 0.2; exit 1"],
    );
    engine.gantry(&["wait", "con"]).ok();
    engine
        .gantry(&["update", "--restart", "on-failure:3", "con"])
        .ok();
    engine.gantry(&["start", "con"]).ok();
    until("three tries", PATIENCE, || {
        status(&engine, "con") == "exited" && engine.inspect("con")["RestartCount"] == 3
    });
    run(
        &engine,
        &["--name", "kept", "--restart", "always"],
        &["sleep", "1000"],
    );
    let shim = engine.shim_of("kept");
    let pid = engine.inspect("kept")["State"]["Pid"].as_i64().unwrap();
    // It dies by itself: it comes back.
    let first = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(first, Signal::KILL).unwrap();
    until("it runs again", PATIENCE, || {
        let state = engine.inspect("kept")["State"].clone();
        state["Status"] == "running" && state["Pid"] != pid
    });
    assert_ne!(engine.shim_of("kept"), shim);
    // Somebody wants it to end: it stays ended.
    engine.gantry(&["kill", "kept"]).ok();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(status(&engine, "kept"), "exited");
    engine.clean();
}

#[test]
fn a_start_that_fails_is_not_tried_again() {
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("scripts");
    std::fs::create_dir(&folder).unwrap();
    let script = folder.join("run");
    std::fs::write(&script, "#!/bin/sh\nsleep 0.3\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mount = format!("{}:/scripts", folder.display());
    let options = ["--name", "con", "--restart", "always", "-v", &mount];
    run(&engine, &options, &["/scripts/run"]);
    std::fs::remove_file(&script).unwrap();
    until("the next start fails", PATIENCE, || {
        status(&engine, "con") == "exited"
    });
    let state = engine.inspect("con")["State"].clone();
    assert!(
        state["Error"].as_str().unwrap().contains("/scripts/run"),
        "{state}"
    );
    let count = engine.inspect("con")["RestartCount"].clone();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(status(&engine, "con"), "exited");
    assert_eq!(engine.inspect("con")["RestartCount"], count);
    engine.clean();
}
