//! The `hello-world` image that is built into the binary: the first command on a machine without network works.

use crate::error::{Error, Result};
use gantry_oci::config::{Config, History, ImageConfig, RootFs};
use gantry_oci::{Digest, Reference};
use gantry_store::Store;
use gantry_store::layers::Expected;

/// Part of what the image's ID is made of, so it stays as it is.
const CREATED: &str = "2026-01-01T00:00:00Z";

/// Whether a name is that of the image, as Docker Hub has it.
pub(super) fn is_named(reference: &Reference) -> bool {
    reference.domain == "docker.io"
        && reference.path == "library/hello-world"
        && reference.tag.as_deref().is_none_or(|tag| tag == "latest")
        && reference.digest.is_none()
}

/// Stores the image and gives it its name.
pub(super) fn load(store: &Store, name: &Reference) -> Result<Digest> {
    let broken = |e| Error::caused("cannot make the built-in image", e);
    let layer = layer().map_err(broken)?;
    let expected = Expected {
        diff_id: Some(Digest::of(&layer)),
        ..Expected::default()
    };
    let lease = store.layers.lease();
    store.layers.unpack(&mut layer.as_slice(), &expected)?;
    let config = serde_json::to_vec(&config(Digest::of(&layer)))
        .map_err(|e| Error::caused("cannot make the built-in image", e))?;
    let id = store.images.put(&config)?;
    store.images.tag(name, &id)?;
    drop(lease);
    Ok(id)
}

/// One file, `/hello`; the same bytes every time.
fn layer() -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path("hello")?;
    header.set_size(gantry_hello::PROGRAM.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, gantry_hello::PROGRAM)?;
    tar.into_inner()
}

fn config(layer: Digest) -> ImageConfig {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    ImageConfig {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        created: Some(CREATED.to_owned()),
        config: Config {
            cmd: Some(vec!["/hello".to_owned()]),
            env: Some(vec![
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            ]),
            working_dir: "/".to_owned(),
            ..Config::default()
        },
        rootfs: RootFs {
            diff_ids: vec![layer],
            ..RootFs::default()
        },
        history: vec![History {
            created: Some(CREATED.to_owned()),
            created_by: "CMD [\"/hello\"]".to_owned(),
            comment: "built into Gantry".to_owned(),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name() {
        for name in [
            "hello-world",
            "hello-world:latest",
            "docker.io/library/hello-world",
        ] {
            assert!(is_named(&Reference::parse(name).unwrap()), "{name}");
        }
        for name in [
            "hello-world:linux",
            "me/hello-world",
            "localhost/library/hello-world",
        ] {
            assert!(!is_named(&Reference::parse(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn the_image_is_there_and_always_the_same() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let name = Reference::parse("hello-world:latest").unwrap();
        let id = load(&store, &name).unwrap();
        assert_eq!(load(&store, &name).unwrap(), id);
        let image = store.images.find("hello-world").unwrap().unwrap();
        assert_eq!(image.id, id);
        let hello = store.layers.path(&image.diff_ids[0]).join("hello");
        assert_eq!(std::fs::read(hello).unwrap(), gantry_hello::PROGRAM);
    }
}
