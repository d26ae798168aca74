//! What dies, and what goes on.

use gantry_testkit::{Engine, until};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_killed_daemon_loses_no_line_and_no_exit_code() {
    let mut engine = Engine::with_busybox();
    let script = "for i in $(seq 1 3000); do echo line $i; done; sleep 1; echo last; exit 33";
    let id = engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sh", "-c", script])
        .ok();
    let pid = engine.inspect("con")["State"]["Pid"].as_i64().unwrap();
    engine.kill_daemon();
    // It prints on and exits while there is no daemon.
    until("the container ends by itself", PATIENCE, || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    engine.launch();
    assert_eq!(engine.gantry(&["wait", "con"]).ok(), "33");
    let logs = engine.gantry(&["logs", "con"]).ok();
    let expected: String = (1..=3000)
        .map(|number| format!("line {number}\n"))
        .collect();
    assert!(logs == expected + "last", "{} lines", logs.lines().count());
    let state = engine.inspect(&id);
    assert_eq!(
        (&state["State"]["Status"], &state["State"]["ExitCode"]),
        (&"exited".into(), &33.into())
    );
}

#[test]
fn an_exit_is_counted_once_when_the_daemon_dies_before_it_has_cleared_up() {
    let mut engine = Engine::with_busybox();
    // The second run lasts. What nobody reads keeps the first one's shim, and with it what it wrote down of the exit.
    let script = "[ -e /again ] && sleep 1000; touch /again; head -c 1000000 /dev/zero; exit 3";
    let words = [
        "create",
        "--name",
        "con",
        "--restart",
        "on-failure:3",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    engine.gantry(&words).ok();
    let attached = engine.hijack("/containers/con/attach?stream=1&stdout=1", b"");
    engine.gantry(&["start", "con"]).ok();
    let state = |engine: &Engine, name: &str| engine.inspect("con")["State"][name].clone();
    until("the end is noted", PATIENCE, || {
        state(&engine, "Status") == "restarting"
    });
    let exit = engine
        .exec_root()
        .join("c")
        .join(engine.inspect("con")["Id"].as_str().unwrap())
        .join("exit");
    assert!(exit.exists());
    engine.kill_daemon();
    drop(attached);
    engine.launch();
    until("it runs again", PATIENCE, || {
        state(&engine, "Status") == "running"
    });
    let after = engine.inspect("con");
    assert_eq!(after["RestartCount"], 1, "{after}");
}

#[test]
fn the_next_daemon_takes_running_containers_up() {
    let mut engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "con",
            "busybox",
            "sh",
            "-c",
            "trap 'echo bye; exit 4' TERM; while :; do sleep 0.1; done",
        ])
        .ok();
    let before = engine.inspect("con");
    engine.kill_daemon();
    engine.launch();
    let after = engine.inspect("con");
    assert_eq!(after["State"]["Running"], true);
    for key in ["Pid", "StartedAt"] {
        assert_eq!(before["State"][key], after["State"][key], "{key}");
    }
    assert_eq!(
        before["NetworkSettings"]["IPAddress"],
        after["NetworkSettings"]["IPAddress"]
    );
    // Its address is still its own: the next container gets another.
    engine
        .gantry(&["run", "-d", "--name", "second", "busybox", "sleep", "1000"])
        .ok();
    assert_ne!(
        after["NetworkSettings"]["IPAddress"],
        engine.inspect("second")["NetworkSettings"]["IPAddress"]
    );
    engine.gantry(&["stop", "con"]).ok();
    assert_eq!(engine.inspect("con")["State"]["ExitCode"], 4);
    assert_eq!(engine.gantry(&["logs", "con"]).ok(), "bye");
}

#[test]
fn a_polite_stop_keeps_containers_too() {
    let mut engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run", "-d", "--name", "con", "--rm", "busybox", "sleep", "1000",
        ])
        .ok();
    engine.stop_daemon();
    assert!(
        !engine.socket().exists()
            || std::os::unix::net::UnixStream::connect(engine.socket()).is_err()
    );
    engine.launch();
    assert_eq!(
        engine.inspect("con")["State"]["Running"],
        true,
        "a daemon's end removes no running --rm container"
    );
    engine.gantry(&["kill", "con"]).ok();
    until("--rm is kept after a restart", PATIENCE, || {
        engine.api("GET", "/containers/con/json", None).status == 404
    });
}

#[test]
fn an_rm_container_that_ends_meanwhile_is_removed() {
    let mut engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run", "-d", "--name", "con", "--rm", "busybox", "sleep", "1000",
        ])
        .ok();
    let pid = engine.inspect("con")["State"]["Pid"].as_i64().unwrap();
    engine.kill_daemon();
    kill(i32::try_from(pid).unwrap());
    engine.launch();
    until("it is removed", PATIENCE, || {
        engine.api("GET", "/containers/con/json", None).status == 404
    });
    until("nothing of it is left", PATIENCE, || {
        engine.leaks().is_empty()
    });
}

#[test]
fn a_killed_shim_ends_its_container_and_leaves_nothing() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "con",
            "busybox",
            "sh",
            "-c",
            "sleep 1000 & sleep 1000",
        ])
        .ok();
    engine
        .gantry(&["run", "-d", "--name", "other", "busybox", "sleep", "1000"])
        .ok();
    let pid = engine.inspect("con")["State"]["Pid"].as_i64().unwrap();
    kill(engine.shim_of("con"));
    until("its program is ended", PATIENCE, || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
    until("it is marked", PATIENCE, || {
        engine.inspect("con")["State"]["Status"] == "exited"
    });
    assert_eq!(engine.inspect("con")["State"]["Running"], false);
    assert_eq!(engine.inspect("con")["State"]["ExitCode"], 137);
    let id = engine.inspect("con")["Id"].as_str().unwrap().to_owned();
    until("nothing of it stays in the kernel", PATIENCE, || {
        !engine
            .leaks()
            .iter()
            .any(|leak| !leak.starts_with("file") && leak.contains(&id))
    });
    assert_eq!(engine.inspect("other")["State"]["Running"], true);
    engine.gantry(&["start", "con"]).ok();
    assert_eq!(engine.inspect("con")["State"]["Running"], true);
}

#[test]
fn a_shim_killed_while_no_daemon_is_there_is_found_out() {
    let mut engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    let shim = engine.shim_of("con");
    engine.kill_daemon();
    kill(shim);
    engine.launch();
    until("it is marked", PATIENCE, || {
        engine.inspect("con")["State"]["Running"] == false
    });
    engine.gantry(&["rm", "con"]).ok();
    until("nothing of it is left", PATIENCE, || {
        engine.leaks().is_empty()
    });
}

#[test]
fn daemons_killed_in_the_middle_of_starts_leave_nothing() {
    let mut engine = Engine::with_busybox();
    for round in 0..15u64 {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                engine
                    .command(&["run", "--rm", "busybox", "true"])
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // Another moment of a start each time.
        std::thread::sleep(Duration::from_millis(2 + round * 3));
        engine.kill_daemon();
        for mut client in clients {
            client.wait().unwrap();
        }
        engine.launch();
    }
    engine.serves();
    engine.clean();
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
}

#[test]
fn a_killed_spawner_is_replaced() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    let daemon = engine.daemon_pid();
    let children =
        std::fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap();
    let spawner: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    kill(spawner);
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
    assert_eq!(engine.inspect("con")["State"]["Running"], true);
}
