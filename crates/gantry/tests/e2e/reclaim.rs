//! The disk comes back: a daemon killed hundreds of times while images come and go leaves nothing that nobody knows; a
//! full disk ends a pull, a load, a commit, and nothing of them stays.

use gantry_testkit::{Dice, Engine, Options, Registry, busybox_tar, ran};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const KILLS: u64 = 500;
const IMAGES: u64 = 5;

/// Images of busybox and some noise each, in a registry and as archives; none of them in the engine any more.
fn material(engine: &Engine, megabytes: u64) -> (Registry, Vec<PathBuf>) {
    let registry = Registry::start(&engine.folder().join("registry"));
    let mut archives = Vec::new();
    for n in 0..IMAGES {
        let make = format!(
            "mkdir /d; for f in $(seq 20); do echo $f > /d/$f; done; dd if=/dev/urandom of=/noise{n} bs=1M count={megabytes} 2>/dev/null"
        );
        engine
            .gantry(&["run", "--name", "maker", "busybox", "sh", "-c", &make])
            .ok();
        let name = format!("{}/image{n}:1", registry.address());
        engine.gantry(&["commit", "maker", &name]).ok();
        engine.gantry(&["rm", "maker"]).ok();
        let path = format!("/images/{}/push?tag=1", name.trim_end_matches(":1"));
        let pushed = engine.api("POST", &path, None);
        assert!(pushed.text().contains("\"aux\""), "{}", pushed.text());
        let archive = engine.folder().join(format!("image{n}.tar"));
        engine
            .gantry(&["save", "-o", archive.to_str().unwrap(), &name])
            .ok();
        engine.gantry(&["rmi", &name]).ok();
        archives.push(archive);
    }
    (registry, archives)
}

/// Something that a client asks for.
fn anything(engine: &Engine, dice: &mut Dice, registry: &Registry, archives: &[PathBuf]) -> Child {
    let n = dice.below(IMAGES);
    let name = format!("{}/image{n}:1", registry.address());
    let archive = archives[n as usize].to_str().unwrap();
    let container = format!("container{}", dice.below(4));
    let words: Vec<&str> = match dice.below(10) {
        0..3 => vec!["pull", "-q", &name],
        3..5 => vec!["load", "-q", "-i", archive],
        5 => vec!["rmi", "-f", &name],
        6 => vec!["create", "--name", &container, &name, "true"],
        7 => vec!["rm", "-f", &container],
        8 => vec!["commit", &container, "made"],
        _ => vec!["image", "prune", "-af"],
    };
    let mut command = engine.command(&words);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn du(engine: &Engine, parts: &str) -> u64 {
    let mut command = Command::new("sh");
    let script = format!("du -sc --block-size=1 {parts} | tail -1 | cut -f1");
    command
        .current_dir(engine.data_root())
        .args(["-c", &script]);
    ran(command, b"", Duration::from_secs(60))
        .ok()
        .trim()
        .parse()
        .unwrap()
}

fn told(engine: &Engine) -> u64 {
    let usage = engine.api("GET", "/system/df", None).expect(200).json();
    let containers = usage["Containers"].as_array().unwrap();
    let rw = |container: &Value| container["SizeRw"].as_u64().unwrap_or(0);
    usage["LayersSize"].as_u64().unwrap() + containers.iter().map(rw).sum::<u64>()
}

/// What images and containers stand on, as hex.
fn layers_in_use(engine: &Engine) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for image in engine
        .api("GET", "/images/json?all=1", None)
        .expect(200)
        .json()
        .as_array()
        .unwrap()
    {
        let path = format!("/images/{}/json", image["Id"].as_str().unwrap());
        let image = engine.api("GET", &path, None).expect(200).json();
        let layers = image["RootFS"]["Layers"].as_array().unwrap().clone();
        used.extend(
            layers
                .iter()
                .map(|l| l.as_str().unwrap().trim_start_matches("sha256:").to_owned()),
        );
    }
    for container in engine
        .api("GET", "/containers/json?all=1", None)
        .expect(200)
        .json()
        .as_array()
        .unwrap()
    {
        let inspected = engine.inspect(container["Id"].as_str().unwrap());
        let lower = inspected["GraphDriver"]["Data"]["LowerDir"]
            .as_str()
            .unwrap()
            .to_owned();
        let names = lower
            .split(':')
            .filter_map(|dir| Path::new(dir).file_name()?.to_str());
        used.extend(names.filter(|name| *name != "init").map(str::to_owned));
    }
    used
}

#[test]
fn a_daemon_killed_hundreds_of_times_gives_all_of_the_disk_back() {
    let mut engine = Engine::with_busybox();
    let (registry, archives) = material(&engine, 4);
    let mut dice = Dice(0x5eed_0fd1_5c5c);
    for _ in 0..KILLS {
        let clients = [(); 2].map(|()| anything(&engine, &mut dice, &registry, &archives));
        std::thread::sleep(Duration::from_millis(3 + dice.below(60)));
        engine.kill_daemon();
        for mut client in clients {
            let _ = client.wait();
        }
        engine.launch();
    }
    let root = engine.data_root();
    let used = layers_in_use(&engine);
    assert_eq!(names(&root.join("layers/l")), used);
    assert_eq!(names(&root.join("layers/r")), used);
    assert_eq!(names(&root.join("tmp")), BTreeSet::new());
    let containers = engine.gantry(&["ps", "-aq", "--no-trunc"]).ok();
    let containers: BTreeSet<String> = containers.lines().map(str::to_owned).collect();
    assert_eq!(names(&root.join("layers/overlay2/c")), containers);
    assert_eq!(names(&root.join("containers")), containers);
    // Enough of it that a block here and there is no percent.
    for archive in &archives {
        engine
            .gantry(&["load", "-q", "-i", archive.to_str().unwrap()])
            .ok();
    }
    let (told, there) = (
        told(&engine),
        du(&engine, "image layers partial containers volumes"),
    );
    assert!(
        told.abs_diff(there) <= there / 100,
        "{told} bytes are told, {there} are there"
    );
    assert!(du(&engine, "gantry.db*") < 8 << 20);
    // And what is taken away gives all back.
    engine.gantry(&["system", "prune", "-af"]).ok();
    for place in [
        "layers/l",
        "layers/r",
        "layers/overlay2/c",
        "image/blobs/sha256",
        "partial",
        "tmp",
    ] {
        assert_eq!(names(&root.join(place)), BTreeSet::new(), "{place}");
    }
}

/// A tmpfs as data root, gone with its mount.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let path = std::env::temp_dir().join(format!("gantry-full-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        let size = format!("size={megabytes}m");
        mount
            .args(["-t", "tmpfs", "-o", &size, "gantry-test"])
            .arg(&path);
        ran(mount, b"", Duration::from_secs(10)).ok();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_full_disk_ends_a_pull_a_load_and_a_commit() {
    let maker = Engine::with_busybox();
    let (registry, archives) = material(&maker, 12);
    let disk = SmallDisk::new(34);
    let mut engine = Engine::with(Options {
        data_root: Some(disk.0.join("d")),
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    let before = du(&engine, "image layers partial tmp");
    let name = format!("{}/image0:1", registry.address());
    let fill = "dd if=/dev/urandom of=/fill bs=1M count=18 2>/dev/null; dd if=/dev/urandom of=/mine bs=1M count=6 2>/dev/null; true";
    engine
        .gantry(&["run", "--name", "filler", "busybox", "sh", "-c", fill])
        .ok();
    let archive = archives[1].to_str().unwrap();
    for words in [
        &["pull", "-q", &name][..],
        &["load", "-q", "-i", archive],
        &["commit", "filler", "made"],
    ] {
        let failed = engine.gantry(words);
        assert_ne!(failed.code, 0, "{words:?}");
        assert!(
            failed
                .stderr
                .to_lowercase()
                .contains("no space left on device"),
            "{words:?}: {}",
            failed.stderr
        );
        assert_eq!(names(&disk.0.join("d/tmp")), BTreeSet::new(), "{words:?}");
        assert_eq!(
            names(&disk.0.join("d/partial")),
            BTreeSet::new(),
            "{words:?}"
        );
        assert_eq!(names(&disk.0.join("d/layers/l")).len(), 1, "{words:?}");
        engine.serves();
    }
    // The next daemon opens on the full disk, and there is room again once the container is gone.
    engine.kill_daemon();
    engine.launch();
    assert_eq!(engine.gantry(&["images", "-q"]).ok().lines().count(), 1);
    engine.gantry(&["rm", "filler"]).ok();
    engine.gantry(&["pull", "-q", &name]).ok();
    engine.gantry(&["rmi", &name]).ok();
    let after = du(&engine, "image layers partial tmp");
    assert!(
        after.abs_diff(before) < 64 << 10,
        "{before} before, {after} after"
    );
}
