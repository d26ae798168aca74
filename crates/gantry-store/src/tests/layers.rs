//! Layers without their blobs: written again, received in parts, protected by leases, read after a power cut.

use super::{Tar, import, left_in, store, unpack};
use crate::layers::Expected;
use crate::{Options, Store, StoreError};
use gantry_oci::{Digest, media_type};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tar::EntryType;

fn rebuilt(store: &Store, diff_id: &Digest) -> Vec<u8> {
    let mut tar = Vec::new();
    store.layers.write_tar(diff_id, &mut tar).unwrap();
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

/// What makes an archive hard to write again: names that come twice, folders and links that are replaced, links on the
/// way, bytes that belong to nobody.
fn awkward() -> Vec<u8> {
    let long = vec![b'n'; 200];
    let mut tar = Tar::new()
        .dir("d/")
        .file("d/f", b"first")
        .add(b"d/hard", EntryType::Link, 0o644, Some("d/f"), b"")
        .file("d/f", b"second, longer")
        .add(b"way", EntryType::Symlink, 0o777, Some("d"), b"")
        .file("way/through", b"by a link")
        .file("d/through", b"and directly")
        .add(b"way", EntryType::Symlink, 0o777, Some("e"), b"")
        .file("e/x", b"kept")
        .file("way/x", b"replaced through a link")
        .dir("tree/")
        .file("tree/a", &[7; 100_000])
        .file("tree/b/c", b"deep")
        .add(b"tree", EntryType::Regular, 0o600, None, b"a file now")
        .dir("tree/")
        .file("tree/a", b"and a folder again")
        .add(&long, EntryType::Regular, 0o600, None, b"long")
        .file("zeros", &vec![0; 1 << 20])
        .file("d/.wh.gone", b"whiteouts may have bytes")
        .add(b"volume", EntryType::new(b'V'), 0o600, None, &[9; 2000])
        .file("empty", b"")
        .done();
    tar.extend_from_slice(b"what comes after the end is hashed, too");
    tar
}

#[test]
fn awkward_archives_are_written_again_byte_by_byte() {
    let (dir, store) = store();
    let tar = awkward();
    let layer = unpack(&store, &tar).unwrap();
    assert_eq!(rebuilt(&store, &layer.diff_id), tar);
    assert_eq!(
        store.layers.tar_size(&layer.diff_id).unwrap(),
        tar.len() as u64
    );
    let tree = store.layers.path(&layer.diff_id);
    assert_eq!(std::fs::read(tree.join("d/hard")).unwrap(), b"first");
    assert_eq!(std::fs::read(tree.join("d/f")).unwrap(), b"second, longer");
    assert_eq!(
        std::fs::read(tree.join("tree/a")).unwrap(),
        b"and a folder again"
    );
    assert_eq!(left_in(&dir.path().join("image/blobs/sha256")), 0);
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
}

#[test]
fn what_gnu_tar_writes_is_written_again() {
    let (dir, store) = store();
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    std::fs::write(tree.join("n".repeat(150)), "long").unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix"],
        &["--format=posix", "--sparse-version=0.1"],
    ] {
        let made = std::process::Command::new("tar")
            .args(["-C", tree.to_str().unwrap(), "-S", "-c"])
            .args(format)
            .arg(".")
            .output()
            .unwrap();
        assert!(made.status.success());
        let layer = unpack(&store, &gzip(&made.stdout)).unwrap();
        assert_eq!(rebuilt(&store, &layer.diff_id), made.stdout, "{format:?}");
    }
}

#[test]
fn a_layer_that_was_changed_on_disk_is_not_written() {
    let (_dir, store) = store();
    let layer = unpack(&store, &Tar::new().file("f", b"hello").done()).unwrap();
    let file = store.layers.path(&layer.diff_id).join("f");
    std::fs::write(&file, b"jello").unwrap();
    let written = store.layers.write_tar(&layer.diff_id, &mut io::sink());
    assert!(
        matches!(written, Err(StoreError::DigestMismatch { .. })),
        "{written:?}"
    );
    // A link is not followed to files of the host.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    let written = store.layers.write_tar(&layer.diff_id, &mut io::sink());
    assert!(matches!(written, Err(StoreError::Io { .. })), "{written:?}");
}

#[test]
fn blobs_are_kept_where_that_is_wished() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        keep_blobs: true,
        ..Options::default()
    };
    let store = Store::open_with(dir.path(), &options).unwrap();
    let tar = Tar::new().file("f", b"hello").done();
    let blob = gzip(&tar);
    let layer = unpack(&store, &blob).unwrap();
    assert_eq!(layer.blob, Digest::of(&blob));
    let mut kept = Vec::new();
    let file = store.layers.blob_file(&layer.blob).unwrap();
    file.unwrap().read_to_end(&mut kept).unwrap();
    assert_eq!(kept, blob);
    let expected = expected(&blob);
    let other = store
        .layers
        .receive(&expected, &mut |_| unreachable_source())
        .unwrap_err();
    assert!(matches!(other, StoreError::Interrupted(_)));
    let received = store.layers.receive(&expected, &mut |offset| {
        Ok(Box::new(io::Cursor::new(blob[offset as usize..].to_vec())))
    });
    assert_eq!(received.unwrap(), layer);
    assert_eq!(left_in(&dir.path().join("partial")), 0);
    // A layer of the time when there were blobs and no recipes.
    std::fs::remove_dir_all(dir.path().join("layers/r").join(layer.diff_id.hex())).unwrap();
    assert_eq!(rebuilt(&store, &layer.diff_id), tar);
    drop(store);
    std::fs::create_dir(dir.path().join("layers/overlay2")).ok();
    let (now, before) = ("layers/l", "layers/overlay2/l");
    std::fs::rename(dir.path().join(now), dir.path().join(before)).unwrap();
    let store = Store::open(dir.path()).unwrap();
    // No image has it.
    assert!(store.layers.get(&layer.diff_id).unwrap().is_none());
    assert_eq!(left_in(&dir.path().join("layers/l")), 0);
}

fn unreachable_source() -> io::Result<Box<dyn Read + Send>> {
    Err(io::Error::other("no network"))
}

fn expected(blob: &[u8]) -> Expected {
    Expected {
        blob: Some(Digest::of(blob)),
        size: Some(blob.len() as u64),
        diff_id: None,
    }
}

/// Gives so many bytes, then breaks.
fn breaking(bytes: &[u8]) -> Box<dyn Read + Send> {
    struct Breaks;
    impl Read for Breaks {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    Box::new(io::Cursor::new(bytes.to_vec()).chain(Breaks))
}

#[test]
fn a_blob_goes_on_where_it_ended() {
    let (dir, store) = store();
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..4_000_000).map(|_| random()).collect();
    let tar = Tar::new().file("f", &noise).done();
    let blob = gzip(&tar);
    let (expected, cut) = (expected(&blob), blob.len() * 95 / 100);
    let mut asked = Vec::new();
    let broken = store.layers.receive(&expected, &mut |offset| {
        asked.push(offset);
        Ok(breaking(&blob[..cut]))
    });
    assert!(
        matches!(broken, Err(StoreError::Interrupted(_))),
        "{broken:?}"
    );
    let there = store.layers.received(&Digest::of(&blob));
    assert!(
        there <= cut as u64 && there + 10 > cut as u64,
        "{there} of {cut}"
    );
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
    // The next daemon goes on, too.
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let layer = store
        .layers
        .receive(&expected, &mut |offset| {
            asked.push(offset);
            Ok(Box::new(io::Cursor::new(blob[offset as usize..].to_vec())))
        })
        .unwrap();
    assert_eq!(asked, [0, there]);
    assert_eq!(rebuilt(&store, &layer.diff_id), tar);
    assert_eq!(left_in(&dir.path().join("partial")), 0);
}

#[test]
fn a_broken_part_is_fetched_again() {
    let (dir, store) = store();
    let blob = gzip(&Tar::new().file("f", b"hello").done());
    for there in [&[b'x'; 20][..], &blob, &vec![b'x'; blob.len() + 9]] {
        std::fs::write(
            dir.path().join("partial").join(Digest::of(&blob).hex()),
            there,
        )
        .unwrap();
        let mut asked = Vec::new();
        let received = store.layers.receive(&expected(&blob), &mut |offset| {
            asked.push(offset);
            Ok(Box::new(io::Cursor::new(blob[offset as usize..].to_vec())))
        });
        received.unwrap();
        let whole = there == blob;
        assert_eq!(asked.last(), (!whole).then_some(&0));
        assert_eq!(left_in(&dir.path().join("partial")), 0);
    }
    // What is wrong from its beginning is not kept.
    let wrong = Expected {
        blob: Some(Digest::of(b"else")),
        ..expected(&blob)
    };
    let received = store
        .layers
        .receive(&wrong, &mut |_| Ok(Box::new(io::Cursor::new(blob.clone()))));
    assert!(matches!(received, Err(StoreError::DigestMismatch { .. })));
    assert_eq!(left_in(&dir.path().join("partial")), 0);
}

#[test]
fn partial_blobs_go_after_a_week_or_when_asked() {
    let (dir, store) = store();
    let place = |name: &[u8]| dir.path().join("partial").join(Digest::of(name).hex());
    std::fs::write(place(b"new"), [1; 5000]).unwrap();
    std::fs::write(place(b"old"), [1; 5000]).unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    let file = std::fs::File::options()
        .write(true)
        .open(place(b"old"))
        .unwrap();
    file.set_modified(old).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(place(b"new").exists() && !place(b"old").exists());
    assert!(store.layers.remove_partial(true).unwrap() >= 5000);
    assert_eq!(left_in(&dir.path().join("partial")), 0);
}

#[test]
fn a_lease_protects_what_it_saw_and_nothing_older() {
    let (_dir, store) = store();
    let make = |text: &[u8]| {
        unpack(&store, &Tar::new().file("f", text).done())
            .unwrap()
            .diff_id
    };
    let there = |id: &Digest| store.layers.path(id).exists();
    let (old, found) = (make(b"old"), make(b"found"));
    let lease = store.layers.lease();
    let made = make(b"made");
    assert!(store.layers.get(&found).unwrap().is_some());
    store.images.collect_layers().unwrap();
    assert_eq!(
        [there(&old), there(&found), there(&made)],
        [false, true, true]
    );
    // A younger lease does not protect what only an older one saw, nor the other way round.
    let younger = store.layers.lease();
    let late = make(b"late");
    drop(lease);
    store.images.collect_layers().unwrap();
    assert_eq!(
        [there(&found), there(&made), there(&late)],
        [false, false, true]
    );
    drop(younger);
    store.images.collect_layers().unwrap();
    assert!(!there(&late));
}

fn under(dir: &Path, boot: &str) -> Store {
    let options = Options {
        boot_id: Some(boot.to_owned()),
        ..Options::default()
    };
    Store::open_with(dir, &options).unwrap()
}

fn marked(store: &Store) -> usize {
    let rows = store
        .database
        .pairs("SELECT diff_id, boot FROM layer_tar WHERE boot <> ''", []);
    rows.unwrap().len()
}

#[test]
fn layers_that_a_power_cut_broke_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = under(dir.path(), "first");
    let (whole, broken) = (
        import(&store, "whole", b"1"),
        import(&store, "broken", b"2"),
    );
    // The background may have been faster: as it is in the moment of the cut.
    while marked(&store) > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let settled = import(&store, "settled", b"3");
    let layer = |id: &Digest| store.images.get(id).unwrap().unwrap().diff_ids[0].clone();
    let (whole_layer, broken_layer) = (layer(&whole), layer(&broken));
    let mark = "UPDATE layer_tar SET boot = 'first' WHERE diff_id IN (?, ?)";
    let both = [whole_layer.as_str(), broken_layer.as_str()];
    let file = store.layers.path(&broken_layer).join("f");
    while marked(&store) > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    store.database.execute(mark, both).unwrap();
    drop(store);
    // Allocated, never written.
    std::fs::File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(0)
        .unwrap();
    // A crash of the daemon alone is none of the machine.
    let store = Store::open_with(
        dir.path(),
        &Options {
            boot_id: Some("first".into()),
            ..Options::default()
        },
    )
    .unwrap();
    assert_eq!(store.images.all().unwrap().len(), 3);
    let begun = Instant::now();
    while marked(&store) > 0 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    store.database.execute(mark, both).unwrap();
    drop(store);
    let store = under(dir.path(), "second");
    let mut there: Vec<Digest> = store
        .images
        .all()
        .unwrap()
        .into_iter()
        .map(|i| i.id.clone())
        .collect();
    let mut expected = vec![whole, settled];
    there.sort();
    expected.sort();
    assert_eq!(there, expected);
    assert!(store.images.find("broken").unwrap().is_none());
    assert!(!store.layers.path(&broken_layer).exists());
}

#[test]
fn what_a_layer_is_known_by() {
    let (_dir, store) = store();
    let tar = Tar::new().file("f", b"hello").done();
    let blob = gzip(&tar);
    let layer = unpack(&store, &blob).unwrap();
    let again = unpack(&store, &tar).unwrap();
    assert_eq!(layer, again);
    let known = store.layers.blobs_of(&layer.diff_id).unwrap();
    let types: Vec<_> = known
        .iter()
        .map(|b| (b.media_type.as_str(), b.size))
        .collect();
    assert_eq!(
        types,
        [
            (media_type::OCI_LAYER_GZIP, blob.len() as u64),
            (media_type::OCI_LAYER, tar.len() as u64)
        ]
    );
    for blob in &known {
        assert_eq!(store.layers.by_blob(&blob.digest).unwrap().unwrap(), layer);
        store
            .layers
            .add_source(&blob.digest, "localhost:5000/team/app")
            .unwrap();
        store
            .layers
            .add_source(&blob.digest, "localhost:5000/team/app")
            .unwrap();
        assert_eq!(
            store.layers.sources(&blob.digest).unwrap(),
            ["localhost:5000/team/app"]
        );
    }
    store
        .layers
        .remove_source(&known[0].digest, "localhost:5000/team/app")
        .unwrap();
    assert!(store.layers.sources(&known[0].digest).unwrap().is_empty());
    store.images.collect_layers().unwrap();
    assert!(store.layers.blobs_of(&layer.diff_id).unwrap().is_empty());
    assert!(store.layers.sources(&known[1].digest).unwrap().is_empty());
}
