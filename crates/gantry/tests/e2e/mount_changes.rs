//! Changes of mounts to their end: what is refused, what a killed daemon leaves, what becomes of volumes.

use gantry_testkit::{Engine, Ran};
use serde_json::{Value, json};
use std::time::Duration;

fn start(engine: &Engine, name: &str, more: &[&str]) {
    let begin = ["run", "-d", "--name", name];
    let end = ["busybox", "sleep", "1000"];
    engine.gantry(&[&begin, more, &end].concat()).ok();
}

fn update(engine: &Engine, words: &[&str]) -> Ran {
    engine.gantry(&[&["update"], words, &["con"]].concat())
}

fn cat(engine: &Engine, path: &str) -> Option<String> {
    let ran = engine.gantry(&["exec", "con", "cat", path]);
    (ran.code == 0).then(|| ran.stdout.trim().to_owned())
}

/// What inspect says is mounted, by destination.
fn mounts(engine: &Engine) -> Vec<(String, String)> {
    let inspected = engine.inspect("con");
    let text = |m: &Value, key: &str| m[key].as_str().unwrap_or_default().to_owned();
    let list = inspected["Mounts"].as_array().unwrap().clone();
    let mut all: Vec<_> = list
        .iter()
        .map(|m| (text(m, "Destination"), text(m, "Type")))
        .collect();
    all.sort();
    all
}

fn of(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    all.iter().map(owned).collect()
}

fn volumes(engine: &Engine) -> Vec<String> {
    let list = engine.gantry(&["volume", "ls", "-q"]).ok();
    list.lines().map(str::to_owned).collect()
}

fn host_folder(engine: &Engine) -> String {
    let folder = engine.folder().join("host");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("f"), "host").unwrap();
    folder.display().to_string()
}

#[test]
fn a_running_container_gets_mounts_and_loses_them() {
    let engine = Engine::with_busybox();
    let host = host_folder(&engine);
    start(&engine, "con", &["-v", "old:/old"]);
    let bind = format!("type=bind,src={host},dst=/host/deep,ro");
    let add = [
        "--mount-add",
        &bind,
        "--mount-add",
        "src=fresh,dst=/etc/network",
        "--mount-add",
        "type=tmpfs,dst=/scratch,tmpfs-size=1m",
        "--mount-rm",
        "/old/",
    ];
    assert_eq!(update(&engine, &add).ok(), "con");
    assert_eq!(cat(&engine, "/host/deep/f").as_deref(), Some("host"));
    let refused = engine.gantry(&["exec", "con", "touch", "/host/deep/new"]);
    assert!(refused.stderr.contains("Read-only"), "{refused}");
    engine
        .gantry(&["exec", "con", "sh", "-c", "echo 1 > /etc/network/f"])
        .ok();
    let table = cat(&engine, "/proc/mounts").unwrap();
    assert!(table.contains(" /scratch tmpfs "), "{table}");
    assert!(!table.contains(" /old "), "{table}");
    let expected = of(&[
        ("/etc/network", "volume"),
        ("/host/deep", "bind"),
        ("/scratch", "tmpfs"),
    ]);
    assert_eq!(mounts(&engine), expected);
    let inspected = engine.inspect("con");
    assert_eq!(inspected["HostConfig"]["Binds"], Value::Null);
    assert_eq!(
        inspected["HostConfig"]["Mounts"][1],
        json!({"Type": "volume", "Source": "fresh", "Target": "/etc/network"})
    );
    // The one is in use now, the other no more.
    let refused = engine.gantry(&["volume", "rm", "fresh"]);
    assert!(refused.stderr.contains("volume is in use"), "{refused}");
    engine.gantry(&["volume", "rm", "old"]).ok();
    // For the next start, too.
    engine.gantry(&["restart", "-t", "0", "con"]).ok();
    assert_eq!(mounts(&engine), expected);
    assert_eq!(cat(&engine, "/host/deep/f").as_deref(), Some("host"));
    assert_eq!(cat(&engine, "/etc/network/f").as_deref(), Some("1"));
    let remove = [
        "--mount-rm",
        "/host/deep",
        "--mount-rm",
        "/etc/network",
        "--mount-rm",
        "/scratch",
    ];
    update(&engine, &remove).ok();
    assert!(mounts(&engine).is_empty());
    assert_eq!(cat(&engine, "/host/deep/f"), None);
    assert_eq!(engine.inspect("con")["HostConfig"].get("Mounts"), None);
    engine.gantry(&["restart", "-t", "0", "con"]).ok();
    assert_eq!(cat(&engine, "/host/deep/f"), None);
    assert!(engine.gantry(&["volume", "rm", "fresh"]).code == 0);
    let events = ["--since", "5m", "--until", "0s", "--filter", "type=volume"];
    let form = ["--format", "{{.Action}} {{.Actor.ID}}"];
    let seen = engine
        .gantry(&[&["events"], &events[..], &form[..]].concat())
        .ok();
    let seen: Vec<&str> = seen.lines().map(str::trim_end).collect();
    let expected = [
        "create old",
        "mount old",
        "create fresh",
        "unmount old",
        "mount fresh",
        "destroy old",
        "unmount fresh",
        "mount fresh",
        "unmount fresh",
        "destroy fresh",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_new_volume_takes_over_files_also_in_a_container_that_does_not_run() {
    let engine = Engine::with_busybox();
    let command = "mkdir -p /data; echo image > /data/f; sleep 1000";
    let make = ["create", "--name", "con", "busybox", "sh", "-c", command];
    engine.gantry(&make).ok();
    update(&engine, &["--mount-add", "src=before,dst=/early"]).ok();
    assert_eq!(mounts(&engine), of(&[("/early", "volume")]));
    engine.gantry(&["start", "con"]).ok();
    gantry_testkit::until("the file is there", Duration::from_secs(10), || {
        cat(&engine, "/data/f").is_some()
    });
    // Running: what the container has there itself.
    update(&engine, &["--mount-add", "src=vol,dst=/data"]).ok();
    assert_eq!(cat(&engine, "/data/f").as_deref(), Some("image"));
    engine
        .gantry(&["exec", "con", "sh", "-c", "echo volume > /data/f"])
        .ok();
    engine.gantry(&["stop", "-t", "0", "con"]).ok();
    let swap = ["--mount-rm", "/data", "--mount-add", "src=other,dst=/data"];
    update(&engine, &swap).ok();
    let look = |name: &str| {
        let volume = format!("{name}:/v");
        let words = ["run", "--rm", "-v", &volume, "busybox", "cat", "/v/f"];
        engine.gantry(&words).ok()
    };
    assert_eq!(look("vol"), "volume");
    assert_eq!(look("other"), "image");
    engine.gantry(&["volume", "rm", "vol"]).ok();
    // Whose volumes go when the container goes.
    update(&engine, &["--mount-add", "dst=/anonymous"]).ok();
    assert_eq!(volumes(&engine).len(), 3);
    engine.gantry(&["rm", "-v", "con"]).ok();
    assert_eq!(volumes(&engine), ["before", "other"]);
}

#[test]
fn what_is_refused_changes_nothing() {
    let engine = Engine::with_busybox();
    let host = host_folder(&engine);
    let below = format!("{host}:/data/below");
    start(&engine, "con", &["-v", "vol:/data", "-v", &below]);
    let before = engine.inspect("con");
    let bind = |destination: &str| format!("type=bind,src={host},dst={destination}");
    let missing = "type=bind,src=/nothing/here,dst=/x".to_owned();
    let hosts = engine.folder().join("hosts");
    std::fs::write(&hosts, "").unwrap();
    for (words, expected) in [
        (
            ["--mount-rm", "/nothing"],
            "the container has no mount at /nothing",
        ),
        (
            ["--mount-rm", "/data"],
            "the mount /data/below is below /data: remove it first",
        ),
        (
            ["--mount-add", &bind("/data")],
            "Duplicate mount point: /data",
        ),
        (
            ["--mount-add", &bind("/etc")],
            "cannot mount /etc: something is mounted at /etc/host",
        ),
        (
            ["--mount-add", &bind("/dev/shm")],
            "something is mounted at /dev/shm",
        ),
        (["--mount-add", &bind("/proc/sys")], "is inside /proc"),
        (["--mount-add", &bind("/")], "destination can't be '/'"),
        (
            ["--mount-add", &bind("/bin/busybox")],
            "cannot mount /bin/busybox: Not a directory",
        ),
        (
            ["--mount-add", &missing],
            "bind source path does not exist: /nothing/here",
        ),
        (
            ["--mount-add", "type=volume,src=a/b,dst=/x"],
            "invalid characters",
        ),
    ] {
        // All or nothing.
        let more = [
            "--mount-add",
            "dst=/anonymous",
            "--mount-add",
            "src=vol,dst=/again",
        ];
        let ran = update(&engine, &[&more[..], &words[..]].concat());
        ran.fails_with(1);
        assert!(ran.stderr.contains(expected), "{expected}: {ran}");
        let after = engine.inspect("con");
        assert_eq!(after["Mounts"], before["Mounts"], "{words:?}");
        assert_eq!(after["HostConfig"], before["HostConfig"], "{words:?}");
        assert_eq!(cat(&engine, "/data/below/f").as_deref(), Some("host"));
        let table = cat(&engine, "/proc/mounts").unwrap();
        assert!(!table.contains(" /again "), "{table}");
        assert_eq!(volumes(&engine), ["vol"]);
    }
    // Without its volume name an anonymous one that goes stays as anybody's.
    update(&engine, &["--mount-add", "dst=/anonymous"]).ok();
    update(&engine, &["--mount-rm", "/anonymous"]).ok();
    assert_eq!(volumes(&engine).len(), 2);
    engine.gantry(&["rm", "-fv", "con"]).ok();
    assert_eq!(volumes(&engine).len(), 2);
}

#[test]
fn a_file_that_is_open_stays_open_and_a_paused_container_is_no_hindrance() {
    let engine = Engine::with_busybox();
    let script =
        "exec 3< /data/f; touch /ready; until test -e /new/go; do sleep 0.1; done; cat <&3";
    let prepare = ["sh", "-c", "echo kept > /data/f"];
    let volume = ["-v", "vol:/data", "busybox"];
    engine
        .gantry(&[&["run", "--rm"], &volume[..], &prepare].concat())
        .ok();
    let words = [&["run", "-d", "--name", "con"], &volume[..]].concat();
    engine
        .gantry(&[&words[..], &["sh", "-c", script]].concat())
        .ok();
    let patience = Duration::from_secs(10);
    gantry_testkit::until("the file is open", patience, || {
        cat(&engine, "/ready").is_some()
    });
    engine.gantry(&["pause", "con"]).ok();
    let swap = ["--mount-rm", "/data", "--mount-add", "type=tmpfs,dst=/new"];
    update(&engine, &swap).ok();
    engine.gantry(&["unpause", "con"]).ok();
    assert_eq!(cat(&engine, "/data/f"), None);
    engine.gantry(&["exec", "con", "touch", "/new/go"]).ok();
    gantry_testkit::until("the open file is read", patience, || {
        engine.gantry(&["logs", "con"]).ok() == "kept"
    });
}

#[test]
fn daemons_killed_in_between_leave_it_one_way_or_the_other() {
    let mut engine = Engine::with_busybox();
    let host = host_folder(&engine);
    start(&engine, "con", &["-v", "keep:/keep"]);
    let bind = format!("type=bind,src={host},dst=/bound");
    let add = [
        "update",
        "--mount-add",
        &bind,
        "--mount-add",
        "dst=/anonymous",
        "--mount-add",
        "type=tmpfs,dst=/scratch",
        "con",
    ];
    let remove = [
        "update",
        "--mount-rm",
        "/bound",
        "--mount-rm",
        "/anonymous",
        "--mount-rm",
        "/scratch",
        "con",
    ];
    let (mut came, mut went) = (0, 0);
    for round in 0..80_u64 {
        let has = mounts(&engine).len() == 4;
        let words: &[&str] = if has { &remove } else { &add };
        let mut client = engine
            .command(words)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(500 + round % 40 * 150));
        engine.kill_daemon();
        let told = client.wait().unwrap().success();
        engine.launch();
        let now = mounts(&engine);
        let kinds: Vec<&str> = now.iter().map(|(d, _)| d.as_str()).collect();
        let all = ["/anonymous", "/bound", "/keep", "/scratch"];
        assert!(kinds == all || kinds == ["/keep"], "{kinds:?}");
        assert!(!told || has == (kinds.len() == 1), "it was said to be done");
        match (has, kinds.len() == 4) {
            (false, true) => came += 1,
            (true, false) => went += 1,
            _ => {}
        }
        // The container has what the record says.
        let table = cat(&engine, "/proc/mounts").unwrap();
        for place in all {
            let times = table.matches(&format!(" {place} ")).count();
            assert_eq!(
                times,
                usize::from(kinds.contains(&place)),
                "{place}: {table}"
            );
        }
    }
    let finished = engine.log().matches("is finished").count();
    println!("came {came}, went {went}, finished by the next daemon {finished}");
    assert!(came > 0 && went > 0, "came {came}, went {went}");
    engine.gantry(&["rm", "-fv", "con"]).ok();
    // Those that were taken away are anybody's, each of them whole.
    engine.gantry(&["volume", "prune", "-f"]).ok();
    assert_eq!(volumes(&engine), ["keep"]);
}
