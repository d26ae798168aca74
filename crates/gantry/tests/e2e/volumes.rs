//! Volumes: made, filled, shared, protected, removed.

use gantry_testkit::{Engine, until};
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn names(engine: &Engine) -> Vec<String> {
    let list = engine.api("GET", "/volumes", None).expect(200).json();
    let volumes = list["Volumes"].as_array().unwrap().clone();
    volumes
        .iter()
        .map(|v| v["Name"].as_str().unwrap().to_owned())
        .collect()
}

fn run(engine: &Engine, words: &[&str]) -> String {
    engine.gantry(&[&["run", "--rm"], words].concat()).ok()
}

/// An image with files at `/data`, and a link at `/way` that leads out.
fn with_files(engine: &Engine) {
    let script = "mkdir -p /data/deep; echo image > /data/file; ln -s file /data/link; \
        chown 7:8 /data /data/file; chmod 2751 /data; chmod 640 /data/file; \
        ln -s / /way; ln -s ../../../../etc /data/deep/out; mkfifo /data/pipe";
    engine
        .gantry(&["run", "--name", "maker", "busybox", "sh", "-c", script])
        .ok();
    engine.gantry(&["commit", "maker", "files"]).ok();
    engine.gantry(&["rm", "maker"]).ok();
}

#[test]
fn a_new_volume_takes_over_the_images_files() {
    let engine = Engine::with_busybox();
    with_files(&engine);
    let look = "stat -c '%u %g %a' /data /data/file; cat /data/link; readlink /data/deep/out; \
        test -p /data/pipe && echo pipe";
    let expected = "7 8 2751\n7 8 640\nimage\n../../../../etc\npipe";
    assert_eq!(
        run(&engine, &["-v", "vol:/data", "files", "sh", "-c", look]),
        expected
    );
    // What is in it then stays.
    run(
        &engine,
        &[
            "-v",
            "vol:/data",
            "busybox",
            "sh",
            "-c",
            "echo changed > /data/file",
        ],
    );
    assert_eq!(
        run(&engine, &["-v", "vol:/data", "files", "cat", "/data/file"]),
        "changed"
    );
    let nothing = run(
        &engine,
        &["-v", "empty:/data:nocopy", "files", "ls", "/data"],
    );
    assert_eq!(nothing, "");
    // A link in the image leads nowhere but inside of it.
    let listed = run(&engine, &["-v", "root:/way/etc", "files", "ls", "/way/etc"]);
    assert!(listed.contains("passwd"), "{listed}");
    let host = std::fs::read_to_string("/etc/passwd").unwrap();
    let inside = run(&engine, &["-v", "root:/x", "busybox", "cat", "/x/passwd"]);
    assert_ne!(host.trim(), inside);
    // Below a volume.
    let below = run(
        &engine,
        &[
            "--mount",
            "type=volume,src=vol,dst=/m,volume-subpath=deep",
            "busybox",
            "ls",
            "/m",
        ],
    );
    assert_eq!(below, "out");
    let out = engine.gantry(&[
        "run",
        "--rm",
        "--mount",
        "type=volume,src=vol,dst=/m,volume-subpath=deep/out",
        "busybox",
        "true",
    ]);
    assert_ne!(out.code, 0, "{out}");
}

#[test]
fn anonymous_volumes_go_with_v_and_named_ones_stay() {
    let engine = Engine::with_busybox();
    run(
        &engine,
        &["-v", "/anon", "-v", "named:/n", "busybox", "true"],
    );
    assert_eq!(names(&engine), ["named"]);
    engine
        .gantry(&[
            "run", "-d", "--name", "con", "-v", "/anon", "-v", "named:/n", "busybox", "sleep",
            "1000",
        ])
        .ok();
    let mounts = engine.inspect("con")["Mounts"].clone();
    let of = |destination: &str| -> Value {
        let all = mounts.as_array().unwrap();
        all.iter()
            .find(|m| m["Destination"] == destination)
            .unwrap()
            .clone()
    };
    assert_eq!(of("/n")["Name"], "named");
    assert_eq!(of("/n")["Mode"], "z");
    let anonymous = of("/anon")["Name"].as_str().unwrap().to_owned();
    let id = engine.inspect("con")["Id"].as_str().unwrap().to_owned();
    let refused = engine.gantry(&["volume", "rm", "named"]);
    assert_eq!(
        refused.stderr,
        format!("Error response from daemon: remove named: volume is in use - [{id}]\n")
    );
    engine.gantry(&["rm", "-f", "con"]).ok();
    assert!(
        names(&engine).contains(&anonymous),
        "rm without -v keeps it"
    );
    let pruned = engine.gantry(&["volume", "prune", "-f"]).ok();
    assert!(pruned.contains(&anonymous), "{pruned}");
    assert_eq!(names(&engine), ["named"]);
    engine
        .gantry(&["create", "--name", "con", "-v", "/anon", "busybox", "true"])
        .ok();
    engine.gantry(&["rm", "-v", "con"]).ok();
    assert_eq!(names(&engine), ["named"]);
    let all = engine.gantry(&["volume", "prune", "-af"]).ok();
    assert!(all.starts_with("Deleted Volumes:\nnamed\n"), "{all}");
    assert!(names(&engine).is_empty());
}

#[test]
fn volumes_from_another_container() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "create", "--name", "data", "-v", "/anon", "-v", "named:/n", "busybox", "true",
        ])
        .ok();
    run(
        &engine,
        &[
            "--volumes-from",
            "data",
            "busybox",
            "sh",
            "-c",
            "echo x > /anon/f; echo y > /n/f",
        ],
    );
    assert_eq!(
        run(
            &engine,
            &[
                "--volumes-from",
                "data",
                "busybox",
                "cat",
                "/anon/f",
                "/n/f"
            ]
        ),
        "x\ny"
    );
    let refused = engine.gantry(&[
        "run",
        "--rm",
        "--volumes-from",
        "data:ro",
        "busybox",
        "sh",
        "-c",
        "echo z > /n/f",
    ]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("Read-only"), "{refused}");
    // A bind of one's own stands before what is inherited.
    let own = run(
        &engine,
        &[
            "--volumes-from",
            "data",
            "-v",
            "other:/n",
            "busybox",
            "ls",
            "/n",
        ],
    );
    assert_eq!(own, "");
    // An anonymous volume stays as long as somebody has it.
    engine
        .gantry(&[
            "create",
            "--name",
            "heir",
            "--volumes-from",
            "data",
            "busybox",
            "cat",
            "/anon/f",
        ])
        .ok();
    engine.gantry(&["rm", "-v", "data"]).ok();
    assert_eq!(engine.gantry(&["start", "-a", "heir"]).ok(), "x");
    engine.gantry(&["rm", "-v", "heir"]).ok();
    assert_eq!(names(&engine), ["named", "other"]);
}

#[test]
fn a_volume_of_an_image_and_what_stands_before_it() {
    let engine = Engine::with_busybox();
    let made = engine.api(
        "POST",
        "/containers/create?name=con",
        Some(
            &json!({"Image": "busybox", "Cmd": ["true"], "Volumes": {"/v": {}, "/w": {}},
            "HostConfig": {"Binds": ["given:/w"], "Mounts": [
                {"Type": "volume", "Source": "typed", "Target": "/t", "ReadOnly": true,
                 "VolumeOptions": {"Labels": {"a": "b"}}},
                {"Type": "tmpfs", "Target": "/tmp/t"}]}}),
        ),
    );
    made.expect(201);
    let mounts = engine.inspect("con")["Mounts"].clone();
    let kinds: Vec<(String, String, bool)> = mounts
        .as_array()
        .unwrap()
        .iter()
        .map(|m| {
            let text = |key: &str| m[key].as_str().unwrap_or_default().to_owned();
            let name = text("Name");
            let name = if name.len() == 64 {
                "anonymous".to_owned()
            } else {
                name
            };
            (text("Destination"), name, m["RW"] == true)
        })
        .collect();
    let of = |destination: &str, name: &str, rw| (destination.to_owned(), name.to_owned(), rw);
    assert_eq!(
        kinds,
        [
            of("/t", "typed", false),
            of("/tmp/t", "", true),
            of("/v", "anonymous", true),
            of("/w", "given", true)
        ]
    );
    let typed = engine.api("GET", "/volumes/typed", None).expect(200).json();
    assert_eq!(typed["Labels"], json!({"a": "b"}));
    let twice = engine.gantry(&["create", "-v", "one:/x", "-v", "two:/x", "busybox"]);
    assert!(
        twice.stderr.contains("Duplicate mount point: /x"),
        "{twice}"
    );
    // A create that fails leaves no volume behind.
    let before = names(&engine);
    let refused = engine.gantry(&["create", "--name", "con", "-v", "/anon", "busybox"]);
    assert_ne!(refused.code, 0);
    assert_eq!(names(&engine), before);
    let listed = engine
        .gantry(&["ps", "-aq", "--filter", "volume=typed"])
        .ok();
    assert_eq!(listed.len(), 12);
    engine.gantry(&["rm", "-v", "con"]).ok();
    assert_eq!(names(&engine), ["given", "typed"]);
}

#[test]
fn a_volume_that_is_a_file_system_of_its_own() {
    let mut engine = Engine::with_busybox();
    engine
        .gantry(&[
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "-o",
            "o=size=1m",
            "mem",
        ])
        .ok();
    for name in ["one", "two"] {
        engine
            .gantry(&[
                "run", "-d", "--name", name, "-v", "mem:/m", "busybox", "sleep", "1000",
            ])
            .ok();
    }
    engine
        .gantry(&["exec", "one", "sh", "-c", "echo shared > /m/f"])
        .ok();
    assert_eq!(
        engine.gantry(&["exec", "two", "cat", "/m/f"]).ok(),
        "shared"
    );
    let full = engine.gantry(&[
        "exec",
        "two",
        "dd",
        "if=/dev/zero",
        "of=/m/z",
        "bs=1M",
        "count=3",
    ]);
    assert_ne!(full.code, 0, "1 MB is all there is: {full}");
    engine.gantry(&["stop", "-t", "0", "one"]).ok();
    assert_eq!(
        engine.gantry(&["exec", "two", "cat", "/m/f"]).ok(),
        "shared"
    );
    // The last one ends while no daemon is there.
    let pid = engine.inspect("two")["State"]["Pid"].as_i64().unwrap() as i32;
    engine.kill_daemon();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    engine.launch();
    until("nothing stays mounted", PATIENCE, || {
        !engine.leaks().iter().any(|leak| leak.starts_with("mount"))
    });
    let folder = engine.folder().join("bound");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("f"), "host").unwrap();
    let device = format!("device={}", folder.display());
    engine
        .gantry(&[
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            "o=bind",
            "-o",
            &device,
            "bound",
        ])
        .ok();
    assert_eq!(
        run(&engine, &["-v", "bound:/b", "busybox", "cat", "/b/f"]),
        "host"
    );
    for (option, words) in [
        ("nonsense=1", "invalid option: \"nonsense\""),
        ("type=tmpfs", "missing required option: \"device\""),
    ] {
        let refused = engine.gantry(&["volume", "create", "-o", option, "bad"]);
        assert!(refused.stderr.contains(words), "{refused}");
    }
}

#[test]
fn daemons_killed_in_between_leave_no_anonymous_volume() {
    let mut engine = Engine::with_busybox();
    for round in 0..20u64 {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                engine
                    .command(&[
                        "run", "--rm", "-v", "/anon", "-v", "named:/n", "busybox", "true",
                    ])
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(2 + round * 3));
        engine.kill_daemon();
        for mut client in clients {
            client.wait().unwrap();
        }
        engine.launch();
    }
    engine.clean();
    let left: Vec<String> = names(&engine)
        .into_iter()
        .filter(|n| n != "named")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let folders: Vec<_> = std::fs::read_dir(engine.data_root().join("volumes"))
        .unwrap()
        .flatten()
        .filter(|e| e.file_name() != "named")
        .collect();
    assert!(folders.is_empty(), "{folders:?}");
}

#[test]
fn the_commands_and_their_words() {
    let engine = Engine::with_busybox();
    assert_eq!(
        engine
            .gantry(&["volume", "create", "--label", "a=b", "one"])
            .ok(),
        "one"
    );
    assert_eq!(engine.gantry(&["volume", "create"]).ok().len(), 64);
    assert_eq!(
        engine
            .gantry(&["volume", "ls", "--filter", "label=a=b"])
            .ok(),
        "DRIVER    VOLUME NAME\nlocal     one"
    );
    assert_eq!(
        engine
            .gantry(&[
                "volume",
                "inspect",
                "-f",
                "{{.Name}} {{.Driver}} {{.Labels}}",
                "one"
            ])
            .ok(),
        "one local map[a:b]"
    );
    assert_eq!(
        engine
            .gantry(&["inspect", "--type", "volume", "-f", "{{.Scope}}", "one"])
            .ok(),
        "local"
    );
    let missing = engine.gantry(&["volume", "inspect", "nothing"]);
    assert_eq!(
        (
            missing.stdout.as_str(),
            missing.stderr.as_str(),
            missing.code
        ),
        (
            "[]\n",
            "Error response from daemon: get nothing: no such volume\n",
            1
        )
    );
    assert_eq!(
        engine.gantry(&["volume", "rm", "-f", "nothing"]).ok(),
        "nothing"
    );
    assert_eq!(engine.gantry(&["volume", "rm", "one"]).ok(), "one");
    run(
        &engine,
        &[
            "-v",
            "data:/d",
            "busybox",
            "sh",
            "-c",
            "head -c 5000 /dev/zero > /d/f",
        ],
    );
    let usage = engine
        .api("GET", "/system/df?type=volume", None)
        .expect(200)
        .json();
    let data = usage["Volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|v| v["Name"] == "data")
        .cloned();
    assert_eq!(
        data.unwrap()["UsageData"],
        json!({"RefCount": 0, "Size": 8192})
    );
}

#[test]
fn files_of_a_stopped_container_are_those_of_its_volumes() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "mem",
        ])
        .ok();
    let script = "mkdir -p /v/below; echo volume > /v/below/f; echo memory > /m/f";
    run(
        &engine,
        &[
            "-v", "vol:/v", "-v", "mem:/m", "busybox", "sh", "-c", script,
        ],
    );
    engine
        .gantry(&[
            "create",
            "--name",
            "con",
            "-v",
            "vol:/v",
            "-v",
            "mem:/m",
            "--mount",
            "type=volume,src=vol,dst=/s,volume-subpath=below",
            "busybox",
            "true",
        ])
        .ok();
    for (path, expected) in [("/v/below/f", "volume\n"), ("/s/f", "volume\n")] {
        let target = engine.folder().join("copied");
        engine
            .gantry(&["cp", &format!("con:{path}"), &target.display().to_string()])
            .ok();
        assert_eq!(std::fs::read_to_string(target).unwrap(), expected);
    }
    // A file system in memory is new each time, and nothing of it stays mounted.
    let missing = engine.gantry(&["cp", "con:/m/f", "/nowhere"]);
    assert!(
        missing.stderr.contains("Could not find the file /m/f"),
        "{missing}"
    );
    until("nothing stays mounted", PATIENCE, || {
        !engine.leaks().iter().any(|leak| leak.starts_with("mount"))
    });
}

#[test]
fn events_of_volumes() {
    let engine = Engine::with_busybox();
    run(&engine, &["-v", "data:/d:ro", "busybox", "true"]);
    engine.gantry(&["volume", "rm", "data"]).ok();
    let events = engine
        .gantry(&[
            "events",
            "--since",
            "1m",
            "--until",
            "0s",
            "--filter",
            "type=volume",
            "--format",
            "{{.Action}} {{.Actor.ID}}",
        ])
        .ok();
    let seen: Vec<&str> = events.lines().map(str::trim_end).collect();
    assert_eq!(
        seen,
        ["create data", "mount data", "unmount data", "destroy data"]
    );
}
