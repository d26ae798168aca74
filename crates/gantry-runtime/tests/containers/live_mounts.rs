//! Mounts that come and go while a container runs.

use crate::kit::Place;
use gantry_runtime::live_mounts::{ChangeError, Removal, change};
use gantry_runtime::shim_client::Watch;
use gantry_runtime::spawn::Started;
use libtest_mimic::Trial;
use oci_spec::runtime::{Mount, MountBuilder};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub(crate) fn all() -> Vec<Trial> {
    vec![
        Trial::test("live_mounts_come_and_go", come_and_go),
        Trial::test("live_mounts_all_or_nothing", all_or_nothing),
        Trial::test("live_mounts_never_outside", never_outside),
        Trial::test("live_mounts_changed_links", changed_links),
        Trial::test("live_mounts_read_only_root", read_only_root),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

struct Running {
    place: Place,
    started: Started,
    watch: Option<Watch>,
    /// On the host, with a file `name` in each of its folders `one` and `two`.
    host: tempfile::TempDir,
}

impl Running {
    fn new(prepare: impl FnOnce(&mut Place)) -> Self {
        let host = tempfile::tempdir().unwrap();
        for folder in ["one", "two"] {
            std::fs::create_dir(host.path().join(folder)).unwrap();
            std::fs::write(host.path().join(folder).join("name"), folder).unwrap();
        }
        let mut place = Place::new(&["sleep", "1000"]);
        prepare(&mut place);
        let mut started = place.start().unwrap();
        let (_, socket) = UnixStream::pair().unwrap();
        let watch = std::mem::replace(&mut started.watch, Watch { socket });
        Self {
            place,
            started,
            watch: Some(watch),
            host,
        }
    }

    fn host(&self, path: &str) -> PathBuf {
        self.host.path().join(path)
    }

    fn bind(&self, path: &str, destination: &str, options: &[&str]) -> Mount {
        MountBuilder::default()
            .typ("bind")
            .source(self.host(path))
            .destination(destination)
            .options(
                [&["rbind"], options]
                    .concat()
                    .into_iter()
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )
            .build()
            .unwrap()
    }

    fn removal(&self, path: &str, destination: &str) -> Removal {
        Removal {
            destination: destination.into(),
            source: (!path.is_empty()).then(|| self.host(path)),
        }
    }

    fn change(&self, remove: &[Removal], add: &[Mount]) -> Result<(), ChangeError> {
        change(self.started.pidfd.as_fd(), remove, &["/b/x"], add)
    }

    /// A file as the container sees it.
    fn read(&self, path: &str) -> Option<String> {
        let root = PathBuf::from(format!("/proc/{}/root", self.started.pid));
        std::fs::read_to_string(root.join(path.trim_start_matches('/'))).ok()
    }

    fn table(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", self.started.pid)).unwrap()
    }
}

impl Running {
    fn end(&mut self) {
        let signal = rustix::process::Signal::KILL;
        let _ = rustix::process::pidfd_send_signal(&self.started.pidfd, signal);
        self.watch.take().map(Watch::wait);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn come_and_go() -> Outcome {
    let running = Running::new(|_| ());
    let before = running.table();
    let tmpfs = MountBuilder::default()
        .typ("tmpfs")
        .source("tmpfs")
        .destination("/scratch")
        .options(vec!["size=65536".to_owned(), "nosuid".to_owned()])
        .build()
        .unwrap();
    let add = [
        running.bind("one", "/new/deep", &[]),
        running.bind("two/name", "/etc/file", &["ro"]),
        running.bind("two", "/new/deep/er", &[]),
        tmpfs,
    ];
    std::fs::create_dir(running.host("one/er")).unwrap();
    running.change(&[], &add)?;
    let on_host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !on_host.contains(running.host("one").to_str().unwrap()),
        "the host sees nothing of it"
    );
    assert_eq!(running.read("/new/deep/name").as_deref(), Some("one"));
    assert_eq!(running.read("/new/deep/er/name").as_deref(), Some("two"));
    assert_eq!(running.read("/etc/file").as_deref(), Some("two"));
    let root = PathBuf::from(format!("/proc/{}/root", running.started.pid));
    assert!(std::fs::write(root.join("etc/file"), "x").is_err());
    std::fs::write(root.join("scratch/f"), "x").unwrap();
    // A swap at one place, and what is not there counts as gone.
    let gone = [
        running.removal("two", "/new/deep/er"),
        running.removal("two", "/nothing/here"),
        running.removal("one", "/new/deep"),
    ];
    running.change(&gone, &[running.bind("two", "/new/deep", &[])])?;
    assert_eq!(running.read("/new/deep/name").as_deref(), Some("two"));
    assert_eq!(running.read("/new/deep/er/name"), None);
    running.change(
        &[
            running.removal("two", "/new/deep"),
            running.removal("two/name", "/etc/file"),
            running.removal("", "/scratch"),
        ],
        &[],
    )?;
    assert_eq!(running.read("/new/deep/name"), None);
    assert_eq!(running.read("/etc/file").as_deref(), Some(""));
    assert_eq!(running.table(), before);
    Ok(())
}

fn all_or_nothing() -> Outcome {
    let mut running = Running::new(|_| ());
    running.change(&[], &[running.bind("one", "/data", &[])])?;
    let before = running.table();
    let add = [
        running.bind("two", "/data", &[]),
        running.bind("two", "/other", &[]),
        // A folder at the place of a file.
        running.bind("two", "/etc/passwd", &[]),
    ];
    let refused = running.change(&[running.removal("one", "/data")], &add);
    assert!(
        matches!(refused, Err(ChangeError::Step { .. })),
        "{refused:?}"
    );
    assert_eq!(running.read("/data/name").as_deref(), Some("one"));
    assert_eq!(running.read("/other/name"), None);
    assert_eq!(running.table().lines().count(), before.lines().count());
    let missing = running.bind("three", "/other", &[]);
    let refused = running.change(&[], &[missing]);
    assert!(
        matches!(refused, Err(ChangeError::Source(_))),
        "{refused:?}"
    );
    // Nothing is hidden.
    for (destination, mounted) in [("/data", "/data"), ("/dev", "/dev"), ("/sys", "/sys")] {
        match running.change(&[], &[running.bind("two", destination, &[])]) {
            Err(ChangeError::Hides { mounted: at, .. }) => assert_eq!(at, mounted),
            other => panic!("{other:?}"),
        }
    }
    running.end();
    let refused = running.change(&[], &[running.bind("two", "/late", &[])]);
    assert!(matches!(refused, Err(ChangeError::Ended)), "{refused:?}");
    Ok(())
}

fn never_outside() -> Outcome {
    let running = Running::new(|place| {
        symlink("/../../../..", place.root().join("up")).unwrap();
        symlink("/proc", place.root().join("kernel")).unwrap();
        symlink("/", place.root().join("all")).unwrap();
    });
    let name = format!("gantry-live-{}", std::process::id());
    let destination = format!("/up/{name}");
    running.change(&[], &[running.bind("one", &destination, &[])])?;
    assert!(!Path::new("/").join(&name).exists());
    assert_eq!(
        running.read(&format!("/{name}/name")).as_deref(),
        Some("one")
    );
    for destination in ["/proc/sys", "/kernel/sys", "/proc/version"] {
        let refused = running.change(&[], &[running.bind("one", destination, &[])]);
        let expected = matches!(
            refused,
            Err(ChangeError::InsideProc(_) | ChangeError::Step { .. })
        );
        assert!(expected, "{destination}: {refused:?}");
    }
    let refused = running.change(&[], &[running.bind("one", "/all", &[])]);
    assert!(
        matches!(refused, Err(ChangeError::Hides { .. })),
        "{refused:?}"
    );
    Ok(())
}

fn changed_links() -> Outcome {
    let running = Running::new(|place| {
        std::fs::create_dir(place.root().join("real")).unwrap();
        symlink("real", place.root().join("way")).unwrap();
    });
    let link = |to: &str| {
        let way = running.place.root().join("way");
        std::fs::remove_file(&way).unwrap();
        symlink(to, way).unwrap();
    };
    running.change(&[], &[running.bind("one", "/way", &[])])?;
    assert_eq!(running.read("/real/name").as_deref(), Some("one"));
    let before = running.table();
    // Without a source nothing tells them apart.
    for other in ["/dev", "/proc"] {
        link(other);
        let refused = running.change(&[running.removal("", "/way")], &[]);
        assert!(
            matches!(refused, Err(ChangeError::LinksMoved(_))),
            "{other}: {refused:?}"
        );
    }
    running.change(&[running.removal("two", "/way")], &[])?;
    assert_eq!(running.table(), before);
    // What it shows tells which it is, also when what is above it has moved.
    let removal = [running.removal("one", "/way")];
    running.change(&removal, &[])?;
    assert_eq!(running.read("/real/name"), None);
    running.change(&[], &[running.bind("one", "/here/below", &[])])?;
    std::fs::rename(
        running.place.root().join("here"),
        running.place.root().join("there"),
    )?;
    assert_eq!(running.read("/there/below/name").as_deref(), Some("one"));
    running.change(&[running.removal("one", "/here/below")], &[])?;
    assert_eq!(running.read("/there/below/name"), None);
    // A tmpfs of the user's is told from those of the container's own.
    let tmpfs = MountBuilder::default()
        .typ("tmpfs")
        .source("tmpfs")
        .destination("/way")
        .options(vec!["size=65536".to_owned()])
        .build()
        .unwrap();
    link("real");
    let before = running.table();
    running.change(&[], &[tmpfs])?;
    running.change(&[running.removal("", "/way")], &[])?;
    assert_eq!(running.table(), before);
    // Twice the same.
    let twice = [
        running.bind("one", "/a/x", &[]),
        running.bind("one", "/b/x", &[]),
        running.bind("one", "/d/x", &[]),
    ];
    running.change(&[], &twice)?;
    std::fs::rename(
        running.place.root().join("a"),
        running.place.root().join("c"),
    )?;
    let refused = running.change(&[running.removal("one", "/a/x")], &[]);
    assert!(
        matches!(refused, Err(ChangeError::LinksMoved(_))),
        "{refused:?}"
    );
    running.change(&[running.removal("one", "/d/x")], &[])?;
    running.change(&[running.removal("one", "/a/x")], &[])?;
    assert_eq!(running.read("/c/x/name"), None);
    assert_eq!(running.read("/b/x/name").as_deref(), Some("one"));
    Ok(())
}

fn read_only_root() -> Outcome {
    let running = Running::new(|place| {
        let mut root = place.spec.root().clone().unwrap();
        root.set_readonly(Some(true));
        place.spec.set_root(Some(root));
    });
    running.change(&[], &[running.bind("one", "/new/place", &["ro"])])?;
    assert_eq!(running.read("/new/place/name").as_deref(), Some("one"));
    let refused = running.change(&[], &[running.bind("two", "/new/place/below", &[])]);
    assert!(
        matches!(refused, Err(ChangeError::Step { .. })),
        "{refused:?}"
    );
    let root = PathBuf::from(format!("/proc/{}/root", running.started.pid));
    assert!(std::fs::write(root.join("new/file"), "x").is_err());
    assert!(!running.host("one/below").exists());
    Ok(())
}
