//! Health checks, and what follows from them.

use gantry_testkit::{Engine, until};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn run(engine: &Engine, name: &str, flags: &[&str], script: &str) {
    let own = [
        "run",
        "-d",
        "--name",
        name,
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
    ];
    engine
        .gantry(&[&own[..], flags, &["busybox", "sh", "-c", script]].concat())
        .ok();
}

fn health(engine: &Engine, name: &str) -> Value {
    engine.inspect(name)["State"]["Health"].clone()
}

fn comes_to_be(engine: &Engine, name: &str, status: &str) {
    until(&format!("{name} is {status}"), PATIENCE, || {
        health(engine, name)["Status"] == status
    });
}

#[test]
fn health_comes_and_goes() {
    let engine = Engine::with_busybox();
    run(
        &engine,
        "con",
        &["--health-cmd", "echo looked; test -e /well"],
        "sleep 1000",
    );
    let first = health(&engine, "con");
    assert_eq!(first["Status"], "starting");
    let ps = engine.gantry(&["ps", "--format", "{{.Status}}"]).ok();
    assert!(ps.ends_with("(health: starting)"), "{ps}");
    comes_to_be(&engine, "con", "unhealthy");
    let ps = engine.gantry(&["ps", "--format", "{{.Status}}"]).ok();
    assert!(ps.ends_with("(unhealthy)"), "{ps}");
    engine.gantry(&["exec", "con", "touch", "/well"]).ok();
    comes_to_be(&engine, "con", "healthy");
    let now = health(&engine, "con");
    assert_eq!(now["FailingStreak"], 0);
    let log = now["Log"].as_array().unwrap();
    let last = log.last().unwrap();
    assert_eq!(
        (&last["ExitCode"], &last["Output"]),
        (&0.into(), &"looked\n".into())
    );
    until("five results are kept", PATIENCE, || {
        health(&engine, "con")["Log"].as_array().unwrap().len() == 5
    });
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(health(&engine, "con")["Log"].as_array().unwrap().len(), 5);
    let listed = |filter: &str| {
        engine
            .gantry(&["ps", "-q", "--filter", &format!("health={filter}")])
            .ok()
            .len()
    };
    assert_eq!(
        (listed("healthy"), listed("none"), listed("unhealthy")),
        (12, 0, 0)
    );
    let events = engine
        .gantry(&[
            "events",
            "--since",
            "1m",
            "--until",
            "0s",
            "--filter",
            "event=health_status",
            "--format",
            "{{.Action}}",
        ])
        .ok();
    let seen: Vec<&str> = events.lines().collect();
    assert_eq!(seen, ["health_status: unhealthy", "health_status: healthy"]);
    // No exec is left behind by the probes.
    let left = std::fs::read_dir(engine.exec_root().join("x"))
        .unwrap()
        .count();
    assert!(left <= 3, "{left} folders of execs");
    engine.gantry(&["stop", "-t", "0", "con"]).ok();
    assert_eq!(health(&engine, "con")["Status"], "unhealthy");
}

#[test]
fn a_probe_that_hangs_is_ended() {
    let engine = Engine::with_busybox();
    run(
        &engine,
        "con",
        &[
            "--health-cmd",
            "echo slow; sleep 77",
            "--health-timeout",
            "300ms",
        ],
        "sleep 1000",
    );
    comes_to_be(&engine, "con", "unhealthy");
    let log = health(&engine, "con")["Log"].clone();
    assert_eq!(log[0]["ExitCode"], -1);
    assert_eq!(
        log[0]["Output"],
        "Health check exceeded timeout (300ms): slow\n"
    );
    let left = engine.gantry(&["exec", "con", "ps"]).ok();
    let hanging = left
        .lines()
        .filter(|line| line.contains("echo slow"))
        .count();
    assert!(hanging <= 1, "{left}");
}

#[test]
fn failures_in_the_start_period_are_excused() {
    let engine = Engine::with_busybox();
    run(
        &engine,
        "con",
        &[
            "--health-cmd",
            "test -e /up",
            "--health-start-period",
            "30s",
            "--health-start-interval",
            "100ms",
        ],
        "sleep 2; touch /up; sleep 1000",
    );
    std::thread::sleep(Duration::from_millis(1200));
    let early = health(&engine, "con");
    assert_eq!(
        (&early["Status"], &early["FailingStreak"]),
        (&"starting".into(), &0.into()),
        "{early}"
    );
    assert!(!early["Log"].as_array().unwrap().is_empty());
    comes_to_be(&engine, "con", "healthy");
}

#[test]
fn what_follows_when_it_is_unhealthy() {
    let engine = Engine::with_busybox();
    let fails = ["--health-cmd", "false", "--health-on-failure"];
    run(
        &engine,
        "stopped",
        &[&fails[..], &["stop"]].concat(),
        "trap 'exit 5' TERM; while :; do sleep 0.1; done",
    );
    run(
        &engine,
        "killed",
        &[&fails[..], &["kill"]].concat(),
        "sleep 1000",
    );
    run(
        &engine,
        "again",
        &[&fails[..], &["restart"]].concat(),
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    run(
        &engine,
        "kept",
        &[&fails[..], &["none"]].concat(),
        "sleep 1000",
    );
    let started = engine.inspect("again")["State"]["StartedAt"].clone();
    for (name, code) in [("stopped", 5), ("killed", 137)] {
        until(&format!("{name} ends"), PATIENCE, || {
            engine.inspect(name)["State"]["Status"] == "exited"
        });
        assert_eq!(engine.inspect(name)["State"]["ExitCode"], code);
    }
    until("it is started again", PATIENCE, || {
        let state = engine.inspect("again")["State"].clone();
        state["Status"] == "running" && state["StartedAt"] != started
    });
    comes_to_be(&engine, "kept", "unhealthy");
    assert_eq!(engine.inspect("kept")["State"]["Status"], "running");
    let refused = engine.gantry(&[
        "create",
        "--health-cmd",
        "true",
        "--health-on-failure",
        "dance",
        "busybox",
    ]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("invalid OnFailure"), "{refused}");
}

#[test]
fn the_next_daemon_goes_on_probing() {
    let mut engine = Engine::with_busybox();
    run(
        &engine,
        "con",
        &["--health-cmd", "sleep 0.1; test ! -e /ill"],
        "sleep 1000",
    );
    comes_to_be(&engine, "con", "healthy");
    engine.kill_daemon();
    engine.launch();
    assert_eq!(health(&engine, "con")["Status"], "healthy");
    engine.gantry(&["exec", "con", "touch", "/ill"]).ok();
    comes_to_be(&engine, "con", "unhealthy");
}
