//! `push` and back: what goes over the wire, and what does not.

use gantry_testkit::{Engine, Registry, Wire, ran};
use serde_json::{Value, json};
use std::time::Duration;

/// An engine with busybox, a registry, and the wire between them.
fn with_registry() -> (Engine, Registry, Wire) {
    let engine = Engine::with_busybox();
    let registry = Registry::start(&engine.folder().join("registry"));
    let wire = Wire::start(registry.address());
    (engine, registry, wire)
}

/// Pushes by the API; the lines of the answer.
fn push(engine: &Engine, repository: &str, tag: &str) -> Vec<Value> {
    let path = format!("/images/{repository}/push?tag={tag}");
    let answer = engine.api("POST", &path, None).expect(200);
    let text = answer.text();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn statuses(lines: &[Value]) -> Vec<String> {
    let text = |line: &Value| line["status"].as_str().map(str::to_owned);
    lines.iter().filter_map(text).collect()
}

/// Adds an image of one layer of bytes that do not compress.
pub(crate) fn import_noise(engine: &Engine, name: &str, megabytes: usize) {
    let folder = engine
        .folder()
        .join(format!("noise-{}", name.replace(['/', ':'], "-")));
    std::fs::create_dir_all(&folder).unwrap();
    let mut make = std::process::Command::new("sh");
    make.arg("-c").current_dir(&folder).arg(format!(
        "head -c {megabytes}M /dev/urandom > noise && tar -cf ../noise.tar noise"
    ));
    ran(make, b"", Duration::from_secs(60)).ok();
    engine.import(&engine.folder().join("noise.tar"), name);
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let (engine, _registry, wire) = with_registry();
    let name = format!("{}/team/box", wire.address());
    engine
        .api(
            "POST",
            &format!("/images/busybox/tag?repo={name}&tag=1"),
            None,
        )
        .expect(201);
    let lines = push(&engine, &name, "1");
    let said = statuses(&lines);
    assert_eq!(said[0], format!("The push refers to repository [{name}]"));
    assert_eq!(said[1], "Preparing");
    let pushed = lines
        .iter()
        .find(|line| line["status"] == "Pushed")
        .unwrap();
    let image: Value = engine
        .api("GET", "/images/busybox/json", None)
        .expect(200)
        .json();
    let layer = image["RootFS"]["Layers"][0].as_str().unwrap();
    assert_eq!(pushed["id"], layer[7..19]);
    let aux = &lines.last().unwrap()["aux"];
    assert_eq!(aux["Tag"], "1");
    let digest = aux["Digest"].as_str().unwrap();
    assert_eq!(
        said.last().unwrap(),
        &format!("1: digest: {digest} size: {}", aux["Size"])
    );
    let digests = engine.api("GET", "/images/busybox/json", None).json();
    let ours = format!("{name}@{digest}");
    assert!(
        digests["RepoDigests"]
            .as_array()
            .unwrap()
            .contains(&Value::from(ours))
    );

    // Another engine pulls it, pushes it back, and sends nothing but the manifest.
    let other = Engine::start();
    let tagged = format!("{name}:1");
    let pulled = other.gantry(&["pull", &tagged]).ok();
    assert!(pulled.contains(digest), "{pulled}");
    assert_eq!(
        other.gantry(&["run", "--rm", &tagged, "echo", "hi"]).ok(),
        "hi"
    );
    wire.forget();
    let lines = push(&other, &name, "1");
    assert_eq!(lines.last().unwrap()["aux"]["Digest"], digest, "{lines:?}");
    assert!(statuses(&lines).contains(&"Layer already exists".to_owned()));
    assert_eq!(
        (wire.count("POST"), wire.count("PATCH")),
        (0, 0),
        "{:?}",
        wire.requests()
    );
    assert_eq!(wire.count("PUT"), 1);
    assert!(wire.up() < 8_000, "{} bytes went up", wire.up());
}

#[test]
fn skopeo_s_images_keep_their_manifests() {
    let (engine, registry, wire) = with_registry();
    let archive = engine.folder().join("saved.tar");
    engine
        .gantry(&["save", "-o", &archive.to_string_lossy(), "busybox"])
        .ok();
    let from = format!("docker-archive:{}", archive.display());
    for (tag, more) in [
        ("v2s2", &["--format", "v2s2"][..]),
        ("oci", &["--format", "oci"]),
        (
            "zstd",
            &["--format", "oci", "--dest-compress-format", "zstd"],
        ),
    ] {
        registry.push(&from, &format!("box:{tag}"), more);
        let other = Engine::start();
        let name = format!("{}/box", wire.address());
        let pulled = other.gantry(&["pull", &format!("{name}:{tag}")]).ok();
        let digest = pulled
            .lines()
            .find_map(|line| line.strip_prefix("Digest: "));
        wire.forget();
        let lines = push(&other, &name, tag);
        assert_eq!(
            lines.last().unwrap()["aux"]["Digest"],
            digest.unwrap(),
            "{tag}"
        );
        assert_eq!((wire.count("POST"), wire.count("PATCH")), (0, 0), "{tag}");

        // Elsewhere in the same registry it is taken over, and stays what it is.
        let moved = format!("{}/moved/{tag}", wire.address());
        let to = format!("/images/{name}:{tag}/tag?repo={moved}&tag=x");
        other.api("POST", &to, None).expect(201);
        let lines = push(&other, &moved, "x");
        assert!(
            statuses(&lines).contains(&"Mounted from box".to_owned()),
            "{lines:?}"
        );
        assert_eq!(
            lines.last().unwrap()["aux"]["Digest"],
            digest.unwrap(),
            "{tag}"
        );
        assert_eq!(wire.count("PATCH"), 0, "{tag}");
    }
}

#[test]
fn a_broken_upload_goes_on() {
    let (engine, _registry, wire) = with_registry();
    import_noise(&engine, "noise", 8);
    let name = format!("{}/noise", wire.address());
    engine
        .api(
            "POST",
            &format!("/images/noise/tag?repo={name}&tag=1"),
            None,
        )
        .expect(201);
    wire.cut_up_after(3 << 20);
    let lines = push(&engine, &name, "1");
    assert!(
        lines.last().unwrap()["aux"]["Digest"].is_string(),
        "{lines:?}"
    );
    assert!(
        statuses(&lines)
            .iter()
            .any(|s| s.starts_with("Retrying in ")),
        "{lines:?}"
    );
    let other = Engine::start();
    other.gantry(&["pull", &format!("{name}:1")]).ok();
}

#[test]
fn all_tags_of_a_repository() {
    let (engine, _registry, wire) = with_registry();
    import_noise(&engine, "noise", 2);
    let name = format!("{}/many", wire.address());
    for (from, tag) in [("busybox", "b"), ("busybox", "a"), ("noise", "c")] {
        let path = format!("/images/{from}/tag?repo={name}&tag={tag}");
        engine.api("POST", &path, None).expect(201);
    }
    let lines = push(&engine, &name, "");
    let auxes = lines.iter().filter_map(|line| line["aux"]["Tag"].as_str());
    assert_eq!(auxes.collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(
        wire.count("PATCH"),
        2,
        "one for each layer: {:?}",
        wire.requests()
    );
}

#[test]
fn what_cannot_be_pushed() {
    let (engine, _registry, wire) = with_registry();
    let failure = |repository: &str, tag: &str| {
        let lines = push(&engine, repository, tag);
        lines.last().unwrap()["error"].as_str().unwrap().to_owned()
    };
    let name = format!("{}/x", wire.address());
    assert_eq!(
        failure(&name, "1"),
        format!("An image does not exist locally with the tag: {name}")
    );
    let to = format!("/images/busybox/tag?repo={name}&tag=1");
    engine.api("POST", &to, None).expect(201);
    assert_eq!(failure(&name, "2"), format!("tag does not exist: {name}:2"));
    let absent = "127.0.0.1:1/x";
    let to = format!("/images/busybox/tag?repo={absent}&tag=1");
    engine.api("POST", &to, None).expect(201);
    assert_eq!(
        failure(absent, "1"),
        "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    engine
        .api("POST", "/images/UPPER/push?tag=1", None)
        .expect(400);
}

#[test]
fn a_registry_that_asks_for_a_password() {
    let engine = Engine::with_busybox();
    let registry = Registry::start_private(&engine.folder().join("registry"));
    let name = format!("{}/private/box", registry.address());
    let to = format!("/images/busybox/tag?repo={name}&tag=1");
    engine.api("POST", &to, None).expect(201);
    let lines = push(&engine, &name, "1");
    assert_eq!(lines.last().unwrap()["error"], "no basic auth credentials");

    let shown = |password: &str| {
        let credentials = json!({"username": "me", "password": password});
        let path = format!("/images/{name}/push?tag=1");
        engine.api_as("POST", &path, &credentials).text()
    };
    let wrong = shown("wrong");
    assert!(
        wrong.contains("unauthorized: authentication required"),
        "{wrong}"
    );
    let right = shown("secret");
    assert!(right.contains("\"Tag\":\"1\""), "{right}");
}
