//! The store as a whole: privileged, below a temporary directory.

mod archives;
mod cuts;
mod drivers;
mod hostile;
mod images;
mod layers;
mod share;

use crate::archive;
use crate::layers::Expected;
use crate::snapshots::{Base, ChangeKind};
use crate::{Store, StoreError};
use gantry_oci::config::ImageConfig;
use gantry_oci::{Digest, Reference};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }
    fn add(
        mut self,
        path: &[u8],
        kind: EntryType,
        mode: u32,
        link: Option<&str>,
        data: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.set_size(data.len() as u64);
        if kind == EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        let name = &mut header.as_gnu_mut().unwrap().name;
        if path.len() <= name.len() {
            // Set by hand: the hostile names, too.
            name[..path.len()].copy_from_slice(path);
            header.set_cksum();
            self.0.append(&header, data).unwrap();
        } else {
            self.0
                .append_data(
                    &mut header,
                    Path::new(std::ffi::OsStr::from_bytes(path)),
                    data,
                )
                .unwrap();
        }
        self
    }
    fn file(self, path: &str, data: &[u8]) -> Self {
        self.add(path.as_bytes(), EntryType::Regular, 0o644, None, data)
    }
    fn dir(self, path: &str) -> Self {
        self.add(path.as_bytes(), EntryType::Directory, 0o755, None, b"")
    }
    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn unpack(store: &Store, tar: &[u8]) -> crate::Result<crate::layers::Layer> {
    store.layers.unpack(&mut &tar[..], &Expected::default())
}

/// A mount by descriptor as a path.
fn at(mount: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", mount.as_raw_fd()).into()
}

fn left_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn mounted(store: &Store, layers: &[Vec<u8>]) -> OwnedFd {
    let ids = layers
        .iter()
        .map(|tar| unpack(store, tar).unwrap().diff_id)
        .collect();
    store.snapshots.prepare("c1", &Base::Layers(ids)).unwrap();
    store.snapshots.mount("c1", true).unwrap()
}

#[test]
fn every_kind_of_file_arrives() {
    let (_dir, store) = store();
    let long = vec![b'n'; 255];
    let tar = Tar::new()
        .dir("d/")
        .file("d/f", b"hello")
        .add(b"d/setuid", EntryType::Regular, 0o4755, None, b"x")
        .add(b"d/hard", EntryType::Link, 0o644, Some("d/f"), b"")
        .add(
            b"d/soft",
            EntryType::Symlink,
            0o777,
            Some("/etc/passwd"),
            b"",
        )
        .add(b"d/null", EntryType::Char, 0o666, None, b"")
        .add(b"d/fifo", EntryType::Fifo, 0o600, None, b"")
        .add(b"d/\xff\xfe", EntryType::Regular, 0o600, None, b"latin")
        .add(&long, EntryType::Regular, 0o600, None, b"long")
        .file("no/parent/given", b"y")
        .file("zeros", &vec![0; 1 << 20])
        .done();
    let root = mounted(&store, &[tar]);
    let root = at(&root);
    assert_eq!(std::fs::read(root.join("d/hard")).unwrap(), b"hello");
    assert_eq!(root.join("d/f").metadata().unwrap().nlink(), 2);
    let setuid = root.join("d/setuid").metadata().unwrap();
    assert_eq!(
        (
            setuid.mode() & 0o7777,
            setuid.uid(),
            setuid.gid(),
            setuid.mtime()
        ),
        (0o4755, 7, 8, 1_000_000)
    );
    assert_eq!(
        std::fs::read_link(root.join("d/soft")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert!(
        root.join("d/null")
            .metadata()
            .unwrap()
            .file_type()
            .is_char_device()
    );
    assert!(
        root.join("d/fifo")
            .metadata()
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert!(
        root.join(std::ffi::OsStr::from_bytes(b"d/\xff\xfe"))
            .exists()
    );
    assert!(root.join(std::ffi::OsStr::from_bytes(&long)).exists());
    assert_eq!(root.join("d").metadata().unwrap().mtime(), 1_000_000);
    let zeros = root.join("zeros").metadata().unwrap();
    assert_eq!(zeros.len(), 1 << 20);
    assert!(zeros.blocks() < 64, "a hole is stored as one");
    assert!(root.join(".dockerenv").exists() && root.join("dev/pts").is_dir());
}

#[test]
fn whiteouts_and_opaque_directories_hide_what_is_below() {
    let (_dir, store) = store();
    let lower = Tar::new()
        .dir("a/")
        .file("a/one", b"1")
        .file("a/two", b"2")
        .dir("b/")
        .file("b/old", b"o")
        .done();
    let upper = Tar::new()
        .dir("a/")
        .file("a/.wh.one", b"")
        .dir("b/")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"n")
        .done();
    let mount = mounted(&store, &[lower, upper]);
    let root = at(&mount);
    assert!(!root.join("a/one").exists() && root.join("a/two").exists());
    assert!(!root.join("b/old").exists() && root.join("b/new").exists());
    assert!(!root.join("a/.wh.one").exists());
}

/// Image spec, layer.md: a whiteout hides what is below, not what its own layer has, in whichever order they come.
#[test]
fn a_whiteout_spares_its_own_layer() {
    for own_first in [true, false] {
        let (_dir, store) = store();
        let lower = Tar::new().dir("d/").file("d/old", b"o").file("f", b"o");
        let upper = Tar::new();
        let upper = if own_first {
            let upper = upper.file("d/new", b"n").file("f", b"n");
            upper.file(".wh.d", b"").file(".wh.f", b"")
        } else {
            let upper = upper.file(".wh.d", b"").file(".wh.f", b"");
            upper.file("d/new", b"n").file("f", b"n")
        };
        let mount = mounted(&store, &[lower.done(), upper.done()]);
        let root = at(&mount);
        assert!(!root.join("d/old").exists() && root.join("d/new").exists());
        assert_eq!(std::fs::read(root.join("f")).unwrap(), b"n");
    }
}

#[test]
fn what_gnu_tar_writes_arrives() {
    let source = tempfile::tempdir().unwrap();
    let sparse = std::fs::File::create(source.path().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 40 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let capable = source.path().join("capable");
    std::fs::write(&capable, "x").unwrap();
    // Revision 2, CAP_NET_RAW (13) and the bits 1 and 3: one of the bytes is a line feed.
    let capability = [
        1, 0, 0, 2, 0x0a, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let name = "security.capability";
    rustix::fs::lsetxattr(&capable, name, &capability, rustix::fs::XattrFlags::empty()).unwrap();
    for format in [
        &["--format=pax", "--sparse-version=1.0"][..],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=gnu"],
    ] {
        let mut tar = std::process::Command::new("tar");
        tar.args(["-c", "--sparse"]).args(format);
        if format[0] == "--format=pax" {
            tar.args(["--xattrs", "--xattrs-include=*"]);
        }
        let out = tar.arg("-C").arg(source.path()).arg(".").output().unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let (_dir, store) = store();
        let mount = mounted(&store, &[out.stdout]);
        let file = at(&mount).join("sparse");
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), 64 << 20, "{format:?}");
        assert!(meta.blocks() < 1024, "{format:?}: holes stay holes");
        let content = std::fs::read(&file).unwrap();
        assert_eq!(&content[40 << 20..][..4], b"end\0", "{format:?}");
        assert_eq!(content.iter().filter(|b| **b != 0).count(), 3);
        if format[0] == "--format=pax" {
            let mut value = [0; 64];
            let n = rustix::fs::lgetxattr(at(&mount).join("capable"), name, &mut value[..]);
            assert_eq!(value[..n.unwrap()], capability);
        }
    }
}

#[test]
fn nothing_leads_out_of_the_layer() {
    let (dir, store) = store();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    let hostile = [
        Tar::new().file("../outside/a", b"x").done(),
        Tar::new().file("a/../../outside/a", b"x").done(),
        Tar::new()
            .add(
                b"h",
                EntryType::Link,
                0o644,
                Some("../../../../../../etc/passwd"),
                b"",
            )
            .done(),
        Tar::new()
            .add(b"h", EntryType::Link, 0o644, Some("/etc/passwd"), b"")
            .done(),
        Tar::new().file(".wh...", b"").done(),
        Tar::new().file("f", b"x").file("f/below", b"x").done(),
        Tar::new()
            .dir("d/")
            .add(b"h", EntryType::Link, 0o644, Some("d"), b"")
            .done(),
        Tar::new()
            .add(b"s", EntryType::Symlink, 0o777, Some("nowhere"), b"")
            .file("s/a", b"x")
            .done(),
    ];
    for tar in &hostile {
        assert!(matches!(unpack(&store, tar), Err(StoreError::Invalid(_))));
    }
    // A link out of the root, and a file through it: it is resolved inside.
    let through = Tar::new()
        .add(b"l", EntryType::Symlink, 0o777, Some(&target), b"")
        .file("l/a", b"x")
        .done();
    let _ = unpack(&store, &through);
    assert_eq!(left_in(&outside), 0);
    assert_eq!(
        left_in(&dir.path().join("tmp")),
        0,
        "nothing half-made is left"
    );
}

#[test]
fn broken_and_unexpected_archives_leave_nothing() {
    let (dir, store) = store();
    let tar = Tar::new().file("f", &vec![1; 100_000]).done();
    assert!(unpack(&store, &tar[..50_000]).is_err());
    assert!(unpack(&store, &[b'g'; 5000]).is_err());
    let wrong = Expected {
        diff_id: Some(Digest::of(b"else")),
        ..Expected::default()
    };
    assert!(matches!(
        store.layers.unpack(&mut &tar[..], &wrong),
        Err(StoreError::DigestMismatch { .. })
    ));
    let wrong = Expected {
        size: Some(10),
        ..Expected::default()
    };
    assert!(matches!(
        store.layers.unpack(&mut &tar[..], &wrong),
        Err(StoreError::Invalid(_))
    ));
    let wrong = Expected {
        size: Some(1 << 30),
        ..Expected::default()
    };
    assert!(matches!(
        store.layers.unpack(&mut &tar[..], &wrong),
        Err(StoreError::Interrupted(_))
    ));
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
    assert_eq!(left_in(&dir.path().join("layers/l")), 0);
    assert_eq!(left_in(&dir.path().join("image/blobs/sha256")), 0);
}

#[test]
fn compressed_layers_are_the_same_layer() {
    let (_dir, store) = store();
    let tar = Tar::new().file("f", b"same").done();
    let plain = unpack(&store, &tar).unwrap();
    let (first, second) = tar.split_at(700);
    let mut members = Vec::new();
    for part in [first, second] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        members.extend(encoder.finish().unwrap());
    }
    assert_eq!(unpack(&store, &members).unwrap().diff_id, plain.diff_id);
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    assert_eq!(unpack(&store, &zstd).unwrap().diff_id, plain.diff_id);
}

#[test]
fn a_hundred_and_thirty_layers_mount() {
    let (_dir, store) = store();
    let layers: Vec<Vec<u8>> = (0..130)
        .map(|n| Tar::new().file(&format!("f{n}"), b"x").done())
        .collect();
    let mount = mounted(&store, &layers);
    let root = at(&mount);
    assert!(root.join("f0").exists() && root.join("f129").exists());
}

/// The way of kernels before 6.5, which this one still knows.
#[test]
fn layers_mount_without_the_option_of_newer_kernels() {
    let (dir, store) = store();
    let ids: Vec<Digest> = (0..130)
        .map(|n| unpack(&store, &Tar::new().file(&format!("f{n}"), b"x").done()))
        .map(|layer| layer.unwrap().diff_id)
        .collect();
    store
        .snapshots
        .prepare("c1", &Base::Layers(ids.clone()))
        .unwrap();
    let place = dir.path().join("layers/overlay2/c/c1");
    let lowers: Vec<PathBuf> = ids.iter().rev().map(|id| store.layers.path(id)).collect();
    let mount = crate::snapshots::legacy_mount::overlay(&lowers, &place, true, false).unwrap();
    let root = at(&mount);
    assert!(root.join("f0").exists() && root.join("f129").exists());
    std::fs::write(root.join("new"), "n").unwrap();
    assert!(
        place.join("upper/new").exists(),
        "the host sees the upper folder, not the mount"
    );
    assert!(
        !std::fs::read_to_string("/proc/self/mounts")
            .unwrap()
            .contains("c/c1")
    );
    // It can be put into another mount namespace, as the runtime does.
    let there = dir.path().join("there");
    std::fs::create_dir(&there).unwrap();
    let put = || {
        use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
        // SAFETY: only this thread, which ends with the test, gets a mount namespace (and folder) of its own.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", rustix::fs::CWD, &there, flags).unwrap();
        assert_eq!(std::fs::read(there.join("new")).unwrap(), b"n");
    };
    std::thread::scope(|scope| scope.spawn(put).join().unwrap());
    assert_eq!(left_in(&there), 0);
}

#[test]
fn a_folder_of_the_host_under_a_layer_of_its_own() {
    let (dir, store) = store();
    store
        .snapshots
        .prepare("c1", &Base::Directory("/".into()))
        .unwrap();
    let mount = store.snapshots.mount("c1", true).unwrap();
    let root = at(&mount);
    let probe = dir.path().strip_prefix("/").unwrap().join("probe");
    std::fs::write(root.join(&probe), "in the container").unwrap();
    assert!(
        !dir.path().join("probe").exists(),
        "the host does not see it"
    );
    assert!(root.join("etc/passwd").exists());
}

#[test]
fn changes_are_those_of_the_writable_layer() {
    let (_dir, store) = store();
    let mount = mounted(
        &store,
        &[Tar::new()
            .dir("a/")
            .file("a/gone", b"1")
            .file("a/kept", b"2")
            .done()],
    );
    let root = at(&mount);
    std::fs::remove_file(root.join("a/gone")).unwrap();
    std::fs::write(root.join("a/new"), "12345").unwrap();
    std::fs::set_permissions(root.join("a/kept"), PermissionsExt::from_mode(0o600)).unwrap();
    let changes: Vec<(String, ChangeKind)> = store
        .snapshots
        .changes("c1")
        .unwrap()
        .into_iter()
        .map(|c| (c.path, c.kind))
        .collect();
    let expected = [
        ("/a", ChangeKind::Modified),
        ("/a/gone", ChangeKind::Deleted),
        ("/a/kept", ChangeKind::Modified),
        ("/a/new", ChangeKind::Added),
    ];
    assert_eq!(changes, expected.map(|(p, k)| (p.to_owned(), k)));
    assert_eq!(store.snapshots.size("c1").unwrap(), 6);
    drop(mount);
    store.snapshots.remove("c1").unwrap();
    store.snapshots.remove("c1").unwrap();
    assert!(store.snapshots.list().unwrap().is_empty());
}

/// The rules of Docker: what counts is what the layers show together, and what is as it was is no change.
#[test]
fn changes_are_told_from_what_the_layers_show_together() {
    let (_dir, store) = store();
    let lower = Tar::new()
        .file("hidden", b"1")
        .dir("whole/")
        .file("whole/a", b"1")
        .file("whole/b", b"1")
        .dir("etc/")
        .file("etc/same", b"1");
    let upper = Tar::new().file(".wh.hidden", b"").add(
        b"out",
        EntryType::Symlink,
        0o777,
        Some("/etc"),
        b"",
    );
    let mount = mounted(&store, &[lower.done(), upper.done()]);
    let root = at(&mount);
    // Deleted by a layer and made anew: added.
    std::fs::write(root.join("hidden"), "new").unwrap();
    // Opened for writing and left as it was: copied up, no change.
    drop(
        std::fs::File::options()
            .write(true)
            .open(root.join("etc/same"))
            .unwrap(),
    );
    // A link that leads out of the layer becomes a folder: nothing in it was there before.
    std::fs::remove_file(root.join("out")).unwrap();
    std::fs::create_dir(root.join("out")).unwrap();
    std::fs::write(root.join("out/passwd"), "x").unwrap();
    // A folder replaced whole.
    std::fs::remove_dir_all(root.join("whole")).unwrap();
    std::fs::create_dir(root.join("whole")).unwrap();
    std::fs::write(root.join("whole/b"), "22").unwrap();
    let changes = store.snapshots.changes("c1").unwrap();
    let changes: Vec<(&str, ChangeKind)> =
        changes.iter().map(|c| (c.path.as_str(), c.kind)).collect();
    assert_eq!(
        changes,
        [
            ("/hidden", ChangeKind::Added),
            ("/out", ChangeKind::Modified),
            ("/out/passwd", ChangeKind::Added),
            ("/whole", ChangeKind::Modified),
            ("/whole/a", ChangeKind::Deleted),
            ("/whole/b", ChangeKind::Modified),
        ]
    );
}

fn import(store: &Store, name: &str, content: &[u8]) -> Digest {
    let config = ImageConfig {
        os: "linux".into(),
        comment: name.into(),
        ..ImageConfig::default()
    };
    let id = archive::import(
        store,
        &mut &Tar::new().file("f", content).done()[..],
        config,
    )
    .unwrap();
    store
        .images
        .tag(&Reference::parse(name).unwrap(), &id)
        .unwrap();
    id
}

#[test]
fn images_are_found_by_name_and_by_prefix_and_deleted_with_their_layers() {
    let (dir, store) = store();
    let (a, b) = (import(&store, "a", b"1"), import(&store, "b", b"1"));
    assert_eq!(store.images.find("a").unwrap().unwrap().id, a);
    assert_eq!(store.images.find(&a.hex()[..12]).unwrap().unwrap().id, a);
    assert!(store.images.find("nothing").unwrap().is_none());
    let removed = store.images.delete(&a).unwrap();
    assert_eq!(removed.untagged, [Reference::parse("a:latest").unwrap()]);
    assert_eq!(removed.chains, []);
    assert_eq!(
        left_in(&dir.path().join("layers/l")),
        1,
        "b has the same layer"
    );
    let layers = store.images.get(&b).unwrap().unwrap().diff_ids.clone();
    store.snapshots.prepare("c", &Base::Layers(layers)).unwrap();
    store.images.delete(&b).unwrap();
    assert_eq!(
        left_in(&dir.path().join("layers/l")),
        1,
        "a container has it"
    );
    store.snapshots.remove("c").unwrap();
    store.images.collect_layers().unwrap();
    assert_eq!(left_in(&dir.path().join("layers/l")), 0);
    assert_eq!(left_in(&dir.path().join("image/blobs/sha256")), 0);
}

/// A small tmpfs in a mount namespace of this thread alone.
#[test]
fn a_full_disk_is_told_and_nothing_half_made_stays() {
    let run = || {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        let dir = tempfile::tempdir().unwrap();
        // SAFETY: only this thread, which ends with the test, gets a mount namespace (and folder) of its own.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        mount(
            "tmpfs",
            dir.path(),
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=8m"),
        )
        .unwrap();
        let store = Store::open(dir.path()).unwrap();
        let small = import(&store, "small", b"1");
        let noise: Vec<u8> = (0..16_u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        // Too large as a blob; and small as a blob, too large unpacked.
        let tar = Tar::new().file("f", &noise).done();
        for tar in [
            tar.clone(),
            zstd::encode_all(&Tar::new().file("f", &vec![b'x'; 16 << 20]).done()[..], 1).unwrap(),
        ] {
            let Err(StoreError::Io { source, .. }) = unpack(&store, &tar) else {
                panic!("a full disk is an I/O error");
            };
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            assert_eq!(left_in(&dir.path().join("tmp")), 0);
            assert_eq!(left_in(&dir.path().join("layers/l")), 1);
        }
        assert!(store.images.get(&small).unwrap().is_some());
        store.images.delete(&small).unwrap();
        drop(store);
        rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn a_second_daemon_is_refused_and_leftovers_are_collected() {
    let (dir, first) = store();
    import(&first, "a", b"1");
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::Locked(_))
    ));
    drop(first);
    std::fs::create_dir_all(dir.path().join("tmp/9/x")).unwrap();
    let stray = Digest::of(b"stray");
    std::fs::create_dir_all(dir.path().join("layers/l").join(stray.hex())).unwrap();
    std::fs::write(dir.path().join("image/blobs/sha256").join(stray.hex()), "x").unwrap();
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.images.find("a").unwrap().unwrap().tags.len(), 1);
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
    assert_eq!(left_in(&dir.path().join("layers/l")), 1);
    // The configuration: the layer's blob is not kept.
    assert_eq!(left_in(&dir.path().join("image/blobs/sha256")), 1);
}

#[test]
fn other_users_of_the_host_do_not_get_at_layers_blobs_and_records() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("made/by/open");
    let store = Store::open(&root).unwrap();
    store.database.put("container", "x", "{}").unwrap();
    let mode = |name: &str| root.join(name).metadata().unwrap().mode() & 0o777;
    assert_eq!(mode("."), 0o711);
    for private in ["layers", "image", "tmp"] {
        assert_eq!(mode(private), 0o700, "{private}");
    }
    for private in ["gantry.db", "gantry.db-wal", "gantry.db-shm", "lock"] {
        assert_eq!(mode(private), 0o600, "{private}");
    }
    // A data root of an older version is closed, too.
    drop(store);
    for open in ["layers", "gantry.db"] {
        std::fs::set_permissions(root.join(open), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let _store = Store::open(&root).unwrap();
    assert_eq!((mode("layers"), mode("gantry.db")), (0o700, 0o600));
}

#[test]
fn a_start_neither_stumbles_over_foreign_files_nor_forgets_images_of_an_unreadable_disk() {
    let (dir, first) = store();
    let id = import(&first, "a", b"1");
    drop(first);
    let layers = dir.path().join("layers/l");
    std::fs::create_dir(layers.join("lost+found")).unwrap();
    // A configuration that is there and cannot be read.
    let config = dir.path().join("image/blobs/sha256").join(id.hex());
    let bytes = std::fs::read(&config).unwrap();
    std::fs::remove_file(&config).unwrap();
    std::fs::create_dir(&config).unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::Io { .. })
    ));
    std::fs::remove_dir(&config).unwrap();
    std::fs::write(&config, bytes).unwrap();
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.images.find("a").unwrap().unwrap().id, id);
    assert_eq!(left_in(&layers), 2);
}

/// Images come and go while containers are made of them: a container that was made has its layers.
#[test]
fn no_layer_goes_from_under_a_container() {
    let (_dir, store) = store();
    let tar = Tar::new().file("f", b"1").done();
    let made = std::sync::atomic::AtomicUsize::new(0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(order) {
                let config = ImageConfig::default();
                let id = archive::import(&store, &mut &tar[..], config).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(500));
                store.images.delete(&id).unwrap();
            }
        });
        let begun = std::time::Instant::now();
        for n in 0.. {
            if made.load(order) >= 5 || begun.elapsed().as_secs() > 20 {
                break;
            }
            for image in store.images.all().unwrap() {
                let id = format!("c{n}");
                match store
                    .snapshots
                    .prepare(&id, &Base::Layers(image.diff_ids.clone()))
                {
                    Ok(()) => {
                        made.fetch_add(1, order);
                        let mount = store.snapshots.mount(&id, true).unwrap();
                        assert!(at(&mount).join("f").exists());
                        drop(mount);
                        store.snapshots.remove(&id).unwrap();
                    }
                    Err(error) => assert!(matches!(error, StoreError::NotFound(_)), "{error}"),
                }
            }
        }
        stop.store(true, order);
    });
    assert!(made.load(order) >= 5);
}
