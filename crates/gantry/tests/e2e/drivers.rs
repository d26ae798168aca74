//! Storage drivers under a whole daemon: the life of a container on each.

use gantry_testkit::{Engine, Options, busybox_tar};
use std::path::Path;
use std::process::Command;

fn engine(flags: &[&str], data_root: Option<&Path>) -> Engine {
    let engine = Engine::with(Options {
        flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        data_root: data_root.map(Path::to_owned),
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    engine
}

fn life_of_a_container(engine: &mut Engine, driver: &str) {
    let info = engine.api("GET", "/info", None).expect(200).json();
    assert_eq!(info["Driver"], driver);
    let script = "echo new > /etc/new; rm /bin/wc; mkdir /made; mount | head -1; sleep 600";
    let words = ["run", "-d", "--name", "one", "busybox", "sh", "-c", script];
    engine.gantry(&words).ok();
    let made = "until [ -d /made ]; do sleep 0.05; done";
    engine.gantry(&["exec", "one", "sh", "-c", made]).ok();
    assert_eq!(engine.inspect("one")["Driver"], driver);
    let diff = engine.gantry(&["diff", "one"]).ok();
    assert_eq!(diff, "C /bin\nD /bin/wc\nC /etc\nA /etc/new\nA /made");
    engine.kill_daemon();
    engine.launch();
    engine.gantry(&["exec", "one", "cat", "/etc/new"]).ok();
    engine.gantry(&["commit", "one", "committed"]).ok();
    let look = "cat /etc/new; test -e /bin/wc || echo gone; ls -d /made";
    let words = ["run", "--rm", "committed", "sh", "-c", look];
    assert_eq!(engine.gantry(&words).ok(), "new\ngone\n/made");
    engine.gantry(&["restart", "-t", "0", "one"]).ok();
    engine.gantry(&["exec", "one", "cat", "/etc/new"]).ok();
    assert!(
        engine
            .gantry(&["ps", "-as", "--format", "{{.Size}}"])
            .ok()
            .starts_with("4B")
    );
    engine.gantry(&["rm", "-f", "one"]).ok();
    let left = std::fs::read_dir(engine.data_root().join("layers").join(driver).join("c"));
    assert_eq!(left.unwrap().count(), 0);
    engine.gantry(&["rmi", "committed", "busybox"]).ok();
    let left = std::fs::read_dir(engine.data_root().join("layers/l"));
    assert_eq!(left.unwrap().count(), 0);
}

#[test]
fn vfs() {
    let mut engine = engine(&["--storage-driver", "vfs"], None);
    life_of_a_container(&mut engine, "vfs");
}

/// A btrfs in a file, mounted for as long as this lives.
struct Btrfs(tempfile::TempDir);

impl Btrfs {
    fn make() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gantry-btrfs-")
            .tempdir()
            .unwrap();
        let image = dir.path().join("image");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(512 << 20)
            .unwrap();
        std::fs::create_dir(dir.path().join("mount")).unwrap();
        let made = Self(dir);
        for command in [
            Command::new("mkfs.btrfs").arg("-q").arg(&image),
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(made.place()),
        ] {
            let ran = command.output().expect("btrfs-progs are needed");
            assert!(ran.status.success(), "{ran:?}");
        }
        made
    }

    fn place(&self) -> std::path::PathBuf {
        self.0.path().join("mount")
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg(self.place()).status();
        assert!(std::thread::panicking() || gone.is_ok_and(|status| status.success()));
    }
}

#[test]
fn btrfs() {
    let disk = Btrfs::make();
    let mut engine = engine(&["-s", "btrfs"], Some(&disk.place().join("root")));
    life_of_a_container(&mut engine, "btrfs");
    engine.clean();
    drop(engine);
    drop(disk);
}
