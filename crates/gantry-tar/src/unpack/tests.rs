use super::*;
use crate::pack::{self, Packer};
use crate::writer::TarWriter;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

fn options() -> Options {
    Options {
        keep_kind: true,
        owner: Owner::Archive,
        links: Links::Inside,
        rename: None,
    }
}

fn entry(kind: Kind, path: &str, link: &str) -> Entry {
    let own = rustix::process::geteuid().as_raw();
    Entry {
        kind,
        path: path.as_bytes().to_vec(),
        link: link.as_bytes().to_vec(),
        mode: 0o644,
        uid: own,
        gid: own,
        time: (1_000_000_000, 0),
        device: (1, 3),
        xattrs: Vec::new(),
        size: if kind == Kind::File { 2 } else { 0 },
        segments: None,
    }
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for entry in entries {
        tar.entry(entry).unwrap();
        tar.data(&b"hi"[..entry.size as usize]).unwrap();
    }
    tar.finish().unwrap()
}

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn put(root: &Path, dest: &str, bytes: &[u8], options: &Options) -> Result<()> {
    let dir = root.join(dest.trim_start_matches('/'));
    let dir = Root::new(open(&dir));
    unpack(&mut &bytes[..], &dir, dest.as_bytes(), options)
}

/// `root` in a folder with a canary beside it.
fn place() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("root/tmp")).unwrap();
    std::fs::write(dir.path().join("canary"), "alive").unwrap();
    let root = dir.path().join("root");
    (dir, root)
}

#[test]
fn what_hostile_archives_ask_for() {
    let outside = "invalid entry name";
    let not_there = "linkat a: no such file or directory";
    let cases: &[(&[Entry], &str)] = &[
        (&[entry(Kind::File, "../canary", "")], outside),
        (&[entry(Kind::File, "..", "")], outside),
        (&[entry(Kind::File, "a/../../../canary", "")], outside),
        (&[entry(Kind::File, "/../canary", "")], outside),
        (&[entry(Kind::Dir, "../x/", "")], outside),
        (
            &[entry(Kind::Link, "a", "../../canary")],
            "invalid hardlink target \"../../canary\"",
        ),
        (&[entry(Kind::Link, "a", "..")], "invalid hardlink"),
        (&[entry(Kind::Link, "a", "/")], "invalid hardlink"),
        (&[entry(Kind::Link, "a", "none")], not_there),
        (
            &[
                entry(Kind::Symlink, "a", "../../canary"),
                entry(Kind::Link, "b", "a/x"),
            ],
            "linkat b:",
        ),
        (&[entry(Kind::File, ".", "")], ""),
        (&[entry(Kind::File, "a\0b", "")], ""),
        (
            &[entry(Kind::Dir, "a", ""), entry(Kind::File, "a", "")],
            "cannot overwrite directory \"a\" with non-directory \"/tmp\"",
        ),
        (
            &[entry(Kind::File, "a", ""), entry(Kind::Dir, "a", "")],
            "cannot overwrite non-directory \"a\" with directory \"/tmp\"",
        ),
        (
            &[entry(Kind::File, "a", ""), entry(Kind::File, "a/b", "")],
            "openat a/b: not a directory",
        ),
    ];
    for (entries, words) in cases {
        let (dir, root) = place();
        let result = put(&root, "/tmp", &archive(entries), &options());
        let told = result.map_or_else(|e| e.to_string(), |()| String::new());
        assert!(told.contains(words), "{entries:?}: {told:?}");
        let beside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(beside.len(), 2, "{entries:?}");
        let canary = std::fs::read_to_string(dir.path().join("canary")).unwrap();
        assert_eq!(canary, "alive");
        let in_root: Vec<_> = std::fs::read_dir(&root).unwrap().collect();
        assert_eq!(in_root.len(), 1, "{entries:?}");
    }
}

#[test]
fn links_in_the_archive_lead_nowhere_but_into_the_directory() {
    let (dir, root) = place();
    let outside = dir.path().to_string_lossy().into_owned();
    let bytes = archive(&[
        entry(Kind::Symlink, "way", &outside),
        entry(Kind::File, "way/canary", ""),
        entry(Kind::Symlink, "up", "../../.."),
        entry(Kind::File, "up/canary", ""),
    ]);
    // The links' targets are paths of the directory's, made where they are not there.
    put(&root, "/tmp", &bytes, &options()).unwrap();
    let inner = root.join("tmp").join(outside.trim_start_matches('/'));
    for made in [inner.join("canary"), root.join("tmp/canary")] {
        assert_eq!(std::fs::read_to_string(made).unwrap(), "hi");
    }
    assert!(!root.join("canary").exists());
    let canary = std::fs::read_to_string(dir.path().join("canary")).unwrap();
    assert_eq!(canary, "alive");
}

#[test]
fn behind_a_link_nothing_is_unpacked_on_the_clients_side() {
    let (dir, root) = place();
    let nowhere = Options {
        links: Links::Nowhere,
        owner: Owner::Unpacker,
        ..options()
    };
    symlink(dir.path(), root.join("way")).unwrap();
    let bytes = archive(&[entry(Kind::File, "way/canary", "")]);
    let told = put(&root, "/", &bytes, &nowhere).unwrap_err().to_string();
    assert!(told.contains("behind a link"), "{told}");
    let bytes = archive(&[
        entry(Kind::Symlink, "inner", "tmp"),
        entry(Kind::File, "inner/x", ""),
    ]);
    assert!(put(&root, "/", &bytes, &nowhere).is_err());
    let canary = std::fs::read_to_string(dir.path().join("canary")).unwrap();
    assert_eq!(canary, "alive");
}

#[test]
fn broken_archives_are_told_in_gos_words() {
    let (_dir, root) = place();
    let told = |bytes: &[u8]| {
        put(&root, "/tmp", bytes, &options())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        told(&b"nope".repeat(300)),
        "archive/tar: invalid tar header"
    );
    let whole = archive(&[entry(Kind::File, "a", "")]);
    assert_eq!(told(&whole[..513]), "unexpected EOF");
    assert_eq!(told(&whole[..100]), "unexpected EOF");
}

#[test]
fn kinds_change_where_that_is_allowed() {
    let (_dir, root) = place();
    let lax = Options {
        keep_kind: false,
        ..options()
    };
    std::fs::create_dir_all(root.join("tmp/a/deep/er")).unwrap();
    put(&root, "/tmp", &archive(&[entry(Kind::File, "a", "")]), &lax).unwrap();
    assert!(root.join("tmp/a").is_file());
    put(&root, "/tmp", &archive(&[entry(Kind::Dir, "a", "")]), &lax).unwrap();
    assert!(root.join("tmp/a").is_dir());
    let renaming = Options {
        rename: Some((b"a".to_vec(), b"z".to_vec())),
        ..options()
    };
    let tree = [
        entry(Kind::File, "a/b", ""),
        entry(Kind::Link, "a/c", "a/b"),
    ];
    put(&root, "/tmp", &archive(&tree), &renaming).unwrap();
    assert_eq!(std::fs::metadata(root.join("tmp/z/c")).unwrap().nlink(), 2);
}

#[track_caller]
fn same(one: &Path, other: &Path) {
    let (one, other) = (listing(one), listing(other));
    let differing = one.iter().zip(&other).filter(|(a, b)| a != b);
    assert_eq!(differing.collect::<Vec<_>>(), []);
    assert_eq!(one.len(), other.len());
}

/// Everything of a tree that an archive keeps.
fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(place) = ahead.pop() {
        for file in std::fs::read_dir(&place).unwrap() {
            let path = file.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = match meta.file_type() {
                kind if kind.is_symlink() => format!("{:?}", path.read_link().unwrap()),
                kind if kind.is_file() => {
                    let bytes = std::fs::read(&path).unwrap();
                    let sum: u64 = bytes.iter().map(|b| u64::from(*b)).sum();
                    format!("{} bytes, sum {sum}", bytes.len())
                }
                kind => format!("{} {}", kind.is_fifo(), kind.is_char_device()),
            };
            let mut value = [0_u8; 64];
            let xattr = rustix::fs::lgetxattr(&path, "user.test", &mut value[..]).ok();
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            lines.push(format!(
                "{:?} {:o} {links} {} {} {xattr:?} {content}",
                path.strip_prefix(dir).unwrap(),
                meta.mode(),
                meta.mtime(),
                meta.rdev()
            ));
            if meta.is_dir() {
                ahead.push(path);
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_tree_goes_in_and_comes_out() {
    let from = tempfile::tempdir().unwrap();
    let tree = from.path();
    let odd = OsStr::from_bytes(b"not \xff UTF-8\n");
    std::fs::create_dir_all(tree.join("d/e").join(odd)).unwrap();
    std::fs::write(tree.join("d/file"), "content").unwrap();
    std::fs::hard_link(tree.join("d/file"), tree.join("d/zlink")).unwrap();
    symlink("../nowhere", tree.join("d/broken")).unwrap();
    let long = "n".repeat(200);
    std::fs::write(tree.join("d").join(&long), [0; 70_000]).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 5 << 20).unwrap();
    sparse.set_len(6 << 20).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    let fifo = tree.join("fifo");
    mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
    let setuid = Mode::from_raw_mode(0o4755);
    rustix::fs::chmod(tree.join("d/file"), setuid).unwrap();
    let none = XattrFlags::empty();
    let _ = rustix::fs::lsetxattr(tree.join("d/e"), "user.test", b"value", none);
    // Deeper than descriptors are kept open.
    let mut deep = tree.join("deep");
    for _ in 0..100 {
        deep.push("x");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("bottom"), "b").unwrap();
    std::fs::write(tree.join("deep/after"), "a").unwrap();

    let mut packer = Packer::new(Vec::new(), pack::Options::default());
    packer.directory(open(tree), b"./").unwrap();
    let bytes = packer.finish().unwrap();
    let to = tempfile::tempdir().unwrap();
    put(to.path(), "/", &bytes, &options()).unwrap();
    same(to.path(), tree);
    let meta = std::fs::metadata(to.path().join("sparse")).unwrap();
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    // Once more over itself: everything is replaced.
    put(to.path(), "/", &bytes, &options()).unwrap();
    same(to.path(), tree);
}

#[test]
fn a_swapped_directory_is_not_left_by_its_link() {
    let (dir, root) = place();
    let canary = dir.path().join("secret");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("file"), "host").unwrap();
    std::fs::create_dir_all(root.join("tmp/d")).unwrap();
    std::fs::create_dir_all(root.join("tmp/real")).unwrap();
    std::fs::write(root.join("tmp/real/file"), "mine").unwrap();
    symlink(&canary, root.join("tmp/link")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |a: &str, b: &str| {
                let (a, b) = (root.join("tmp").join(a), root.join("tmp").join(b));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(rustix::fs::CWD, a, rustix::fs::CWD, b, flags);
            };
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                swap("real", "link");
            }
        });
        let lax = Options {
            keep_kind: false,
            ..options()
        };
        let bytes = archive(&[
            entry(Kind::File, "real/file", ""),
            entry(Kind::File, "link/file", ""),
        ]);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(1);
        while std::time::Instant::now() < end {
            let _ = put(&root, "/tmp", &bytes, &lax);
            let mut packer = Packer::new(Vec::new(), pack::Options::default());
            let tmp = open(&root.join("tmp"));
            packer.directory(tmp, b"./").unwrap();
            let packed = packer.finish().unwrap();
            assert!(!packed.windows(4).any(|w| w == b"host"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let kept = std::fs::read_to_string(canary.join("file")).unwrap();
    assert_eq!(kept, "host");
}
