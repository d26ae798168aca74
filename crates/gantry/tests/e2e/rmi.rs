//! `rmi` and `image prune`: the order of what goes, what is in the way, and what the disk has back.

use gantry_testkit::{Engine, busybox_tar};
use std::io::Write;

/// Lines of `rmi`, with names for the digests.
fn steps(text: &str, names: &[(&str, &str)]) -> Vec<String> {
    let named = |line: &str| {
        let known = names.iter().find(|(digest, _)| line.ends_with(digest));
        known.map_or_else(
            || line.to_owned(),
            |(digest, name)| line.replace(digest, name),
        )
    };
    text.lines().map(named).collect()
}

fn id(engine: &Engine, name: &str) -> String {
    engine
        .gantry(&["image", "inspect", "-f", "{{.Id}}", name])
        .ok()
}

/// The chain IDs of an image's layers, lowest first, reckoned by the shell's tools.
fn chain(engine: &Engine, name: &str) -> Vec<String> {
    let layers = engine
        .gantry(&[
            "image",
            "inspect",
            "-f",
            "{{join .RootFS.Layers \" \"}}",
            name,
        ])
        .ok();
    let mut chain: Vec<String> = Vec::new();
    for layer in layers.split(' ') {
        let next = match chain.last() {
            None => layer.to_owned(),
            Some(below) => {
                let mut sum = std::process::Command::new("sha256sum");
                let said = gantry_testkit::ran(
                    {
                        sum.arg("-");
                        sum
                    },
                    format!("{below} {layer}").as_bytes(),
                    std::time::Duration::from_secs(10),
                );
                format!("sha256:{}", said.ok().split(' ').next().unwrap())
            }
        };
        chain.push(next);
    }
    chain
}

/// A container that has written a file, committed.
fn committed(engine: &Engine, from: &str, file: &str, name: &[&str]) -> String {
    engine
        .gantry(&["run", "--name", "maker", from, "touch", file])
        .ok();
    let id = engine.gantry(&[&["commit", "maker"], name].concat()).ok();
    engine.gantry(&["rm", "maker"]).ok();
    id
}

#[test]
fn layers_and_parents_go_with_an_image_in_dockers_order() {
    let engine = Engine::with_busybox();
    let base = id(&engine, "busybox");
    let nameless = committed(&engine, "busybox", "/one", &[]);
    let top = committed(&engine, &nameless, "/two", &["top:1"]);
    let layers = chain(&engine, "top:1");
    let names = [
        (top.as_str(), "TOP"),
        (&nameless, "MIDDLE"),
        (&base, "BASE"),
        (&layers[0], "chain0"),
        (&layers[1], "chain1"),
        (&layers[2], "chain2"),
    ];
    // The one in the middle has no name and is listed only with -a.
    assert_eq!(engine.gantry(&["images", "-q"]).ok().lines().count(), 2);
    assert_eq!(engine.gantry(&["images", "-qa"]).ok().lines().count(), 3);
    assert_eq!(
        engine.gantry(&["images", "-q", "-f", "dangling=true"]).ok(),
        ""
    );
    let refused = engine.gantry(&["rmi", "-f", &nameless]).fails_with(1);
    assert!(
        refused.contains("(cannot be forced) - image has dependent child images"),
        "{refused}"
    );
    let said = engine.gantry(&["rmi", "--no-prune", "top:1"]).ok();
    assert_eq!(
        steps(&said, &names),
        ["Untagged: top:1", "Deleted: TOP", "Deleted: chain2"]
    );
    // It is the last of its line now.
    assert_eq!(
        engine
            .gantry(&["images", "-q", "--no-trunc", "-f", "dangling=true"])
            .ok(),
        nameless
    );
    let again = committed(&engine, &nameless, "/three", &["top:2"]);
    let highest = chain(&engine, "top:2").pop().unwrap();
    let said = engine.gantry(&["rmi", "top:2"]).ok();
    let names = [&names[1..], &[(&again, "AGAIN"), (&highest, "highest")]].concat();
    assert_eq!(
        steps(&said, &names),
        [
            "Untagged: top:2",
            "Deleted: AGAIN",
            "Deleted: highest",
            "Deleted: MIDDLE",
            "Deleted: chain1"
        ]
    );
    let said = engine.gantry(&["rmi", &base]).ok();
    assert_eq!(
        steps(&said, &names),
        [
            "Untagged: busybox:latest",
            "Deleted: BASE",
            "Deleted: chain0"
        ]
    );
    assert_eq!(engine.gantry(&["images", "-qa"]).ok(), "");
}

#[test]
fn an_image_with_several_names_or_users_is_kept() {
    let engine = Engine::with_busybox();
    let id = id(&engine, "busybox");
    engine.gantry(&["tag", "busybox", "other:1"]).ok();
    let refused = engine.gantry(&["rmi", &id[..19]]).fails_with(1);
    assert!(
        refused.contains("(must be forced) - image is referenced in multiple repositories"),
        "{refused}"
    );
    engine
        .gantry(&["run", "-d", "--name", "running", "busybox", "sleep", "600"])
        .ok();
    // One name of two goes although a container runs.
    assert_eq!(engine.gantry(&["rmi", "other:1"]).ok(), "Untagged: other:1");
    let refused = engine.gantry(&["rmi", "busybox"]).fails_with(1);
    assert!(
        refused.contains(
            "unable to remove repository reference \"busybox\" (must force) - container "
        ),
        "{refused}"
    );
    let refused = engine.gantry(&["rmi", "-f", &id]).fails_with(1);
    assert!(
        refused.contains("(cannot be forced) - image is being used by running container "),
        "{refused}"
    );
    assert_eq!(
        engine.gantry(&["image", "prune", "-af"]).ok(),
        "Total reclaimed space: 0B"
    );
    engine.gantry(&["kill", "running"]).ok();
    let refused = engine.gantry(&["rmi", &id]).fails_with(1);
    assert!(
        refused.contains("(must be forced) - image is being used by stopped container "),
        "{refused}"
    );
    // The container's layers stay: no chain is deleted.
    assert_eq!(
        engine.gantry(&["rmi", "-f", &id]).ok(),
        format!("Untagged: busybox:latest\nDeleted: {id}")
    );
    engine.gantry(&["start", "running"]).ok();
    assert_eq!(
        engine.gantry(&["exec", "running", "echo", "lives"]).ok(),
        "lives"
    );
    assert_eq!(
        engine.gantry(&["ps", "--format", "{{.Image}}"]).ok(),
        id["sha256:".len()..][..12]
    );
}

#[test]
fn a_name_with_tag_and_digest_is_the_digest() {
    let engine = Engine::with_busybox();
    let registry = gantry_testkit::Registry::start(&engine.folder().join("registry"));
    let archive = engine.folder().join("saved.tar");
    engine
        .gantry(&["save", "-o", &archive.to_string_lossy(), "busybox"])
        .ok();
    registry.push(
        &format!("docker-archive:{}", archive.display()),
        "box:1",
        &[],
    );
    let name = format!("{}/box:1", registry.address());
    let pulled = engine.gantry(&["pull", &name]).ok();
    let digest = pulled
        .lines()
        .find_map(|l| l.strip_prefix("Digest: "))
        .unwrap();
    engine.gantry(&["rmi", "busybox"]).ok();
    let both = format!("{name}@{digest}");
    assert_eq!(id(&engine, &both), id(&engine, &name));
    assert_eq!(
        engine.gantry(&["rmi", &both]).ok(),
        format!("Untagged: {both}")
    );
    engine.gantry(&["pull", &name]).ok();
    let (image, layers) = (id(&engine, &name), chain(&engine, &name));
    let said = engine.gantry(&["rmi", &name]).ok();
    let repository = name.strip_suffix(":1").unwrap();
    assert_eq!(
        said,
        format!(
            "Untagged: {name}\nUntagged: {repository}@{digest}\nDeleted: {image}\nDeleted: {}",
            layers[0]
        )
    );
}

fn du(engine: &Engine) -> u64 {
    let mut command = std::process::Command::new("du");
    command
        .args(["-s", "--block-size=1", "layers", "image"])
        .current_dir(engine.data_root());
    let said = gantry_testkit::ran(command, b"", std::time::Duration::from_secs(60)).ok();
    let sizes = said
        .lines()
        .map(|line| line.split_whitespace().next().unwrap());
    sizes.map(|size| size.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_prune_tells_what_the_disk_has_back() {
    let engine = Engine::with_busybox();
    // Large and small files, so that lengths and blocks differ.
    let folder = engine.folder().join("more");
    std::fs::create_dir_all(&folder).unwrap();
    for n in 0..500 {
        let mut file = std::fs::File::create(folder.join(n.to_string())).unwrap();
        file.write_all(&vec![b'x'; n * 7]).unwrap();
    }
    let host = folder.to_string_lossy().into_owned();
    engine
        .gantry(&[
            "run",
            "--name",
            "maker",
            "-v",
            &format!("{host}:/from"),
            "busybox",
            "cp",
            "-r",
            "/from",
            "/to",
        ])
        .ok();
    engine.gantry(&["commit", "-c", "LABEL a=b", "maker"]).ok();
    engine.gantry(&["rm", "maker"]).ok();
    let prune = |filters: &str| {
        let path = format!("/v1.51/images/prune?filters={filters}");
        engine.api("POST", &path, None).expect(200).json()
    };
    let before = du(&engine);
    for nothing in [
        r#"{"label":["a=c"]}"#,
        r#"{"label!":["a"]}"#,
        r#"{"until":["1h"]}"#,
    ] {
        let pruned = prune(&nothing.replace('"', "%22").replace(' ', ""));
        assert_eq!(
            pruned["ImagesDeleted"],
            serde_json::Value::Null,
            "{nothing}"
        );
        assert_eq!(pruned["SpaceReclaimed"], 0, "{nothing}");
    }
    let pruned = prune(&r#"{"label":["a=b"]}"#.replace('"', "%22"));
    assert_eq!(
        pruned["ImagesDeleted"].as_array().unwrap().len(),
        2,
        "{pruned}"
    );
    let freed = before - du(&engine);
    let told = pruned["SpaceReclaimed"].as_u64().unwrap();
    assert!(
        told.abs_diff(freed) <= freed / 100,
        "{told} are told, {freed} are freed"
    );
    assert!(freed > 1_000_000, "{freed}");
    // With -a, all that no container uses.
    engine.import(&busybox_tar(), "twin:1");
    let pruned = prune(&r#"{"dangling":["false"]}"#.replace('"', "%22"));
    assert!(
        pruned["SpaceReclaimed"].as_u64().unwrap() > 500_000,
        "{pruned}"
    );
    assert_eq!(engine.gantry(&["images", "-qa"]).ok(), "");
}
