//! Thousands of records: a daemon that starts knows them all. How long that takes is `cargo xtask bench --many`.

use gantry_testkit::{Engine, busybox_tar};
use serde_json::json;

const CONTAINERS: usize = 5000;
const IMAGES: usize = 500;

#[test]
fn thousands_of_containers_and_images_are_there_after_a_start() {
    let mut engine = Engine::start();
    engine.import(&busybox_tar(), "base");
    engine
        .gantry(&["create", "--name", "maker", "base", "true"])
        .ok();
    for number in 1..IMAGES {
        let path =
            format!("/commit?container=maker&repo=many&tag={number}&changes=LABEL%20n%3D{number}");
        engine.api("POST", &path, Some(&json!({}))).expect(201);
    }
    for number in 1..CONTAINERS {
        let image = format!("many:{}", 1 + number % (IMAGES - 1));
        let body = json!({"Image": image, "Cmd": ["true"], "Labels": {"n": number.to_string()}});
        let path = format!("/containers/create?name=many-{number}");
        engine.api("POST", &path, Some(&body)).expect(201);
    }
    engine.kill_daemon();
    engine.launch();
    let listed = |path: &str| {
        let answer = engine.api("GET", path, None).expect(200).json();
        answer.as_array().map_or(0, Vec::len)
    };
    assert_eq!(listed("/containers/json?all=1"), CONTAINERS);
    assert_eq!(listed("/images/json"), IMAGES);
    // Known by name, by ID and by label, and of use.
    let found = engine.gantry(&["ps", "-aq", "--filter", "label=n=4321"]);
    assert_eq!(found.ok().len(), 12);
    engine.gantry(&["start", "-a", "many-4999"]).ok();
    let prune = engine.gantry(&["container", "prune", "-f"]).ok();
    assert_eq!(prune.lines().filter(|line| line.len() == 64).count(), 5000);
}
