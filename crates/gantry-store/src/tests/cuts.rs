//! The store's process ends between any two of its writes, and the machine's power may go with it: the next start opens,
//! lists and collects, and what it lists is whole.
//!
//! The work is done by a process of its own under strace(1), which kills it at the n-th writing system call of a thread,
//! for one n after the other; with `$GANTRY_TEST_EVERY_CUT` for each one.

use super::{Tar, import};
use crate::archive;
use crate::commit::{Commit, commit};
use crate::database::Database;
use crate::layers::Expected;
use crate::snapshots::Base;
use crate::{Options, Store};
use gantry_oci::{Digest, Reference};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const ROOT: &str = "GANTRY_TEST_STORE";
/// Calls that change what is on the disk.
const WRITES: &str = "write,pwrite64,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,ftruncate,\
    fsync,fdatasync,syncfs,mknodat,fsetxattr";

/// A bit of all that a store does.
fn work(store: &Store) {
    let a = import(store, "a", b"first");
    let base = store.images.get(&a).unwrap().unwrap().diff_ids.clone();
    store
        .snapshots
        .prepare("c1", &Base::Layers(base.clone()))
        .unwrap();
    let upper = store.snapshots.describe("c1");
    let upper = &upper.iter().find(|(name, _)| name == "UpperDir").unwrap().1;
    std::fs::write(Path::new(upper).join("changed"), "c").unwrap();
    let made = Commit {
        base: base.clone(),
        parent: Some(a.clone()),
        ..Commit::default()
    };
    let made = commit(store, "c1", made).unwrap();
    store
        .images
        .tag(&Reference::parse("made").unwrap(), &made)
        .unwrap();
    let mut saved = Vec::new();
    let name = Reference::parse("made:latest").unwrap();
    archive::save(store, &[(made.clone(), vec![name])], &mut saved).unwrap();
    store.images.delete(&made).unwrap();
    archive::load(store, &mut &saved[..], &|_, _| {}).unwrap();
    // A layer that comes in two parts.
    let tar = Tar::new().file("d/f", &[7; 9000]).file("g", b"g").done();
    let expected = Expected {
        blob: Some(Digest::of(&tar)),
        size: Some(tar.len() as u64),
        diff_id: None,
    };
    let lease = store.layers.lease();
    let half = tar[..tar.len() / 2].to_vec();
    let broken = store.layers.receive(&expected, &mut |offset| {
        Ok(Box::new(std::io::Cursor::new(
            half.get(offset as usize..).unwrap_or_default().to_vec(),
        )))
    });
    // All of it may be there already, from the time before.
    drop(broken);
    let whole = tar.clone();
    let received = store.layers.receive(&expected, &mut |offset| {
        Ok(Box::new(std::io::Cursor::new(
            whole[offset as usize..].to_vec(),
        )))
    });
    received.unwrap();
    drop(lease);
    store.images.delete(&a).unwrap();
    store.snapshots.remove("c1").unwrap();
    store.images.collect_layers().unwrap();
}

/// Started by the tests below, as a process of its own.
#[test]
fn the_work_that_is_cut() {
    if let Ok(root) = std::env::var(ROOT) {
        work(&under(Path::new(&root), "first"));
    }
}

fn under(root: &Path, boot: &str) -> Store {
    let options = Options {
        boot_id: Some(boot.to_owned()),
        ..Options::default()
    };
    Store::open_with(root, &options).unwrap()
}

/// Whether the work came to its end before its `n`-th write.
fn cut_at(root: &Path, n: usize) -> bool {
    let trace = format!("trace={WRITES}");
    let inject = format!("inject={WRITES}:signal=SIGKILL:when={n}");
    let ran = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::cuts::the_work_that_is_cut",
            "--test-threads=1",
        ])
        .env(ROOT, root)
        .output()
        .expect("strace is needed");
    if !ran.status.success() {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(ran.status.signal(), Some(9), "{ran:?}");
    }
    ran.status.success()
}

/// What a power cut may do to files that were never synced: their names are there, their content is not.
fn lose_content(root: &Path) {
    let Ok(database) = Database::open(&root.join("gantry.db")) else {
        return;
    };
    let marked = database.pairs("SELECT diff_id, boot FROM layer_tar WHERE boot <> ''", []);
    for (diff_id, _) in marked.unwrap() {
        let hex = Digest::parse(&diff_id).unwrap().hex().to_owned();
        for dir in ["layers/l", "layers/r"] {
            empty(&root.join(dir).join(&hex));
        }
    }
    empty(&root.join("partial"));
    empty(&root.join("tmp"));
}

/// Cuts every second file below a folder to nothing.
fn empty(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for (n, entry) in entries.flatten().enumerate() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            empty(&entry.path());
        } else if kind.is_file() && n % 2 == 0 {
            std::fs::File::options()
                .write(true)
                .open(entry.path())
                .unwrap()
                .set_len(0)
                .unwrap();
        }
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// All that is listed is whole, and nothing else is there.
fn check(root: &Path, boot: &str) {
    let store = under(root, boot);
    let mut used = BTreeSet::new();
    let mut documents = BTreeSet::new();
    for image in store.images.all().unwrap() {
        documents.insert(image.id.hex().to_owned());
        documents.extend(
            image
                .digests
                .iter()
                .filter_map(|d| Some(d.digest.as_ref()?.hex().to_owned())),
        );
        for layer in &image.diff_ids {
            store.layers.write_tar(layer, &mut std::io::sink()).unwrap();
            used.insert(layer.hex().to_owned());
        }
        for tag in &image.tags {
            assert_eq!(
                store.images.find(&tag.to_string()).unwrap().unwrap().id,
                image.id
            );
        }
    }
    let containers = store.snapshots.list().unwrap();
    for id in &containers {
        // The engine removes what belongs to no container; one that is recorded has its layers.
        if store.snapshots.mount(id, true).is_ok() {
            let rows = store
                .database
                .pairs("SELECT id, base FROM snapshot WHERE id = ?", [id]);
            let base: Base = serde_json::from_str(&rows.unwrap()[0].1).unwrap();
            if let Base::Layers(layers) = base {
                used.extend(layers.iter().map(|layer| layer.hex().to_owned()));
            }
        }
        store.snapshots.remove(id).unwrap();
    }
    assert_eq!(names(&root.join("layers/l")), used);
    assert_eq!(names(&root.join("layers/r")), used);
    assert_eq!(names(&root.join("image/blobs/sha256")), documents);
    assert_eq!(names(&root.join("tmp")), BTreeSet::new());
    // And it goes on.
    work(&store);
    store.layers.remove_partial(true).unwrap();
    for image in store.images.all().unwrap() {
        store.images.delete(&image.id).unwrap();
    }
    for dir in [
        "layers/l",
        "layers/r",
        "layers/overlay2/c",
        "image/blobs/sha256",
        "partial",
        "tmp",
    ] {
        assert_eq!(names(&root.join(dir)), BTreeSet::new(), "{dir}");
    }
}

#[test]
fn a_process_that_ends_between_any_two_writes() {
    let dir = tempfile::tempdir().unwrap();
    let every = std::env::var_os("GANTRY_TEST_EVERY_CUT").is_some();
    let mut n = 1;
    let mut runs = 0;
    loop {
        let root = dir.path().join(n.to_string());
        let ended = cut_at(&root, n);
        let boot = match n % 3 {
            0 => "first",
            _ => {
                lose_content(&root);
                "second"
            }
        };
        if n % 3 == 2 {
            // The last transactions were never synced.
            for suffix in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(root.join(format!("gantry.db{suffix}")));
            }
        }
        let root_made = root.exists();
        if root_made {
            check(&root, boot);
            std::fs::remove_dir_all(&root).unwrap();
        }
        runs += 1;
        if ended {
            break;
        }
        // Each of the first ones, in which the data root is made; of the others as many as time allows.
        n += if every || n < 40 { 1 } else { 5 };
    }
    assert!(runs > 50, "{runs} cuts only");
}
