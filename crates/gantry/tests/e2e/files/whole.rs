//! A container's files as a whole: changes, sizes, export, commit; and the small commands of its life beside them.

use super::{sleeper, text};
use gantry_testkit::Engine;

/// A container that has changed, removed and replaced files.
fn changed(name: &str) -> Engine {
    let engine = Engine::with_busybox();
    let script = "echo one >/data; rm /etc/group; rm -r /root; mkdir /root; echo r >/root/new; setfattr x 2>/dev/null; ln /data /hard";
    engine.gantry(&[
        "run", "--name", name, "-e", "A=1", "-w", "/tmp", "busybox", "sh", "-c", script,
    ]);
    engine
}

#[test]
fn an_export_becomes_an_image() {
    let engine = changed("made");
    let tar = engine.folder().join("made.tar");
    engine
        .gantry(&["export", "--output", &text(&tar), "made"])
        .ok();
    engine.gantry(&["import", &text(&tar), "again"]).ok();
    let shown = engine.gantry(&[
        "run",
        "--rm",
        "again",
        "sh",
        "-c",
        "cat /data /root/new; ls /etc/group",
    ]);
    assert_eq!(shown.stdout, "one\nr\n");
    assert!(shown.stderr.contains("/etc/group"));
    let streamed = engine.gantry(&["container", "export", "made"]);
    assert!(streamed.code == 0 && streamed.stdout.contains("ustar"));
    let told = engine
        .gantry(&["export", "-o", "/nowhere/x", "made"])
        .fails_with(1);
    assert_eq!(
        told,
        "failed to export container: invalid output path: stat /nowhere: no such file or directory"
    );
}

#[test]
fn a_commit_is_an_image_over_the_first_one() {
    let engine = changed("made");
    let id = engine
        .gantry(&[
            "commit",
            "-a",
            "me",
            "-m",
            "words",
            "-c",
            "ENV B=2",
            "-c",
            "CMD [\"cat\",\"/data\"]",
            "-c",
            "LABEL l=v",
            "-c",
            "EXPOSE 80",
            "-c",
            "HEALTHCHECK --interval=5s --retries=2 CMD true",
            "made",
            "kept:1",
        ])
        .ok();
    assert!(id.starts_with("sha256:"));
    assert_eq!(engine.gantry(&["run", "--rm", "kept:1"]).ok(), "one");
    let image = engine
        .api("GET", "/images/kept:1/json", None)
        .expect(200)
        .json();
    let base = engine
        .api("GET", "/images/busybox/json", None)
        .expect(200)
        .json();
    assert_eq!(image["Id"], id.as_str());
    assert_eq!(image["Parent"], base["Id"]);
    assert_eq!(
        (&image["Author"], &image["Comment"]),
        (&"me".into(), &"words".into())
    );
    assert_eq!(image["Config"]["WorkingDir"], "/tmp");
    assert_eq!(
        image["Config"]["Healthcheck"]["Interval"],
        5_000_000_000_i64
    );
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let env = image["Config"]["Env"].to_string();
    assert!(env.contains("A=1") && env.contains("B=2"), "{env}");
    let look = "ls -d /etc/group; cat /root/new; ls /root; stat -c %h /data";
    let shown = engine.gantry(&["run", "--rm", "kept:1", "sh", "-c", look]);
    assert_eq!(shown.stdout, "r\nnew\n2\n");
    // An image that is saved, removed and loaded again is the same.
    let saved = engine.folder().join("kept.tar");
    engine.gantry(&["save", "-o", &text(&saved), "kept:1"]).ok();
    engine.gantry(&["rmi", "kept:1"]).ok();
    engine.gantry(&["load", "-i", &text(&saved)]).ok();
    assert_eq!(engine.gantry(&["run", "--rm", "kept:1"]).ok(), "one");
    // Without changes there is no layer, and a running container goes on.
    sleeper(&engine, "quiet", &[]);
    engine
        .gantry(&["container", "commit", "quiet", "same"])
        .ok();
    let same = engine
        .api("GET", "/images/same/json", None)
        .expect(200)
        .json();
    assert_eq!(same["RootFS"], base["RootFS"]);
    assert_eq!(engine.inspect("quiet")["State"]["Status"], "running");
    let told = engine.gantry(&["commit", "quiet", "UPPER"]).fails_with(1);
    assert_eq!(
        told,
        "invalid reference format: repository name (library/UPPER) must be lowercase"
    );
    let events = engine
        .gantry(&[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "--filter",
            "event=commit",
        ])
        .ok();
    assert!(
        events.contains("imageRef=kept:1") && events.contains("comment=words"),
        "{events}"
    );
}

#[test]
fn sizes_are_of_the_writable_layer() {
    let engine = Engine::with_busybox();
    let script = "dd if=/dev/zero of=/zeros bs=1000 count=3000 2>/dev/null; ln /zeros /again";
    engine
        .gantry(&["run", "--name", "sized", "busybox", "sh", "-c", script])
        .ok();
    let image = engine
        .api("GET", "/images/busybox/json", None)
        .expect(200)
        .json();
    let image = image["Size"].as_i64().unwrap();
    let inspected = engine
        .api("GET", "/containers/sized/json?size=1", None)
        .json();
    assert_eq!(inspected["SizeRw"], 3_000_000);
    assert_eq!(inspected["SizeRootFs"], 3_000_000 + image);
    let listed = engine.gantry(&["ps", "-as", "--format", "{{.Size}}"]).ok();
    assert!(listed.starts_with("3MB (virtual "), "{listed}");
    let used = engine
        .api("GET", "/system/df?type=container", None)
        .expect(200)
        .json();
    // What it takes on the disk: whole blocks.
    let taken = used["Containers"][0]["SizeRw"].as_i64().unwrap();
    assert!((3_000_000..3_020_000).contains(&taken), "{taken}");
}

#[test]
fn two_containers_held_against_each_other() {
    let engine = Engine::with_busybox();
    let run = |name: &str, flags: &[&str], script: &str| {
        let mut words = vec!["run", "--name", name];
        words.extend(flags);
        words.extend(["busybox", "sh", "-c", script]);
        engine.gantry(&words).ok();
    };
    run(
        "one",
        &["-e", "A=1", "-m", "64m"],
        "echo x >/same; echo a >/other; rm /etc/group",
    );
    run(
        "two",
        &["-e", "A=2", "--label", "k=v"],
        "sleep 1; echo x >/same; echo b >/other; mkdir /new",
    );
    let told = engine.gantry(&["diff", "one", "two"]).ok();
    let lines: Vec<&str> = told.lines().collect();
    for line in [
        "C /etc",
        "D /etc/group",
        "D /new",
        "C /other",
        "S Env.A: \"2\" -> \"1\"",
        "S HostConfig.Memory: none -> 67108864",
        "S Labels.k: \"v\" -> none",
    ] {
        assert!(lines.contains(&line), "{line}: {told}");
    }
    assert!(
        !lines.contains(&"C /same") && !told.contains("Hostname"),
        "{told}"
    );
    let told = engine.gantry(&["diff", "one", "busybox"]).ok();
    let own = engine.gantry(&["diff", "one"]).ok();
    let files: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("S "))
        .collect();
    assert_eq!(files.join("\n"), own);
    assert!(
        told.contains("S Env.A: none -> \"1\"") && !told.contains("HostConfig"),
        "{told}"
    );
    assert_eq!(engine.gantry(&["diff", "one", "one"]).ok(), "");
    let answer = engine
        .api("GET", "/containers/one/changes?against=two", None)
        .expect(200)
        .json();
    assert_eq!(answer["Against"], "container");
    let told = engine.gantry(&["diff", "one", "nothing"]).fails_with(1);
    assert_eq!(
        told,
        "Error response from daemon: No such container or image: nothing"
    );
}

#[test]
fn diff_tells_what_a_container_changed() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["create", "--name", "none", "busybox", "true"])
        .ok();
    assert_eq!(engine.gantry(&["diff", "none"]).ok(), "");
    let changes = engine.api("GET", "/containers/none/changes", None);
    assert_eq!(changes.expect(200).text(), "null\n");
    let script =
        "echo x >/etc/passwd; mkdir /new; echo y >/new/file; rm /etc/group; ln -s /x /new/link";
    engine
        .gantry(&["run", "--name", "some", "busybox", "sh", "-c", script])
        .ok();
    assert_eq!(
        engine.gantry(&["container", "diff", "some"]).ok(),
        "C /etc\nD /etc/group\nC /etc/passwd\nA /new\nA /new/file\nA /new/link"
    );
    let refused = engine.gantry(&["diff", "nobody"]).fails_with(1);
    assert_eq!(
        refused,
        "Error response from daemon: No such container: nobody"
    );
}

#[test]
fn rename_and_prune() {
    let engine = Engine::with_busybox();
    for name in ["a", "b"] {
        engine
            .gantry(&[
                "create",
                "--name",
                &format!("{name}{name}"),
                "-l",
                &format!("k={name}"),
                "busybox",
                "true",
            ])
            .ok();
    }
    engine.gantry(&["rename", "aa", "cc"]).ok();
    engine.gantry(&["container", "rename", "cc", " dd "]).ok();
    assert_eq!(
        engine
            .gantry(&["rename", "dd", "bb"])
            .fails_with(1)
            .lines()
            .last(),
        Some("Error: failed to rename container named dd")
    );
    assert_eq!(
        engine.gantry(&["rename", "dd", " "]).fails_with(1),
        "Error: Neither old nor new names may be empty"
    );
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N]";
    for no in [&b""[..], b"n\n", b"yes\n"] {
        let asked = engine.gantry_with(&["container", "prune"], no);
        assert_eq!(asked.ok(), question);
    }
    let id = |name: &str| engine.inspect(name)["Id"].as_str().unwrap().to_owned();
    let (b, d) = (id("bb"), id("dd"));
    let pruned = engine
        .gantry(&["container", "prune", "-f", "--filter", "label=k=b"])
        .ok();
    assert_eq!(
        pruned,
        format!("Deleted Containers:\n{b}\n\nTotal reclaimed space: 0B")
    );
    let pruned = engine.gantry_with(&["container", "prune"], b" Y\n").ok();
    assert_eq!(
        pruned,
        format!("{question} Deleted Containers:\n{d}\n\nTotal reclaimed space: 0B")
    );
    assert_eq!(
        engine.gantry(&["container", "prune", "--force"]).ok(),
        "Total reclaimed space: 0B"
    );
}
