//! `system df` and `system prune`: what they tell is what the disk has.

use gantry_testkit::{Engine, busybox_tar, debian_tar, ran};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Bytes of the data root by `du`, and those of the database in it.
fn du(engine: &Engine) -> (u64, u64) {
    let mut command = Command::new("sh");
    command.current_dir(engine.data_root()).args([
        "-c",
        "du -s --block-size=1 . | cut -f1; du -c --block-size=1 gantry.db* | tail -1 | cut -f1",
    ]);
    let said = ran(command, b"", Duration::from_secs(60)).ok();
    let mut sizes = said.lines().map(|line| line.parse().unwrap());
    (sizes.next().unwrap(), sizes.next().unwrap())
}

fn usage(engine: &Engine) -> Value {
    engine
        .api("GET", "/v1.51/system/df", None)
        .expect(200)
        .json()
}

/// What the answer comes to, all kinds together.
fn sum(usage: &Value) -> u64 {
    let each = |list: &str, size: &str| -> u64 {
        let list = usage[list].as_array().unwrap();
        list.iter()
            .map(|one| one.pointer(size).unwrap().as_u64().unwrap())
            .sum()
    };
    usage["LayersSize"].as_u64().unwrap()
        + each("Containers", "/SizeRw")
        + each("Volumes", "/UsageData/Size")
}

fn hold(what: &str, told: u64, true_size: u64) {
    assert!(
        told.abs_diff(true_size) <= true_size / 100,
        "{what}: {told} bytes are told, {true_size} are there"
    );
}

/// Bytes of a text like `12.5MB`.
fn bytes(text: &str) -> f64 {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let unit = ["B", "kB", "MB", "GB"]
        .iter()
        .position(|unit| *unit == &text[at..])
        .unwrap();
    text[..at].parse::<f64>().unwrap() * 1000_f64.powi(unit as i32)
}

#[test]
fn what_is_told_is_what_the_disk_has() {
    let engine = Engine::start();
    engine.import(&debian_tar(), "debian");
    engine.import(&busybox_tar(), "busybox");
    let make = "dd if=/dev/urandom of=/own bs=1M count=9 2>/dev/null; dd if=/dev/zero of=/d/v bs=1M count=7 2>/dev/null; \
                for n in $(seq 300); do echo $n > /d/$n; echo line $n; done";
    engine
        .gantry(&[
            "run", "--name", "one", "-v", "/d", "busybox", "sh", "-c", make,
        ])
        .ok();
    engine
        .gantry(&[
            "run", "-d", "--name", "two", "-v", "kept:/d", "debian", "sleep", "600",
        ])
        .ok();
    engine.gantry(&["commit", "one", "committed"]).ok();
    // Twice: the second time from what was noted.
    for _ in 0..2 {
        let (all, database) = du(&engine);
        hold("df", sum(&usage(&engine)), all - database);
        hold("df of the whole data root", sum(&usage(&engine)), all);
    }
    let images = usage(&engine);
    let only = engine
        .api("GET", "/v1.51/system/df?type=image", None)
        .expect(200)
        .json();
    assert_eq!(only["LayersSize"], images["LayersSize"]);
    assert_eq!(only["Containers"], Value::Null);
    let lines = engine
        .gantry(&[
            "system",
            "df",
            "--format",
            "{{.Type}} {{.TotalCount}} {{.Active}}",
        ])
        .ok();
    assert_eq!(
        lines,
        "Images 3 2\nContainers 2 1\nLocal Volumes 2 2\nBuild Cache 0 0"
    );

    // All that goes is told, and no more.
    let before = du(&engine).0;
    engine.gantry(&["tag", "busybox", "again:1"]).ok();
    let said = engine.gantry(&["system", "prune", "-af", "--volumes"]).ok();
    let freed = before - du(&engine).0;
    let told = bytes(
        said.lines()
            .last()
            .unwrap()
            .strip_prefix("Total reclaimed space: ")
            .unwrap(),
    );
    hold("prune", told as u64, freed);
    assert!(freed > 20 << 20, "{freed}");
    let titles: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("Deleted "))
        .collect();
    assert_eq!(
        titles,
        ["Deleted Containers:", "Deleted Volumes:", "Deleted Images:"]
    );
    assert_eq!(engine.gantry(&["volume", "ls", "-q"]).ok(), "kept");
    assert_eq!(
        engine
            .gantry(&["images", "--format", "{{.Repository}}"])
            .ok(),
        "debian"
    );
    let (all, database) = du(&engine);
    hold("df after the prune", sum(&usage(&engine)), all - database);
    engine.gantry(&["exec", "two", "apt-get", "--version"]).ok();
}

#[test]
fn pruning_asks_first_and_takes_filters() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "--name", "aa", "--label", "x=y", "busybox", "true"])
        .ok();
    engine
        .gantry(&["run", "--name", "bb", "busybox", "true"])
        .ok();
    let asked = engine.gantry_with(&["system", "prune"], b"n\n");
    assert!(
        asked
            .ok()
            .ends_with("Are you sure you want to continue? [y/N]")
    );
    let said = engine
        .gantry(&["system", "prune", "-f", "--filter", "label=x"])
        .ok();
    assert!(said.starts_with("Deleted Containers:\n"), "{said}");
    assert_eq!(
        engine.gantry(&["ps", "-a", "--format", "{{.Names}}"]).ok(),
        "bb"
    );
    let refused = engine.gantry(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"]);
    assert_eq!(
        refused.fails_with(1),
        "ERROR: The \"until\" filter is not supported with \"--volumes\""
    );
}

#[test]
fn a_download_that_broke_off_goes_when_everything_goes() {
    let engine = Engine::with_busybox();
    let part = engine.data_root().join("partial").join("0".repeat(64));
    std::fs::write(&part, vec![b'x'; 3 << 20]).unwrap();
    let (all, database) = du(&engine);
    hold("df", sum(&usage(&engine)), all - database);
    // What is asked for by a filter, and what is not everything, does not mean it.
    engine.gantry(&["image", "prune", "-f"]).ok();
    engine
        .gantry(&["image", "prune", "-af", "--filter", "until=1h"])
        .ok();
    assert!(part.exists());
    let before = du(&engine).0;
    let said = engine.gantry(&["image", "prune", "-af"]).ok();
    let told = bytes(
        said.lines()
            .last()
            .unwrap()
            .strip_prefix("Total reclaimed space: ")
            .unwrap(),
    );
    hold("prune", told as u64, before - du(&engine).0);
    assert!(!part.exists());
}
