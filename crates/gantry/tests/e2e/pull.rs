//! Pulls that are interrupted, of many tags, and the settings that they follow.

use crate::push::import_noise;
use gantry_testkit::{Engine, Options, Registry, Wire, until};
use serde_json::{Value, json};
use std::time::Duration;

/// A registry with `noise:1` of so many megabytes, and the wire to it.
fn with_noise(maker: &Engine, megabytes: usize) -> (Registry, Wire) {
    let registry = Registry::start(&maker.folder().join("registry"));
    let wire = Wire::start(registry.address());
    import_noise(maker, "noise", megabytes);
    let name = format!("{}/noise", wire.address());
    let tag = format!("/images/noise/tag?repo={name}&tag=1");
    maker.api("POST", &tag, None).expect(201);
    let pushed = maker.api("POST", &format!("/images/{name}/push?tag=1"), None);
    assert!(pushed.text().contains("\"aux\""), "{}", pushed.text());
    (registry, wire)
}

#[test]
fn a_killed_pull_fetches_only_what_is_missing() {
    const SIZE: u64 = 64 << 20;
    let mut engine = Engine::start();
    let (_registry, wire) = with_noise(&engine, 64);
    let name = format!("{}/noise:1", wire.address());
    engine.gantry(&["rmi", &name, "noise"]).ok();
    wire.forget();
    wire.stop_down_after(SIZE * 95 / 100);
    let mut pull = engine.command(&["pull", "-q", &name]).spawn().unwrap();
    until("95% have come", Duration::from_secs(60), || {
        wire.down() >= SIZE * 95 / 100
    });
    // What has come is on its way to the disk.
    let partial = engine.data_root().join("partial");
    let bytes = || -> u64 {
        let files = std::fs::read_dir(&partial).into_iter().flatten().flatten();
        files
            .map(|file| file.metadata().map_or(0, |meta| meta.len()))
            .sum()
    };
    until("94% are kept", Duration::from_secs(30), || {
        bytes() >= SIZE * 94 / 100
    });
    engine.kill_daemon();
    let _ = pull.wait();
    wire.let_go();
    wire.forget();
    engine.launch();
    engine.gantry(&["pull", &name]).ok();
    assert!(
        wire.down() < SIZE * 7 / 100,
        "{} bytes came again",
        wire.down()
    );
    let image: Value = engine
        .api("GET", &format!("/images/{name}/json"), None)
        .json();
    assert!(image["Size"].as_u64().unwrap() >= SIZE);
    assert_eq!(bytes(), 0, "nothing of the blob is left");
}

#[test]
fn all_tags_come_at_once() {
    let engine = Engine::with_busybox();
    let registry = Registry::start(&engine.folder().join("registry"));
    let name = format!("{}/many", registry.address());
    // More than a page of the registry's.
    let tags: Vec<String> = (0..120).map(|n| format!("t{n:03}")).collect();
    for tag in &tags {
        let path = format!("/images/busybox/tag?repo={name}&tag={tag}");
        engine.api("POST", &path, None).expect(201);
    }
    let pushed = engine
        .api("POST", &format!("/images/{name}/push"), None)
        .text();
    assert_eq!(pushed.matches("\"aux\"").count(), tags.len());
    let other = Engine::start();
    let all = || {
        let path = format!("/images/create?fromImage={name}");
        other.api("POST", &path, None).expect(200).text()
    };
    let pulled = all();
    assert!(
        pulled.contains(&format!("Status: Downloaded newer image for {name}\"")),
        "{pulled}"
    );
    assert_eq!(pulled.matches("Digest: sha256:").count(), tags.len());
    let image: Value = other
        .api("GET", &format!("/images/{name}:t119/json"), None)
        .json();
    assert_eq!(image["RepoTags"].as_array().unwrap().len(), tags.len());
    assert!(all().contains("Status: Image is up to date"));
}

#[test]
fn what_is_here_is_not_fetched_again() {
    let engine = Engine::start();
    let (_registry, wire) = with_noise(&engine, 1);
    let name = format!("{}/noise", wire.address());
    let other = Engine::start();
    let pulled = other.gantry(&["pull", &format!("{name}:1")]).ok();
    let digest = pulled
        .lines()
        .find_map(|line| line.strip_prefix("Digest: "));
    let digest = digest.unwrap().to_owned();
    wire.forget();
    let again = other.gantry(&["pull", &format!("{name}:1")]).ok();
    let told = format!("Digest: {digest}\nStatus: Image is up to date for {name}:1");
    assert!(again.contains(&told), "{again}");
    assert!(!again.contains("Already exists"), "{again}");
    // A question that counts for no limit.
    let asked = wire.requests();
    assert!(
        asked.iter().all(|a| !a.starts_with("GET /v2/noise")),
        "{asked:?}"
    );
    wire.forget();
    let by_digest = other.gantry(&["pull", &format!("{name}@{digest}")]).ok();
    assert!(by_digest.contains("Image is up to date"), "{by_digest}");
    assert!(wire.requests().is_empty());

    // Moved, it is fetched.
    engine.import(&gantry_testkit::busybox_tar(), "busybox");
    let tag = format!("/images/busybox/tag?repo={name}&tag=1");
    engine.api("POST", &tag, None).expect(201);
    engine
        .api("POST", &format!("/images/{name}/push?tag=1"), None)
        .expect(200);
    let moved = other.gantry(&["pull", &format!("{name}:1")]).ok();
    assert!(moved.contains("Downloaded newer image"), "{moved}");
    assert_eq!(
        other
            .gantry(&["run", "--rm", &format!("{name}:1"), "echo", "new"])
            .ok(),
        "new"
    );
}

#[test]
fn names_that_are_no_image_s() {
    let engine = Engine::start();
    let path = "/images/create?fromImage=scratch&tag=latest";
    let answer = engine.api("POST", path, None).expect(403);
    assert_eq!(answer.json()["message"], "'scratch' is a reserved name");
}

#[test]
fn settings_of_registries_are_told_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("daemon.json");
    let write = |settings: Value| std::fs::write(&file, settings.to_string()).unwrap();
    write(json!({
        "registry-mirrors": ["https://mirror.invalid"],
        "insecure-registries": ["10.0.0.0/8", "registry.invalid:5000"],
        "proxies": {"https-proxy": "http://me:secret@proxy.invalid:3128", "no-proxy": "a.b"},
        "max-concurrent-downloads": 1,
        "max-download-attempts": 2,
    }));
    let engine = Engine::with(Options {
        flags: vec!["--config-file".into(), file.display().to_string()],
        ..Options::default()
    });
    let info = || -> Value { engine.api("GET", "/info", None).expect(200).json() };
    let told = info();
    let config = &told["RegistryConfig"];
    assert_eq!(config["Mirrors"], json!(["https://mirror.invalid/"]));
    assert_eq!(
        config["InsecureRegistryCIDRs"],
        json!(["10.0.0.0/8", "::1/128", "127.0.0.0/8"])
    );
    let indexes = &config["IndexConfigs"];
    assert_eq!(indexes["registry.invalid:5000"]["Secure"], false);
    assert_eq!(
        indexes["docker.io"]["Mirrors"],
        json!(["https://mirror.invalid/"])
    );
    assert_eq!(told["HttpsProxy"], "http://xxxxx:xxxxx@proxy.invalid:3128/");
    assert_eq!(told["NoProxy"], "a.b");

    write(json!({"registry-mirrors": ["https://other.invalid"]}));
    let pid = rustix::process::Pid::from_raw(engine.daemon_pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until(
        "the settings are read again",
        Duration::from_secs(10),
        || info()["RegistryConfig"]["Mirrors"] == json!(["https://other.invalid/"]),
    );
    // What cannot be read changes nothing.
    write(json!({"registry-mirrors": ["nonsense"]}));
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until("the mistake is told", Duration::from_secs(10), || {
        engine.log().contains("invalid mirror: no scheme specified")
    });
    assert_eq!(
        info()["RegistryConfig"]["Mirrors"],
        json!(["https://other.invalid/"])
    );
}
