//! Mounts put into running containers, and taken out.

use gantry_testkit::Engine;

fn update(engine: &Engine, words: &[&str]) {
    engine.gantry(&[&["update"], words, &["con"]].concat()).ok();
}

fn inside(engine: &Engine, script: &str) -> String {
    engine.gantry(&["exec", "con", "sh", "-c", script]).ok()
}

#[test]
fn mounts_come_and_go_in_a_running_container() {
    let mut engine = Engine::with_busybox();
    let folder = engine.folder().join("shared");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "from the host").unwrap();
    let source = folder.display().to_string();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    let pid = engine.inspect("con")["State"]["Pid"].clone();
    let read_only = format!("type=bind,src={source},dst=/new/deep,readonly");
    update(
        &engine,
        &[
            "--mount-add",
            &read_only,
            "--mount-add",
            "type=volume,src=data,dst=/data",
            "--mount-add",
            "type=tmpfs,dst=/scratch,tmpfs-size=1m",
        ],
    );
    assert_eq!(inside(&engine, "cat /new/deep/file"), "from the host");
    assert_eq!(
        inside(&engine, "touch /new/deep/x 2>&1 || true"),
        "touch: /new/deep/x: Read-only file system"
    );
    inside(&engine, "echo kept > /data/f; echo gone > /scratch/f");
    let state = engine.inspect("con");
    assert_eq!(state["State"]["Pid"], pid, "it was not started again");
    assert_eq!(state["Mounts"].as_array().unwrap().len(), 3);
    let in_use = engine.gantry(&["volume", "rm", "data"]);
    assert!(in_use.stderr.contains("volume is in use"), "{in_use}");
    // The next daemon knows, and the next start has them.
    engine.kill_daemon();
    engine.launch();
    engine.gantry(&["restart", "-t", "0", "con"]).ok();
    assert_eq!(
        inside(&engine, "cat /new/deep/file /data/f; ls /scratch"),
        "from the hostkept"
    );
    // Out again, one of them while a file of it is open.
    engine
        .gantry(&["exec", "-d", "con", "sh", "-c", "exec 3</data/f; sleep 100"])
        .ok();
    update(
        &engine,
        &["--mount-rm", "/data", "--mount-rm", "/new/deep/"],
    );
    assert_eq!(
        inside(&engine, "ls /data; ls /new/deep; mount | grep -c /scratch"),
        "1"
    );
    engine.gantry(&["volume", "rm", "data"]).ok();
    assert_eq!(engine.inspect("con")["Mounts"].as_array().unwrap().len(), 1);
    engine.gantry(&["restart", "-t", "0", "con"]).ok();
    assert_eq!(inside(&engine, "ls /data; mount | grep -c /scratch"), "1");
}

#[test]
fn what_cannot_be_mounted_changes_nothing() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "run", "-d", "--name", "con", "--memory", "64m", "-v", "old:/old", "busybox", "sleep",
            "1000",
        ])
        .ok();
    let before = engine.inspect("con");
    for (words, why) in [
        (
            &["--mount-add", "type=bind,src=/not/there,dst=/x"][..],
            "bind source path does not exist: /not/there",
        ),
        (
            &["--mount-rm", "/nothing"],
            "the container has no mount at /nothing",
        ),
        (
            &["--mount-add", "type=volume,src=new,dst=/old"],
            "Duplicate mount point: /old",
        ),
        // The first is made and taken back when the second cannot be.
        (
            &[
                "--memory",
                "32m",
                "--memory-swap",
                "64m",
                "--mount-add",
                "type=volume,src=new,dst=/one",
                "--mount-add",
                "type=volume,src=new,dst=/etc/passwd/below",
            ],
            "cannot mount /etc/passwd/below",
        ),
    ] {
        let refused = engine.gantry(&[&["update"], words, &["con"]].concat());
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains(why), "{refused}");
    }
    let after = engine.inspect("con");
    for key in ["Mounts", "HostConfig"] {
        assert_eq!(before[key], after[key]);
    }
    assert_eq!(inside(&engine, "mount | grep -c ' /one '; true"), "0");
    engine.gantry(&["volume", "rm", "new"]).ok();
    // A stopped container has it at its next start.
    engine.gantry(&["stop", "-t", "0", "con"]).ok();
    update(
        &engine,
        &["--mount-rm", "/old", "--mount-add", "type=tmpfs,dst=/t"],
    );
    engine.gantry(&["start", "con"]).ok();
    assert_eq!(inside(&engine, "mount | grep -c ' /t '; ls /old"), "1");
}

#[test]
fn a_link_at_the_target_leads_nowhere_but_inside() {
    let engine = Engine::with_busybox();
    let canary = engine.folder().join("canary");
    std::fs::create_dir(&canary).unwrap();
    engine
        .gantry(&["run", "-d", "--name", "con", "busybox", "sleep", "1000"])
        .ok();
    let up = "../".repeat(30);
    let path = canary.display().to_string();
    // A link to a folder of the host, by its absolute and by a relative path; the container has a folder of that name.
    inside(
        &engine,
        &format!("mkdir -p {path}; ln -s {path} /absolute; ln -s {up}{path} /relative"),
    );
    for link in ["/absolute", "/relative"] {
        update(
            &engine,
            &["--mount-add", &format!("type=tmpfs,dst={link}/m")],
        );
        inside(&engine, &format!("echo inside > {link}/m/f"));
        // Both lead to one place, and no mount hides another.
        update(&engine, &["--mount-rm", &format!("{link}/m")]);
    }
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0);
    assert!(!engine.leaks().iter().any(|leak| leak.starts_with("mount")));
    let swapped = inside(
        &engine,
        "while :; do ln -sfn / /swap; rm /swap; mkdir /swap; rmdir /swap; done & sleep 0.2; echo $!",
    );
    for round in 0..30 {
        let target = format!("type=tmpfs,dst=/swap/gantry-canary-{round}");
        engine.gantry(&["update", "--mount-add", &target, "con"]);
    }
    assert!(!swapped.is_empty());
    let escaped = std::fs::read_dir("/").unwrap().flatten().any(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("gantry-canary")
    });
    assert!(!escaped);
}
