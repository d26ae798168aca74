//! The distribution project's own server (Debian: docker-registry), filled by skopeo.

use crate::server::{platform, registry};
use futures_util::TryStreamExt;
use gantry_oci::{Digest, Reference};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

struct Registry {
    port: u16,
    _child: Child,
    folder: tempfile::TempDir,
}

async fn start() -> Registry {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem:\n    rootdirectory: {}/data\nhttp:\n  addr: 127.0.0.1:{port}\n",
        folder.path().display()
    );
    let path = folder.path().join("config.yml");
    std::fs::write(&path, config).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the tests need Debian's docker-registry");
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Registry {
                port,
                _child: child,
                folder,
            };
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("docker-registry does not listen");
}

/// An OCI layout with one image of one gzip layer.
fn layout(folder: &Path) -> Vec<u8> {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let root = folder.join("root");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("hello"), vec![7; 300_000]).unwrap();
    let tar = folder.join("layer.tar");
    let made = std::process::Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .status();
    assert!(made.unwrap().success());
    let diff_id = Digest::of(&std::fs::read(&tar).unwrap());
    let packed = std::process::Command::new("gzip")
        .arg("-nc")
        .arg(&tar)
        .output()
        .unwrap()
        .stdout;
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        format!(r#""digest":"{digest}","size":{}"#, bytes.len())
    };
    let layer = put(&packed);
    let config = put(
        format!(r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/hello"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#).as_bytes(),
    );
    let manifest = put(
        format!(r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{config}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",{layer}}}]}}"#).as_bytes(),
    );
    std::fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",{manifest}}}]}}"#
    );
    std::fs::write(folder.join("index.json"), index).unwrap();
    packed
}

#[tokio::test]
async fn both_formats_that_skopeo_pushes() {
    let server = start().await;
    let source = server.folder.path().join("layout");
    let packed = layout(&source);
    let registry = registry();
    for (format, tag, media_type) in [
        ("oci", "oci", "application/vnd.oci.image.layer.v1.tar+gzip"),
        (
            "v2s2",
            "docker",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        let name = format!("127.0.0.1:{}/team/app:{tag}", server.port);
        let pushed = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--dest-tls-verify=false",
                "--format",
                format,
            ])
            .arg(format!("oci:{}", source.display()))
            .arg(format!("docker://{name}"))
            .output()
            .await
            .expect("the tests need skopeo");
        assert!(
            pushed.status.success(),
            "{}",
            String::from_utf8_lossy(&pushed.stderr)
        );

        let reference = Reference::parse(&name).unwrap();
        let remote = registry
            .resolve(&reference, &platform(), None)
            .await
            .unwrap();
        assert_eq!(remote.digest, Digest::of(&remote.manifest));
        assert!(String::from_utf8_lossy(&remote.config).contains("/hello"));
        let layer = &remote.layers[0];
        assert_eq!(
            (layer.media_type.as_str(), layer.size),
            (media_type, packed.len() as u64)
        );
        for offset in [0, 100, packed.len()] {
            let stream = registry
                .blob(&reference, layer, offset as u64, None, None)
                .await
                .unwrap();
            let pieces: Vec<_> = stream.try_collect().await.unwrap();
            assert_eq!(pieces.concat(), packed[offset..]);
        }
    }
    let absent = Reference::parse(&format!("127.0.0.1:{}/team/none:1", server.port)).unwrap();
    let error = registry
        .resolve(&absent, &platform(), None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "manifest for {} not found: manifest unknown: manifest unknown",
            absent.familiar()
        )
    );
}
