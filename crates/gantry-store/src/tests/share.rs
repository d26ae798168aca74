//! Files that several layers have, stored once.

use super::drivers::on_btrfs;
use super::{Tar, left_in, unpack};
use crate::{Options, Store};
use gantry_oci::Digest;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tar::EntryType;

fn open(dir: &Path, boot: &str) -> Store {
    let options = Options {
        dedupe: true,
        boot_id: Some(boot.to_owned()),
        ..Options::default()
    };
    Store::open_with(dir, &options).unwrap()
}

fn names(dir: &Path) -> usize {
    let pool = std::fs::read_dir(dir.join("layers/f")).unwrap();
    pool.map(|entry| left_in(&entry.unwrap().path())).sum()
}

fn inode(store: &Store, layer: &Digest, file: &str) -> u64 {
    store
        .layers
        .path(layer)
        .join(file)
        .metadata()
        .unwrap()
        .ino()
}

fn rebuilt(store: &Store, layer: &Digest) -> Vec<u8> {
    let mut tar = Vec::new();
    store.layers.write_tar(layer, &mut tar).unwrap();
    tar
}

#[test]
fn files_of_several_layers_are_one_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "first");
    let lease = store.layers.lease();
    let big = vec![b'x'; 100_000];
    let one = Tar::new()
        .file("a/big", &big)
        .file("twin", &big)
        .file("own", b"one")
        .file("again", b"first")
        .file("again", b"second")
        .done();
    let other = Tar::new()
        .file("elsewhere/big", &big)
        .add(b"mode", EntryType::Regular, 0o600, None, &big)
        .file("again", b"first")
        .add(b"hard", EntryType::Link, 0o644, Some("elsewhere/big"), b"")
        .file("own", b"two")
        .done();
    let (a, b) = (
        unpack(&store, &one).unwrap().diff_id,
        unpack(&store, &other).unwrap().diff_id,
    );
    assert_eq!(
        inode(&store, &a, "a/big"),
        inode(&store, &b, "elsewhere/big")
    );
    assert_eq!(
        inode(&store, &b, "hard"),
        inode(&store, &b, "elsewhere/big")
    );
    assert_ne!(
        inode(&store, &a, "a/big"),
        inode(&store, &a, "twin"),
        "not within a layer"
    );
    assert_ne!(
        inode(&store, &a, "a/big"),
        inode(&store, &b, "mode"),
        "another mode"
    );
    for (layer, tar) in [(&a, &one), (&b, &other)] {
        assert_eq!(&rebuilt(&store, layer), tar);
        assert!(
            !dir.path()
                .join("layers/r")
                .join(layer.hex())
                .join("files")
                .exists()
        );
    }
    // What one layer's end frees is what the other one has not.
    let freed = crate::usage::of_shared_tree(&store.layers.path(&a)).unwrap();
    let all = crate::usage::of_tree(&store.layers.path(&a)).unwrap();
    assert!(
        all - freed >= 100_000 && freed >= 100_000,
        "{freed} of {all}"
    );
    drop(lease);
    let lease = store.layers.lease();
    store.layers.get(&b).unwrap();
    store.images.collect_layers().unwrap();
    assert_eq!(rebuilt(&store, &b), other);
    assert!(!store.layers.path(&a).exists());
    assert_eq!(
        names(dir.path()),
        4,
        "big, with another mode, and the two of b alone"
    );
    drop(lease);
    store.images.collect_layers().unwrap();
    assert_eq!(names(dir.path()), 0);
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
}

#[test]
fn nobody_shares_with_a_file_that_a_power_cut_may_have_broken() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "first");
    let tar = Tar::new().file("f", &[1; 9000]).done();
    let lease = store.layers.lease();
    let layer = unpack(&store, &tar).unwrap().diff_id;
    assert_eq!(names(dir.path()), 1);
    let file = store.layers.path(&layer).join("f");
    drop(store);
    std::mem::forget(lease);
    std::fs::write(&file, [0; 9000]).unwrap();
    // The lease holds the lock of a store that is gone in truth.
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", "--"])
        .arg(dir.path().join("."))
        .arg(copy.path())
        .status();
    assert!(copied.unwrap().success());
    let store = open(copy.path(), "second");
    assert_eq!(names(copy.path()), 0);
    let _lease = store.layers.lease();
    let again = Tar::new().file("g", &[1; 9000]).done();
    let layer = unpack(&store, &again).unwrap().diff_id;
    assert_eq!(rebuilt(&store, &layer), again);
}

#[test]
fn reflinks_share_blocks_unasked() {
    on_btrfs(|place| {
        let root = place.join("root");
        let store = Store::open(&root).unwrap();
        let _lease = store.layers.lease();
        let noise: Vec<u8> = (0..16_u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let used = || {
            rustix::fs::sync();
            let stat = rustix::fs::statvfs(place).unwrap();
            (stat.f_blocks - stat.f_bfree) * stat.f_frsize
        };
        let mut layers = Vec::new();
        let mut before = 0;
        for mode in [0o644, 0o4755, 0o600] {
            let tar = Tar::new()
                .add(b"f", EntryType::Regular, mode, None, &noise)
                .done();
            layers.push((unpack(&store, &tar).unwrap().diff_id, mode, tar));
            if layers.len() == 1 {
                before = used();
            }
        }
        let more = used().saturating_sub(before);
        assert!(more < 4 << 20, "{more} bytes for two more of 16 MB");
        for (layer, mode, tar) in &layers {
            let meta = store.layers.path(layer).join("f").metadata().unwrap();
            assert_eq!(
                (meta.mode() & 0o7777, meta.uid(), meta.mtime()),
                (*mode, 7, 1_000_000)
            );
            assert_eq!(&rebuilt(&store, layer), tar);
        }
    });
}

#[test]
fn links_are_for_overlay_alone() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        dedupe: true,
        storage_driver: Some("vfs".into()),
        ..Options::default()
    };
    let refused = Store::open_with(dir.path(), &options)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("only with overlay2"), "{refused}");
}
