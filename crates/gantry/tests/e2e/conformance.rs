//! What Docker Engine 28.5.2 answered to a fixed script of requests, held against this engine's answers.

use gantry_testkit::{Engine, Machine, Options, busybox_tar, ran};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Steps that are as Docker's, for each part of the script. These numbers only rise.
const FLOORS: &[(&str, usize)] = &[
    ("system", 18),
    ("images", 31),
    ("create", 91),
    ("lifecycle", 77),
    ("streams", 92),
    ("volumes", 31),
];
/// The part about networks: on a machine where docker0 is free.
const NETWORKS: &[(&str, usize)] = &[("networks", 37)];

/// The folder of the recorded answers and of the player.
fn recorded() -> PathBuf {
    let folder = std::env::var_os("GANTRY_CONFORMANCE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance"),
        PathBuf::from,
    );
    assert!(
        folder.join("transcript.py").is_file(),
        "{} has no transcript.py: set $GANTRY_CONFORMANCE to the folder of the recorded answers",
        folder.display()
    );
    folder.canonicalize().unwrap()
}

#[test]
fn the_script_is_answered_as_docker_does() {
    play(&Engine::start(), FLOORS);
}

#[test]
fn networks_are_answered_as_docker_does() {
    let engine = Engine::with(Options {
        machine: Some(Arc::new(Machine::new())),
        bridge: Some("docker0".to_owned()),
        ..Options::default()
    });
    play(&engine, NETWORKS);
}

/// Plays parts of the script, and judges the answers.
fn play(engine: &Engine, floors: &[(&str, usize)]) {
    let folder = recorded();
    let answers = engine.folder().join("answers.json");
    let parts: Vec<&str> = floors.iter().map(|(part, _)| *part).collect();
    let mut player = Command::new("python3");
    player
        .arg(folder.join("transcript.py"))
        .arg("--socket")
        .arg(engine.socket())
        .arg("--rootfs")
        .arg(busybox_tar())
        .arg("--out")
        .arg(&answers)
        .args(["--only", &parts.join(",")]);
    ran(player, b"", Duration::from_secs(400)).ok();
    let mut judge = Command::new("python3");
    judge
        .arg(folder.join("compare.py"))
        .arg(folder.join("golden-docker-28.5.2.json"))
        .arg(&answers);
    let judged = ran(judge, b"", Duration::from_secs(60));
    let mut low = Vec::new();
    for (part, floor) in floors {
        let line = judged
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("{part}: ")) && line.contains(" as expected"));
        let line = line.unwrap_or_else(|| panic!("no score of {part}: {judged}"));
        println!("{line}");
        let held: usize = line
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap();
        if held < *floor {
            low.push(format!("{part}: {held} of at least {floor}"));
        } else if held > *floor {
            println!("{part}: {held}: the floor of {floor} can rise");
        }
    }
    let misses: Vec<&str> = judged
        .stdout
        .lines()
        .filter(|line| !line.contains("not answered"))
        .collect();
    assert!(low.is_empty(), "{low:?}\n{}", misses.join("\n"));
}
