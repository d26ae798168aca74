//! With `--keep-blobs` the store's folder `image` is an OCI layout that other programs read as it is.

use gantry_testkit::{Engine, Options, busybox_tar, ran};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn skopeo(words: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(words);
    ran(command, b"", Duration::from_secs(60)).ok()
}

fn blobs(layout: &Path) -> usize {
    std::fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .count()
}

#[test]
fn skopeo_reads_the_stores_own_folder() {
    let mut engine = Engine::with(Options {
        flags: vec!["--keep-blobs".to_owned()],
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    engine
        .gantry(&["run", "--name", "one", "busybox", "touch", "/made"])
        .ok();
    engine.gantry(&["commit", "one", "team/made:2"]).ok();
    engine.gantry(&["rm", "one"]).ok();
    let layout = engine.data_root().join("image");
    let out = engine.folder().join("out.tar");
    for name in ["busybox:latest", "team/made:2"] {
        let from = format!("oci:{}:{name}", layout.display());
        let inspected: serde_json::Value =
            serde_json::from_str(&skopeo(&["inspect", "--config", "--raw", &from])).unwrap();
        let image = engine.api("GET", &format!("/images/{name}/json"), None);
        let ours = image.expect(200).json();
        assert_eq!(inspected["rootfs"]["diff_ids"], ours["RootFS"]["Layers"]);
        let to = format!(
            "docker-archive:{}:copy:{}",
            out.display(),
            name.replace([':', '/'], "-")
        );
        skopeo(&["copy", &from, &to]);
        let loaded = engine.gantry(&["load", "-i", out.to_str().unwrap()]).ok();
        assert!(loaded.contains("Loaded image: copy:"), "{loaded}");
        let copy = format!("copy:{}", name.replace([':', '/'], "-"));
        assert_eq!(
            engine.gantry(&["run", "--rm", &copy, "echo", "runs"]).ok(),
            "runs"
        );
        engine.gantry(&["rmi", &copy]).ok();
        std::fs::remove_file(&out).unwrap();
    }
    // Two configurations, two layers, two manifests.
    assert_eq!(blobs(&layout), 6);
    engine.gantry(&["rmi", "team/made:2"]).ok();
    assert_eq!(blobs(&layout), 3);
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    assert!(
        index.contains("busybox:latest") && !index.contains("made"),
        "{index}"
    );
    // Whatever the daemon ends of, what is named is there.
    engine.kill_daemon();
    engine.launch();
    let from = format!("oci:{}:busybox:latest", layout.display());
    skopeo(&["inspect", "--raw", &from]);
    engine.gantry(&["rmi", "busybox"]).ok();
    assert_eq!(blobs(&layout), 0);
}
