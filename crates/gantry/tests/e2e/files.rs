//! A container's files: diff, cp, export, commit; and the small commands of its life beside them.

use gantry_testkit::Engine;

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
