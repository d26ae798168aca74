//! Archives that mean harm: one test for each way that the field has seen.

use super::archives::archived;
use super::{Tar, left_in, store, unpack};
use crate::layers::{Expected, Swelling};
use crate::{Options, Store, StoreError, archive};
use gantry_oci::Digest;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tar::EntryType;

/// A layer is refused as invalid, and nothing of it stays.
fn refused(dir: &Path, store: &Store, tar: &[u8]) -> String {
    let error = unpack(store, tar).unwrap_err();
    assert!(matches!(error, StoreError::Invalid(_)), "{error:?}");
    nothing_left(dir);
    error.to_string()
}

fn nothing_left(dir: &Path) {
    for folder in ["tmp", "layers/l", "layers/r", "image/blobs/sha256"] {
        assert_eq!(left_in(&dir.join(folder)), 0, "{folder}");
    }
}

/// The layer's tree, after the very same tar was written from it.
fn tree(store: &Store, tar: &[u8]) -> std::path::PathBuf {
    let layer = unpack(store, tar).unwrap();
    let mut again = Vec::new();
    store.layers.write_tar(&layer.diff_id, &mut again).unwrap();
    assert_eq!(again, tar);
    store.layers.path(&layer.diff_id)
}

fn link(tar: Tar, path: &str, target: &str) -> Tar {
    tar.add(
        path.as_bytes(),
        EntryType::Symlink,
        0o777,
        Some(target),
        b"",
    )
}

fn hard(tar: Tar, path: &str, target: &str) -> Tar {
    tar.add(path.as_bytes(), EntryType::Link, 0o644, Some(target), b"")
}

#[test]
fn absolute_names_are_names_below_the_root() {
    let (_dir, store) = store();
    let tree = tree(
        &store,
        &Tar::new()
            .file("/etc/passwd", b"ours")
            .dir("//deep//er/")
            .file("///x", b"1")
            .done(),
    );
    assert_eq!(std::fs::read(tree.join("etc/passwd")).unwrap(), b"ours");
    assert!(tree.join("deep/er").is_dir() && tree.join("x").is_file());
}

#[test]
fn links_made_earlier_lead_nowhere_else() {
    let (dir, store) = store();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"host").unwrap();
    let target = outside.display().to_string();
    let up = format!("{}{target}", "../".repeat(12));
    for way in [target.as_str(), &up, "/proc/self/cwd", "/proc/1/root"] {
        let through = |rest: Tar| rest.done();
        for tar in [
            // A file, a folder, a device, a link and a whiteout by way of the link.
            through(link(Tar::new(), "l", way).file("l/new", b"x")),
            through(link(Tar::new(), "l", way).dir("l/d/")),
            through(link(Tar::new(), "l", way).add(b"l/null", EntryType::Char, 0o666, None, b"")),
            through(link(link(Tar::new(), "l", way), "l/m", "/")),
            through(link(Tar::new(), "l", way).file("l/.wh.secret", b"")),
            through(link(Tar::new(), "l", way).file("l/.wh..wh..opq", b"")),
            // A hard link to what is behind it.
            through(hard(link(Tar::new(), "l", way), "h", "l/secret")),
            // By two links, and by one in the place of a folder.
            through(link(link(Tar::new(), "a", "b"), "b", way).file("a/new", b"x")),
            through(link(Tar::new().dir("l/"), "l", way).file("l/new", b"x")),
        ] {
            match unpack(&store, &tar) {
                Ok(layer) => {
                    // What it made, it made inside.
                    let mut again = Vec::new();
                    store.layers.write_tar(&layer.diff_id, &mut again).unwrap();
                }
                Err(StoreError::Invalid(_)) => {}
                Err(error) => panic!("{way}: {error:?}"),
            }
            assert_eq!(left_in(&outside), 1, "{way}");
            assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"host");
        }
    }
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
}

#[test]
fn a_hard_link_to_a_link_is_the_link() {
    let (dir, store) = store();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, b"host").unwrap();
    let link = link(Tar::new(), "l", &secret.display().to_string());
    // What is written to the hard link's name must not go to where the link points.
    let tree = tree(&store, &hard(link, "h", "l").file("h", b"x").done());
    assert_eq!(std::fs::read(&secret).unwrap(), b"host");
    assert_eq!(std::fs::read(tree.join("h")).unwrap(), b"x");
    assert!(tree.join("l").is_symlink());
}

#[test]
fn the_last_of_names_that_come_twice_counts_whatever_it_was() {
    type Make = fn(Tar) -> Tar;
    let kinds: [(&str, Make); 6] = [
        ("file", |tar| tar.file("n", b"file")),
        ("dir", |tar| tar.dir("n/").file("n/in", b"in")),
        ("link", |tar| link(tar, "n", "other")),
        ("hard", |tar| hard(tar.file("of", b"of"), "n", "of")),
        ("char", |tar| {
            tar.add(b"n", EntryType::Char, 0o666, None, b"")
        }),
        ("fifo", |tar| {
            tar.add(b"n", EntryType::Fifo, 0o666, None, b"")
        }),
    ];
    let (_dir, store) = store();
    for (first, make_first) in &kinds {
        for (second, make_second) in &kinds {
            let tar = make_second(make_first(Tar::new())).done();
            let place = tree(&store, &tar).join("n");
            let found = place.symlink_metadata().unwrap().file_type();
            use std::os::unix::fs::FileTypeExt;
            let what = format!("{second} after {first}");
            match *second {
                "file" => assert_eq!(std::fs::read(&place).unwrap(), b"file", "{what}"),
                "dir" => assert!(place.join("in").is_file(), "{what}"),
                "link" => assert!(found.is_symlink(), "{what}"),
                "hard" => assert_eq!(std::fs::read(&place).unwrap(), b"of", "{what}"),
                "char" => assert!(found.is_char_device(), "{what}"),
                _ => assert!(found.is_fifo(), "{what}"),
            }
        }
    }
}

/// The first header's size field, with the check sum put right.
fn with_size(mut tar: Vec<u8>, field: &[u8; 12]) -> Vec<u8> {
    tar[124..136].copy_from_slice(field);
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|b| u32::from(*b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

#[test]
fn sizes_that_lie_are_found_out() {
    let (dir, store) = store();
    let tar = Tar::new().file("f", &[7; 2000]).file("g", b"after").done();
    let lies: [&[u8; 12]; 9] = [
        // More than the archive has.
        b"00000040000\0",
        b"77777777777\0",
        b"777777777777",
        // Less: the rest is no header.
        b"00000001000\0",
        b"00000000000\0",
        // Base 256: minus one, the smallest number, more than there are bytes in the world.
        &[0xff; 12],
        &[0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
        &[
            0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
        &[
            0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
    ];
    for lie in lies {
        let words = refused(dir.path(), &store, &with_size(tar.clone(), lie));
        assert!(words.contains("tar archive"), "{lie:?}: {words}");
    }
    let no_number = with_size(tar, b"12x45678901\0");
    refused(dir.path(), &store, &no_number);
}

#[test]
fn an_archive_that_ends_anywhere_is_whole_or_refused() {
    let (dir, store) = store();
    let tar = Tar::new().dir("d/").file("d/f", &[7; 1500]).done();
    // Between entries an archive may end, so what is there is checked against the digest that was expected.
    let expected = Expected {
        diff_id: Some(Digest::of(&tar)),
        ..Expected::default()
    };
    for end in (0..tar.len()).step_by(97) {
        assert!(store.layers.unpack(&mut &tar[..end], &expected).is_err());
    }
    let gzip = gzip(&tar);
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    for packed in [gzip, zstd] {
        // Up to what follows the data in the format: a gzip member's check sum is 8 bytes.
        for end in 5..packed.len() {
            let cut = store.layers.unpack(&mut &packed[..end], &expected);
            assert!(cut.is_err(), "{end} of {}", packed.len());
        }
    }
    nothing_left(dir.path());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

#[test]
fn a_bomb_is_stopped_long_before_it_is_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        swelling: Swelling {
            floor: 1 << 20,
            ratio: 100,
        },
        ..Options::default()
    };
    let store = Store::open_with(dir.path(), &options).unwrap();
    // Not zeros, which would become a hole.
    let tar = Tar::new().file("f", &[b'x'; 64 << 20]).done();
    for packed in [gzip(&tar), zstd::encode_all(&tar[..], 3).unwrap()] {
        let words = refused(dir.path(), &store, &packed);
        assert!(words.contains("max-unpack-ratio"), "{words}");
    }
    // An archive that is all headers.
    let headers = Tar::new().file("f", b"").done()[..512].repeat(20_000);
    let headers = zstd::encode_all(&headers[..], 3).unwrap();
    refused(dir.path(), &store, &headers);
    // What is large and honest comes in, and so does what is small, however well it packs.
    let mut noise = vec![0; 3 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    unpack(&store, &gzip(&Tar::new().file("f", &noise).done())).unwrap();
    unpack(
        &store,
        &gzip(&Tar::new().file("f", &[b'x'; 900_000]).done()),
    )
    .unwrap();
}

/// The same bytes, again and again, as if from a network.
struct Endless(&'static [u8], usize);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = buffer.len().min(self.0.len() - self.1);
        buffer[..n].copy_from_slice(&self.0[self.1..][..n]);
        self.1 = (self.1 + n) % self.0.len();
        Ok(n)
    }
}

#[test]
fn headers_without_an_end_take_no_memory() {
    let (dir, store) = store();
    let record = b"30 comment=nothing to say here\n";
    let mut pax = Tar::new();
    pax = pax.add(b"p", EntryType::XHeader, 0o644, None, &record[..]);
    let one: &'static [u8] = Box::leak(pax.done()[..1024].to_vec().into_boxed_slice());
    let before = resident();
    let mut endless = Endless(one, 0).take(300 << 20);
    let error = store.layers.unpack(&mut endless, &Expected::default());
    assert!(matches!(error, Err(StoreError::Invalid(_))), "{error:?}");
    assert!(resident() < before + (60 << 20), "{before} {}", resident());
    nothing_left(dir.path());
    // One record that says it is longer than any.
    let huge = Tar::new().add(b"p", EntryType::XHeader, 0o644, None, &vec![b'1'; 2 << 20]);
    refused(dir.path(), &store, &huge.file("f", b"x").done());
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn names_beyond_what_a_file_system_has_are_refused() {
    let (dir, store) = store();
    for name in ["n".repeat(256), "n".repeat(100_000), "n/".repeat(50_000)] {
        let begun = Instant::now();
        refused(dir.path(), &store, &Tar::new().file(&name, b"x").done());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    let name = "n".repeat(255);
    let tree = tree(&store, &Tar::new().file(&name, b"x").done());
    assert!(tree.join(name).is_file());
}

/// Docker's form of an archive.
fn docker_archive(diff_ids: &[String], names: &[String], layers: &[(&str, &[u8])]) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": archive::architecture(), "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["h:1"], "Layers": names}]);
    let (config, manifest) = (config.to_string(), manifest.to_string());
    let mut files = layers.to_vec();
    files.push(("c.json", config.as_bytes()));
    files.push(("manifest.json", manifest.as_bytes()));
    archived(&files)
}

fn load(store: &Store, archive: &[u8]) -> crate::Result<Vec<archive::Loaded>> {
    archive::load(store, &mut &*archive, &|_, _| {})
}

#[test]
fn an_image_of_ten_thousand_layers_is_refused() {
    let (dir, store) = store();
    let layer = Tar::new().file("f", b"x").done();
    let diff_ids = vec![Digest::of(&layer).to_string(); 10_000];
    let names = vec!["l.tar".to_owned(); 10_000];
    let begun = Instant::now();
    let error = load(
        &store,
        &docker_archive(&diff_ids, &names, &[("l.tar", &layer)]),
    )
    .unwrap_err();
    assert!(error.to_string().contains("10000 layers"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(store.images.all().unwrap().is_empty());
    nothing_left(dir.path());
}

#[test]
fn links_in_a_circle_are_no_layer() {
    let (dir, store) = store();
    let config = format!(
        r#"{{"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(b"x")
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":[],"Layers":["a/layer.tar"]}]"#;
    let mut tar = link(Tar::new(), "a/layer.tar", "../b/layer.tar");
    tar = link(tar, "b/layer.tar", "../a/layer.tar");
    let tar = tar
        .file("c.json", config.as_bytes())
        .file("manifest.json", manifest.as_bytes());
    let error = load(&store, &tar.done()).unwrap_err();
    assert!(error.to_string().contains("not in it"), "{error}");
    nothing_left(dir.path());
}

#[test]
fn indexes_in_indexes_come_to_an_end() {
    let (dir, store) = store();
    let index = |of: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{of}","size":1}}]}}"#
        )
    };
    // Twenty of them, each naming the one before; and one that says it names itself.
    let mut files: Vec<(String, String)> = Vec::new();
    let mut inner = Digest::of(b"nothing").to_string();
    for _ in 0..20 {
        let text = index(&inner);
        inner = Digest::of(text.as_bytes()).to_string();
        files.push((format!("blobs/{}", inner.replace(':', "/")), text));
    }
    files.push(("index.json".to_owned(), index(&inner)));
    let own = Digest::of(b"a circle").to_string();
    let circle = index(&own);
    let loop_file = format!("blobs/{}", own.replace(':', "/"));
    for (files, words) in [
        (files, "too deep"),
        (
            vec![
                (loop_file, circle.clone()),
                ("index.json".to_owned(), circle),
            ],
            "digest",
        ),
    ] {
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_bytes()))
            .collect();
        let error = load(&store, &archived(&files)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        nothing_left(dir.path());
    }
}

#[test]
fn an_image_archive_that_ends_anywhere_is_refused() {
    let (dir, store) = store();
    let layer = Tar::new().file("f", &[7; 3000]).done();
    let diff_ids = [Digest::of(&layer).to_string()];
    let whole = docker_archive(&diff_ids, &["l.tar".to_owned()], &[("l.tar", &layer)]);
    // The two blocks at the end may be missing, as tar(1) takes it.
    for end in (0..whole.len() - 1024).step_by(401) {
        assert!(load(&store, &whole[..end]).is_err(), "{end}");
        assert!(store.images.all().unwrap().is_empty());
    }
    nothing_left(dir.path());
    assert_eq!(load(&store, &whole).unwrap().len(), 1);
}

#[test]
fn links_without_an_end_in_an_image_archive_take_no_memory() {
    let (dir, store) = store();
    let links: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| {
            let tar = link(Tar::new(), &format!("{n}/{}", "l".repeat(80)), "x");
            tar.done()[..512].to_vec()
        })
        .collect();
    let packed = zstd::encode_all(&links[..], 1).unwrap();
    let error = load(&store, &packed).unwrap_err();
    assert!(error.to_string().contains("belong to no image"), "{error}");
    nothing_left(dir.path());
}
