//! What every snapshot driver must do, and each on its file system: overlay2 and vfs on the machine's own, btrfs and vfs
//! (with reflinks) on a btrfs in a file.

use super::{Tar, at, unpack};
use crate::layers::Expected;
use crate::snapshots::{Base, ChangeKind, Stack};
use crate::{Options, Store};
use gantry_oci::Digest;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::EntryType;

fn open(dir: &Path, driver: &str) -> Store {
    let options = Options {
        storage_driver: Some(driver.to_owned()),
        ..Options::default()
    };
    let store = Store::open_with(dir, &options).unwrap();
    assert_eq!(store.snapshots.name(), driver);
    store
}

/// All that a driver must do, in one data root.
fn conforms(dir: &Path, driver: &str) {
    let store = open(dir, driver);
    whiteouts(&store);
    kinds_of_files(&store);
    names(&store);
    changes_and_packs(&store);
    many_layers(&store);
    containers_are_apart(&store);
    drop(store);
    again(dir, driver);
}

fn layers(store: &Store, tars: &[Vec<u8>]) -> Vec<Digest> {
    let ids = tars.iter().map(|tar| unpack(store, tar).unwrap().diff_id);
    ids.collect()
}

fn container(store: &Store, id: &str, layers: &[Digest]) -> (OwnedFd, PathBuf) {
    store
        .snapshots
        .prepare(id, &Base::Layers(layers.to_vec()))
        .unwrap();
    let mount = store.snapshots.mount(id, true).unwrap();
    // Programs that are started see it, too.
    let root = format!("/proc/{}/fd/{}", std::process::id(), mount.as_raw_fd());
    (mount, root.into())
}

fn listed(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn whiteouts(store: &Store) {
    let bottom = Tar::new()
        .dir("opaque/")
        .file("opaque/old", b"1")
        .dir("kept/")
        .file("kept/gone", b"1")
        .file("kept/stays", b"1")
        .file("becomes-dir", b"1")
        .dir("becomes-file/")
        .file("becomes-file/x", b"1")
        .dir("again/")
        .file("again/old", b"1")
        .done();
    let middle = Tar::new()
        .dir("opaque/")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"2")
        .file("kept/.wh.gone", b"")
        .file("becomes-dir/in", b"2")
        .file("becomes-file", b"2")
        .file(".wh.again", b"")
        .done();
    let top = Tar::new().dir("again/").file("again/new", b"3").done();
    let layers = layers(store, &[bottom, middle, top]);
    let (_mount, root) = container(store, "whiteouts", &layers);
    assert_eq!(listed(&root.join("opaque")), ["new"]);
    assert_eq!(listed(&root.join("kept")), ["stays"]);
    assert_eq!(listed(&root.join("again")), ["new"]);
    assert_eq!(std::fs::read(root.join("becomes-dir/in")).unwrap(), b"2");
    assert_eq!(std::fs::read(root.join("becomes-file")).unwrap(), b"2");
}

fn kinds_of_files(store: &Store) {
    let bottom = Tar::new()
        .dir("d/")
        .file("d/a", b"shared")
        .add(b"d/b", EntryType::Link, 0o644, Some("d/a"), b"")
        .add(b"d/setuid", EntryType::Regular, 0o4755, None, b"x")
        .add(b"d/sticky/", EntryType::Directory, 0o3777, None, b"")
        .add(b"d/null", EntryType::Char, 0o666, None, b"")
        .add(b"d/fifo", EntryType::Fifo, 0o640, None, b"")
        .add(b"d/soft", EntryType::Symlink, 0o777, Some("/no/where"), b"")
        .file("d/sparse", &vec![0; 4 << 20])
        .done();
    // Capabilities and attributes, and a hard link to a file of the same layer over one of another.
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("capable"), "x").unwrap();
    let capability =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let set = |file: &str, name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(tree.path().join(file), name, value, flags).unwrap();
    };
    set("capable", "security.capability", capability);
    set("capable", "user.note", b"\xff\x00n");
    std::fs::create_dir(tree.path().join("d")).unwrap();
    set("d", "user.dir", b"d");
    std::fs::write(tree.path().join("d/b"), "another").unwrap();
    let made = Command::new("tar")
        .args([
            "-C",
            tree.path().to_str().unwrap(),
            "--xattrs",
            "--xattrs-include=*",
            "-c",
            ".",
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let layers = layers(store, &[bottom, made.stdout]);
    let (_mount, root) = container(store, "kinds", &layers);
    let meta = |name: &str| root.join(name).symlink_metadata().unwrap();
    assert_eq!(std::fs::read(root.join("d/a")).unwrap(), b"shared");
    assert_eq!(std::fs::read(root.join("d/b")).unwrap(), b"another");
    assert_eq!(meta("d/setuid").mode() & 0o7777, 0o4755);
    assert_eq!((meta("d/setuid").uid(), meta("d/setuid").gid()), (7, 8));
    assert_eq!(meta("d/setuid").mtime(), 1_000_000);
    assert_eq!(meta("d/sticky").mode() & 0o7777, 0o3777);
    assert!(meta("d/null").file_type().is_char_device());
    assert_eq!(meta("d/null").rdev(), rustix::fs::makedev(1, 3));
    assert!(meta("d/fifo").file_type().is_fifo());
    assert_eq!(
        std::fs::read_link(root.join("d/soft")).unwrap(),
        Path::new("/no/where")
    );
    assert_eq!(meta("d/sparse").len(), 4 << 20);
    assert!(
        meta("d/sparse").blocks() < 64,
        "{} blocks",
        meta("d/sparse").blocks()
    );
    let get = |file: &str, name: &str| {
        let mut value = [0_u8; 64];
        let n = rustix::fs::lgetxattr(root.join(file), name, &mut value[..]).unwrap();
        value[..n].to_vec()
    };
    assert_eq!(get("capable", "security.capability"), capability);
    assert_eq!(get("capable", "user.note"), b"\xff\x00n");
    assert_eq!(get("d", "user.dir"), b"d");
    // What is made in a container: sockets, hard links, folders with another name.
    let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    drop(socket);
    assert!(meta("socket").file_type().is_socket());
    std::fs::hard_link(root.join("d/a"), root.join("d/third")).unwrap();
    assert_eq!(meta("d/third").ino(), meta("d/a").ino());
    std::fs::create_dir(root.join("mine")).unwrap();
    std::fs::write(root.join("mine/f"), "m").unwrap();
    std::fs::rename(root.join("mine"), root.join("yours")).unwrap();
    // mv(1) copies where a folder of a layer cannot be renamed, as overlay has it.
    let moved = Command::new("mv")
        .arg(root.join("d"))
        .arg(root.join("e"))
        .status();
    assert!(moved.unwrap().success());
    assert_eq!(std::fs::read(root.join("e/b")).unwrap(), b"another");
    assert!(!root.join("d").exists());
}

fn names(store: &Store) {
    let long = vec![b'n'; 255];
    let mut tar = Tar::new()
        .add(b"\xff\xfe\n", EntryType::Regular, 0o600, None, b"bytes")
        .add(&long, EntryType::Regular, 0o600, None, b"long")
        .dir("huge/");
    for n in 0..3000 {
        tar = tar.file(&format!("huge/file-{n:04}"), b"");
    }
    let layers = layers(store, &[tar.done()]);
    let (_mount, root) = container(store, "names", &layers);
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xfe\n");
    assert_eq!(std::fs::read(root.join(odd)).unwrap(), b"bytes");
    assert_eq!(
        std::fs::read(root.join(std::ffi::OsStr::from_bytes(&long))).unwrap(),
        b"long"
    );
    assert_eq!(listed(&root.join("huge")).len(), 3000);
    // They come out again, too.
    std::fs::write(root.join(odd), "changed").unwrap();
    let mut packed = Vec::new();
    store.snapshots.pack("names", &mut packed).unwrap();
    let layer = unpack(store, &packed).unwrap();
    let tree = store.layers.path(&layer.diff_id);
    assert_eq!(listed(&tree).len(), 1);
    assert_eq!(std::fs::read(tree.join(odd)).unwrap(), b"changed");
}

fn changes_and_packs(store: &Store) {
    let bottom = Tar::new()
        .dir("etc/")
        .file("etc/one", b"1")
        .file("etc/two", b"2")
        .dir("tree/")
        .file("tree/x", b"x")
        .dir("same/")
        .file("same/f", b"f")
        .done();
    let base = layers(store, &[bottom]);
    let (_mount, root) = container(store, "changes", &base);
    assert_eq!(store.snapshots.changes("changes").unwrap(), []);
    assert_eq!(store.snapshots.size("changes").unwrap(), 0);
    std::fs::write(root.join("etc/one"), "one!").unwrap();
    std::fs::remove_file(root.join("etc/two")).unwrap();
    std::fs::remove_dir_all(root.join("tree")).unwrap();
    std::fs::create_dir(root.join("new")).unwrap();
    std::fs::write(root.join("new/file"), "n").unwrap();
    symlink("/etc/one", root.join("link")).unwrap();
    std::fs::set_permissions(root.join("same"), PermissionsExt::from_mode(0o700)).unwrap();
    let told: Vec<(String, ChangeKind)> = store
        .snapshots
        .changes("changes")
        .unwrap()
        .into_iter()
        .map(|c| (c.path, c.kind))
        .collect();
    use ChangeKind::{Added, Deleted, Modified};
    let expected = [
        ("/etc", Modified),
        ("/etc/one", Modified),
        ("/etc/two", Deleted),
        ("/link", Added),
        ("/new", Added),
        ("/new/file", Added),
        ("/same", Modified),
        ("/tree", Deleted),
    ];
    assert_eq!(told, expected.map(|(path, kind)| (path.to_owned(), kind)));
    assert_eq!(store.snapshots.size("changes").unwrap(), 4 + 1 + 8);
    // What is packed makes the same files over the same layers.
    let mut packed = Vec::new();
    store.snapshots.pack("changes", &mut packed).unwrap();
    let layer = store
        .layers
        .unpack(&mut &packed[..], &Expected::default())
        .unwrap();
    let stack = Stack::Layers(vec![base[0].clone(), layer.diff_id.clone()]);
    let one = Stack::Container("changes".to_owned());
    assert_eq!(store.snapshots.compare(&one, &stack).unwrap(), []);
    let (_mount, copy) = container(store, "copy", &[base[0].clone(), layer.diff_id]);
    assert_eq!(std::fs::read(copy.join("etc/one")).unwrap(), b"one!");
    assert!(!copy.join("tree").exists() && !copy.join("etc/two").exists());
    assert_eq!(copy.join("same").metadata().unwrap().mode() & 0o777, 0o700);
}

fn many_layers(store: &Store) {
    let tars: Vec<Vec<u8>> = (0..130)
        .map(|n| {
            let name = format!("f{n}");
            Tar::new()
                .file(&name, b"x")
                .file("all", name.as_bytes())
                .done()
        })
        .collect();
    let layers = layers(store, &tars);
    let (_mount, root) = container(store, "many", &layers);
    assert!(root.join("f0").exists() && root.join("f129").exists());
    assert_eq!(std::fs::read(root.join("all")).unwrap(), b"f129");
}

fn containers_are_apart(store: &Store) {
    let layers = layers(store, &[Tar::new().file("f", b"layer").done()]);
    let (_one, a) = container(store, "a", &layers);
    let (_two, b) = container(store, "b", &layers);
    std::fs::write(a.join("f"), "changed").unwrap();
    assert_eq!(std::fs::read(b.join("f")).unwrap(), b"layer");
    let layer = store.layers.path(&layers[0]);
    assert_eq!(std::fs::read(layer.join("f")).unwrap(), b"layer");
    store.snapshots.remove("b").unwrap();
    store.snapshots.remove("b").unwrap();
    let missing = store.snapshots.mount("b", false).unwrap_err();
    assert!(
        missing.to_string().contains("has no writable layer"),
        "{missing}"
    );
    assert!(
        store
            .snapshots
            .prepare("c", &Base::Layers(vec![Digest::of(b"none")]))
            .is_err()
    );
    let mut there = store.snapshots.list().unwrap();
    there.sort();
    assert_eq!(
        there,
        [
            "a",
            "changes",
            "copy",
            "kinds",
            "many",
            "names",
            "whiteouts"
        ]
    );
}

/// The next daemon finds all of it, also when nobody says which driver it was; at the end nothing is left.
fn again(dir: &Path, driver: &str) {
    let store = Store::open(dir).unwrap();
    assert_eq!(store.snapshots.name(), driver);
    let mount = store.snapshots.mount("a", false).unwrap();
    assert_eq!(std::fs::read(at(&mount).join("f")).unwrap(), b"changed");
    drop(mount);
    for id in store.snapshots.list().unwrap() {
        store.snapshots.remove(&id).unwrap();
    }
    store.images.collect_layers().unwrap();
    assert_eq!(
        listed(&dir.join("layers").join(driver).join("c")),
        Vec::<String>::new()
    );
    for left in ["layers/l", "layers/r", "tmp"] {
        assert_eq!(listed(&dir.join(left)), Vec::<String>::new(), "{left}");
    }
    let images = dir.join("layers/btrfs/images");
    assert!(!images.exists() || listed(&images).is_empty());
}

#[test]
fn overlay2() {
    let dir = tempfile::tempdir().unwrap();
    conforms(dir.path(), "overlay2");
}

#[test]
fn vfs() {
    let dir = tempfile::tempdir().unwrap();
    conforms(dir.path(), "vfs");
}

/// Runs `body` with a btrfs in a file, mounted for this thread alone.
pub(super) fn on_btrfs(body: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let run = || {
        use rustix::mount::{MountPropagationFlags, mount_change};
        // SAFETY: only this thread, which ends with the test, gets a mount namespace (and folder) of its own.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .unwrap();
        let (image, place) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::File::create(&image)
            .unwrap()
            .set_len(512 << 20)
            .unwrap();
        std::fs::create_dir(&place).unwrap();
        for command in [
            Command::new("mkfs.btrfs").arg("-q").arg(&image),
            Command::new("mount")
                .args(["-o", "loop"])
                .args([&image, &place]),
        ] {
            let ran = command.output().expect("btrfs-progs are needed");
            assert!(ran.status.success(), "{ran:?}");
        }
        body(&place);
        let begun = std::time::Instant::now();
        let flags = rustix::mount::UnmountFlags::empty();
        // A thread of the store's may still be syncing.
        while let Err(error) = rustix::mount::unmount(&place, flags) {
            assert!(begun.elapsed().as_secs() < 20, "{error}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}

#[test]
fn btrfs() {
    on_btrfs(|place| {
        conforms(&place.join("root"), "btrfs");
        subvolumes_of_containers(&place.join("subvolumes"));
    });
}

/// A container may make subvolumes in its own; they go with it.
fn subvolumes_of_containers(dir: &Path) {
    let store = open(dir, "btrfs");
    let layers = layers(&store, &[Tar::new().file("f", b"layer").done()]);
    let (mount, root) = container(&store, "c", &layers);
    for path in ["own", "own/deeper"] {
        let ran = Command::new("btrfs")
            .args(["-q", "subvolume", "create"])
            .arg(dir.join("layers/btrfs/c/c/fs").join(path))
            .output();
        assert!(ran.as_ref().unwrap().status.success(), "{ran:?}");
    }
    std::fs::write(root.join("own/deeper/file"), "x").unwrap();
    drop(mount);
    store.snapshots.remove("c").unwrap();
    assert_eq!(listed(&dir.join("layers/btrfs/c")), Vec::<String>::new());
}

#[test]
fn vfs_with_reflinks_costs_no_space() {
    on_btrfs(|place| {
        let root = place.join("root");
        let store = open(&root, "vfs");
        let noise: Vec<u8> = (0..32_u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let layers = layers(&store, &[Tar::new().file("f", &noise).done()]);
        let free = || {
            rustix::fs::sync();
            let stat = rustix::fs::statvfs(place).unwrap();
            stat.f_bfree * stat.f_frsize
        };
        let before = free();
        for id in ["a", "b", "c"] {
            let (_mount, root) = container(&store, id, &layers);
            assert_eq!(root.join("f").metadata().unwrap().len(), 32 << 20);
        }
        let used = before.saturating_sub(free());
        assert!(used < 8 << 20, "{used} bytes for three copies of 32 MB");
    });
}

#[test]
fn the_driver_is_chosen_and_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |driver: &str| {
        let options = Options {
            storage_driver: Some(driver.to_owned()),
            ..Options::default()
        };
        Store::open_with(dir.path(), &options)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("aufs"),
        "unknown storage driver \"aufs\": choose one of overlay2, btrfs, vfs"
    );
    assert!(refused("btrfs").contains("the file system is not btrfs"));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.snapshots.name(), "overlay2");
    drop(store);
    let store = open(dir.path(), "vfs");
    let stands = store
        .snapshots
        .prepare("d", &Base::Directory("/".into()))
        .unwrap_err();
    assert!(stands.to_string().contains("only overlay2 can"), "{stands}");
}
