//! `gantry run` and what it is made of.

use gantry_testkit::Engine;
use std::time::Duration;

#[test]
fn hello_world_comes_out_of_the_binary() {
    let engine = Engine::start();
    let greeting = engine.gantry(&["run", "hello-world"]).ok();
    assert!(greeting.contains("Hello from"), "{greeting}");
    let list = engine
        .gantry(&["ps", "-a", "--format", "{{.Image}} {{.Status}}"])
        .ok();
    assert!(list.starts_with("hello-world Exited (0)"), "{list}");
    let images = engine
        .gantry(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    assert_eq!(images, "hello-world:latest");
    // The second run is one of milliseconds; the bound is wide, for a machine that does other things.
    let again = engine.gantry(&["run", "--rm", "hello-world"]);
    again.ok();
    assert!(again.took < Duration::from_secs(2), "{again}");
}

#[test]
fn exit_codes_are_the_programs_own() {
    let engine = Engine::with_busybox();
    for code in [0, 1, 7, 125, 255] {
        let script = format!("exit {code}");
        engine
            .gantry(&["run", "--rm", "busybox", "sh", "-c", &script])
            .fails_with(code);
    }
}

#[test]
fn a_program_that_cannot_be_executed_is_told_apart() {
    let engine = Engine::with_busybox();
    let missing = engine
        .gantry(&["run", "--name", "missing", "busybox", "/no/such"])
        .fails_with(127);
    assert!(missing.contains("no such file or directory"), "{missing}");
    assert_eq!(engine.inspect("missing")["State"]["Status"], "created");
    let denied = engine
        .gantry(&["run", "--rm", "busybox", "/etc/passwd"])
        .fails_with(126);
    assert!(denied.contains("permission denied"), "{denied}");
}

#[test]
fn a_hundred_exits_in_a_row_are_all_seen() {
    let engine = Engine::with_busybox();
    for number in 0..100 {
        let ran = engine.gantry(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo out; exit 7",
        ]);
        ran.fails_with(7);
        assert_eq!(ran.stdout, "out\n", "run {number}");
    }
}

#[test]
fn defaults_are_dockers() {
    let engine = Engine::with_busybox();
    let script = "id; pwd; hostname; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/1/cgroup | wc -l; \
                  mount | grep -c 'type overlay'; ls /dev; touch /proc/sys/kernel/x 2>&1; ls /proc/acpi /sys/firmware 2>/dev/null; \
                  unshare -m true 2>&1; env";
    let said = engine
        .gantry(&[
            "run",
            "--rm",
            "--hostname",
            "box",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    assert!(said.starts_with("uid=0(root) gid=0(root)"), "{said}");
    for line in [
        "\n/\n",
        "\nbox\n",
        "CapEff:\t00000000a80425fb",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
        "unshare: ",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=box",
        "HOME=/root",
    ] {
        assert!(said.contains(line), "{line:?} is not in:\n{said}");
    }
    for device in [
        "null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "mqueue", "fd",
        "stdin",
    ] {
        assert!(
            said.lines().any(|line| line == device),
            "{device} is not in /dev:\n{said}"
        );
    }
}

#[test]
fn limits_reach_the_kernel() {
    let engine = Engine::with_busybox();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                  cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; \
                  cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; \
                  cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset.cpus 2>/dev/null; ulimit -n";
    let said = engine
        .gantry(&[
            "run",
            "--rm",
            "--memory",
            "64m",
            "--pids-limit",
            "50",
            "--cpus",
            "0.5",
            "--cpuset-cpus",
            "0",
            "--ulimit",
            "nofile=123:456",
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert_eq!(lines[0], "67108864");
    assert_eq!(lines[1], "50");
    assert!(lines[2].starts_with("50000"), "{said}");
    assert_eq!((lines[3], lines[4]), ("0", "123"));
}

#[test]
fn out_of_memory_is_137_and_told() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run",
            "--name",
            "eater",
            "--memory",
            "16m",
            "--memory-swap",
            "16m",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "x=a; while true; do x=$x$x; done",
        ])
        .fails_with(137);
    assert_eq!(engine.inspect("eater")["State"]["OOMKilled"], true);
}

#[test]
fn options_of_a_container_hold() {
    let engine = Engine::with_busybox();
    let run = |more: &[&str], script: &str| {
        let mut words = vec!["run", "--rm", "--network", "none"];
        words.extend(more);
        words.extend(["busybox", "sh", "-c", script]);
        engine.gantry(&words)
    };
    assert_eq!(run(&["-w", "/a/b"], "pwd").ok(), "/a/b");
    assert_eq!(run(&["-u", "12:34"], "id -u; id -g").ok(), "12\n34");
    assert_eq!(
        run(&["-e", "A=1", "-e", "B=x y"], "echo $A $B").ok(),
        "1 x y"
    );
    let read_only = run(&["--read-only"], "touch /x").fails_with(1);
    assert!(read_only.contains("Read-only file system"), "{read_only}");
    assert_eq!(
        run(&["--cap-drop", "ALL"], "grep CapEff /proc/self/status").ok(),
        "CapEff:\t0000000000000000"
    );
    assert_eq!(
        run(
            &["--security-opt", "no-new-privileges"],
            "grep NoNewPrivs /proc/self/status"
        )
        .ok(),
        "NoNewPrivs:\t1"
    );
    assert_eq!(
        run(&["--privileged"], "grep Seccomp: /proc/self/status").ok(),
        "Seccomp:\t0"
    );
    assert_eq!(
        run(
            &["--sysctl", "net.ipv4.ip_forward=1"],
            "cat /proc/sys/net/ipv4/ip_forward"
        )
        .ok(),
        "1"
    );
    assert_eq!(
        run(&["--oom-score-adj", "77"], "cat /proc/self/oom_score_adj").ok(),
        "77"
    );
    assert_eq!(run(&["--init"], "cat /proc/1/comm; exit 3").code, 3);
    let init = run(&["--init"], "tr '\\0' ' ' </proc/1/cmdline").ok();
    assert!(init.contains("docker-init"), "{init}");
    let unknown = run(&["-u", "nobody"], "true");
    assert_eq!(unknown.code, 125, "{unknown}");
    assert!(
        unknown
            .stderr
            .contains("no matching entries in passwd file"),
        "{unknown}"
    );
}

#[test]
fn a_container_lives_through_start_stop_kill_and_remove() {
    let engine = Engine::with_busybox();
    let id = engine
        .gantry(&[
            "run",
            "-d",
            "--name",
            "con",
            "busybox",
            "sh",
            "-c",
            "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done",
        ])
        .ok();
    assert_eq!(id.len(), 64);
    gantry_testkit::until("it is up", Duration::from_secs(10), || {
        engine.gantry(&["logs", "con"]).ok() == "up"
    });
    assert_eq!(engine.gantry(&["ps", "-q", "--no-trunc"]).ok(), id);
    let conflict = engine
        .gantry(&["run", "--name", "con", "busybox", "true"])
        .fails_with(125);
    assert!(
        conflict.contains("is already in use by container"),
        "{conflict}"
    );
    engine.gantry(&["stop", "con"]).ok();
    assert_eq!(engine.inspect("con")["State"]["ExitCode"], 5);
    assert_eq!(engine.gantry(&["logs", "con"]).ok(), "up\nbye");
    engine.gantry(&["start", "con"]).ok();
    assert_eq!(engine.inspect("con")["State"]["Running"], true);
    let refused = engine.gantry(&["rm", "con"]).fails_with(1);
    assert!(refused.contains("is running"), "{refused}");
    engine.gantry(&["kill", "con"]).ok();
    assert_eq!(engine.gantry(&["wait", "con"]).ok(), "137");
    engine.gantry(&["rm", "con"]).ok();
    engine.api("GET", "/containers/con/json", None).expect(404);
    // The kernel takes the namespace's links away some milliseconds after its last process.
    gantry_testkit::until("nothing is left", Duration::from_secs(5), || {
        engine.leaks().is_empty()
    });
}

#[test]
fn wait_knows_its_three_conditions() {
    let engine = Engine::with_busybox();
    let body = serde_json::json!({"Image": "busybox", "Cmd": ["sh", "-c", "exit 9"], "HostConfig": {"AutoRemove": true}});
    let made = engine
        .api("POST", "/containers/create?name=waited", Some(&body))
        .expect(201);
    let id = made.json()["Id"].as_str().unwrap().to_owned();
    // Not running: answered at once, before any start.
    let at_once = engine
        .api("POST", &format!("/containers/{id}/wait"), None)
        .expect(200);
    assert_eq!(at_once.json()["StatusCode"], 0);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            engine.api(
                "POST",
                &format!("/containers/{id}/wait?condition=next-exit"),
                None,
            )
        });
        let removed = scope.spawn(|| {
            engine.api(
                "POST",
                &format!("/containers/{id}/wait?condition=removed"),
                None,
            )
        });
        std::thread::sleep(Duration::from_millis(300));
        engine
            .api("POST", &format!("/containers/{id}/start"), None)
            .expect(204);
        for wait in [next, removed] {
            assert_eq!(wait.join().unwrap().expect(200).json()["StatusCode"], 9);
        }
    });
    engine
        .api("GET", &format!("/containers/{id}/json"), None)
        .expect(404);
}

#[test]
fn a_stuck_shim_delays_nobody_else() {
    use rustix::process::{Pid, Signal, kill_process};
    let engine = Engine::with_busybox();
    for name in ["stuck", "other"] {
        engine
            .gantry(&["run", "-d", "--name", name, "busybox", "sleep", "1000"])
            .ok();
    }
    let shim = Pid::from_raw(engine.shim_of("stuck")).unwrap();
    kill_process(shim, Signal::STOP).unwrap();
    let start = std::time::Instant::now();
    engine.serves();
    engine.inspect("stuck");
    engine.gantry(&["logs", "other"]).ok();
    engine.gantry(&["kill", "other"]).ok();
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
    let took = start.elapsed();
    kill_process(shim, Signal::CONT).unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}
