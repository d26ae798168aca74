//! Tar archives: read, copied into a folder, unpacked as a layer.

use gantry_store::Store;
use gantry_store::layers::Expected;
use gantry_tar::unpack::{Links, Options, Owner};
use gantry_tar::{Root, TarReader};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const BLOCK: usize = 512;

/// Makes the check sums of all headers right: what is changed in a header is to be seen behind it.
pub(crate) fn with_sums(data: &[u8]) -> Vec<u8> {
    let mut tar = data.to_vec();
    for block in tar.chunks_exact_mut(BLOCK) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    tar
}

/// It comes to its end, and gives no more than went in.
pub(crate) fn read(data: &[u8]) {
    let tar = with_sums(data);
    let mut reader = TarReader::new(&tar[..]);
    let mut given = 0;
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(!entry.path.contains(&0) || entry.path.len() < (1 << 20));
        let mut content = Vec::new();
        let read = reader.read_to_end(&mut content);
        given += content.len();
        assert!(given <= tar.len());
        if read.is_err() {
            break;
        }
    }
}

/// A folder with something in it, beside the one that is unpacked into.
fn canary(folder: &Path) -> PathBuf {
    let outside = folder.join("outside");
    if !outside.exists() {
        std::fs::create_dir_all(&outside).expect("a folder can be made");
        std::fs::write(outside.join("canary"), "alive").expect("a file can be written");
    }
    outside
}

fn lives(outside: &Path) {
    let text = std::fs::read_to_string(outside.join("canary")).expect("the canary is there");
    assert_eq!(text, "alive");
    assert_eq!(
        std::fs::read_dir(outside)
            .expect("it can be listed")
            .count(),
        1
    );
}

/// Like `cp` into a container: nothing outside changes.
pub(crate) fn copy(data: &[u8]) {
    let tar = with_sums(data);
    let folder = crate::folder();
    let outside = canary(&folder);
    let inside = folder.join("inside");
    std::fs::create_dir_all(&inside).expect("a folder can be made");
    for links in [Links::Inside, Links::Nowhere] {
        let dir = rustix::fs::open(
            &inside,
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let root = Root::new(dir.expect("the folder can be opened"));
        let options = Options {
            keep_kind: links == Links::Nowhere,
            owner: Owner::Archive,
            links,
            rename: None,
        };
        let _ = gantry_tar::unpack::unpack(&mut &tar[..], &root, b"/", &options);
        lives(&outside);
        std::fs::remove_dir_all(&inside).expect("it can be removed");
        std::fs::create_dir_all(&inside).expect("and made again");
    }
}

pub(crate) fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| Store::open(&crate::folder().join("store")).expect("a store opens"))
}

/// A layer that is taken is written again byte by byte; one that is not leaves nothing.
pub(crate) fn layer(data: &[u8]) {
    let tar = with_sums(data);
    let store = store();
    let outside = canary(&crate::folder());
    // Compressed ones are other bytes.
    let plain = gantry_oci::media_type::layer_of(&tar) == gantry_oci::media_type::OCI_LAYER;
    if let Ok(layer) = store.layers.unpack(&mut &tar[..], &Expected::default())
        && plain
    {
        let mut again = Vec::new();
        store
            .layers
            .write_tar(&layer.diff_id, &mut again)
            .expect("a layer can be written again");
        assert!(again == tar, "a layer is written as another");
    }
    lives(&outside);
    store.images.collect_layers().expect("layers are collected");
    nothing_left();
}

pub(crate) fn nothing_left() {
    for place in ["tmp", "layers/l", "layers/r"] {
        let place = crate::folder().join("store").join(place);
        let left = std::fs::read_dir(&place).expect("it can be listed").count();
        assert_eq!(left, 0, "{}", place.display());
    }
}

/// Has a fault on purpose, behind a check sum and three fields: a set-uid link of some name, where the corpus has a file.
pub(crate) fn planted(data: &[u8]) {
    let tar = with_sums(data);
    let mut reader = TarReader::new(&tar[..]);
    while let Ok(Some(entry)) = reader.next_entry() {
        if entry.mode & 0o4000 != 0
            && entry.kind == gantry_tar::Kind::Symlink
            && matches!(entry.path.as_slice(), [b'b', b'a', b'd', ..])
        {
            panic!("the planted fault was found");
        }
    }
}
