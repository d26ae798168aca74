//! What is broken, too big or hostile: a clear error, nothing half-made, the daemon still serving.

use gantry_testkit::{Engine, Options, busybox_tar, ran};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The names of all images, and of the layers and blobs that are kept.
fn kept(engine: &Engine) -> (String, Vec<PathBuf>) {
    let images = engine.gantry(&["images", "-aq"]).ok();
    let mut files = Vec::new();
    for folder in ["layers", "image", "tmp"] {
        walk(&engine.data_root().join(folder), 3, &mut files);
    }
    files.sort();
    (images, files)
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        files.push(entry.path());
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth - 1, files);
        }
    }
}

#[test]
fn a_broken_tar_leaves_no_image() {
    let engine = Engine::with_busybox();
    let before = kept(&engine);
    let whole = std::fs::read(busybox_tar()).unwrap();
    for (what, bytes) in [
        ("noise", vec![0x5a; 5000]),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("a broken head", {
            let mut bytes = whole.clone();
            bytes[0..400].fill(b'x');
            bytes
        }),
    ] {
        let refused = engine.gantry_with(&["import", "-", "broken"], &bytes);
        assert_eq!(refused.code, 1, "{what}: {refused}");
        assert!(!refused.stderr.trim().is_empty(), "{what}");
        let refused = engine.gantry_with(&["load"], &bytes);
        assert_eq!(refused.code, 1, "{what}: {refused}");
        assert_eq!(kept(&engine), before, "{what}");
    }
    engine.serves();
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
}

#[test]
fn a_tar_cannot_write_outside_of_its_layer() {
    let engine = Engine::with_busybox();
    let work = engine.folder().join("evil");
    std::fs::create_dir_all(&work).unwrap();
    let canary = engine.folder().join("canary");
    // A link to the outside, then a file through it; a name with dots; an absolute hard link.
    let script = format!(
        "import io,tarfile\n\
         t=tarfile.open('evil.tar','w')\n\
         def link(n,to,kind):\n i=tarfile.TarInfo(n); i.type=kind; i.linkname=to; t.addfile(i)\n\
         def file(n):\n i=tarfile.TarInfo(n); i.size=4; t.addfile(i, io.BytesIO(b'evil'))\n\
         link('out', '{folder}', tarfile.SYMTYPE)\n\
         file('out/canary')\n",
        folder = engine.folder().display()
    );
    let mut python = std::process::Command::new("python3");
    python.args(["-c", &script]).current_dir(&work);
    ran(python, b"", Duration::from_secs(20)).ok();
    engine.gantry(&["import", &work.join("evil.tar").to_string_lossy(), "evil"]);
    assert!(
        !canary.exists(),
        "a file was written through a link out of the layer"
    );
    for name in [
        "../../../../../../../../../../tmp/gantry-evil",
        "/tmp/gantry-evil",
    ] {
        let script = format!(
            "import io,tarfile\nt=tarfile.open('evil.tar','w')\ni=tarfile.TarInfo({name:?}); i.size=4\nt.addfile(i, io.BytesIO(b'evil'))\nt.close()"
        );
        let mut python = std::process::Command::new("python3");
        python.args(["-c", &script]).current_dir(&work);
        ran(python, b"", Duration::from_secs(20)).ok();
        engine.gantry(&["import", &work.join("evil.tar").to_string_lossy(), "evil"]);
        assert!(
            !Path::new("/tmp/gantry-evil").exists(),
            "{name} was written"
        );
    }
    engine.serves();
}

#[test]
fn a_layer_with_another_digest_is_refused() {
    let engine = Engine::with_busybox();
    let before = kept(&engine);
    let archive = engine.folder().join("good.tar");
    engine
        .gantry(&["save", "-o", &archive.to_string_lossy(), "busybox"])
        .ok();
    let work = engine.folder().join("archive");
    std::fs::create_dir_all(&work).unwrap();
    // One byte of a program inside the layer is another; all headers are whole.
    let script = "import glob,os\n\
         for f in glob.glob('**', recursive=True):\n\
        \x20 if os.path.isfile(f) and os.path.getsize(f) > 100000:\n\
        \x20  b = bytearray(open(f,'rb').read()); b[b.index(b'BusyBox v')] ^= 1; open(f,'wb').write(b)\n";
    let mut tar = std::process::Command::new("tar");
    tar.args(["-xf", "../good.tar"]).current_dir(&work);
    ran(tar, b"", Duration::from_secs(20)).ok();
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).current_dir(&work);
    ran(python, b"", Duration::from_secs(20)).ok();
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "tar -cf ../wrong.tar *"])
        .current_dir(&work);
    ran(shell, b"", Duration::from_secs(20)).ok();
    // The layer is known by its digest already: it must be gone for the archive's one to be looked at.
    engine.gantry(&["rmi", "busybox"]).ok();
    let empty = kept(&engine);
    let refused = engine
        .gantry(&[
            "load",
            "-i",
            &engine.folder().join("wrong.tar").to_string_lossy(),
        ])
        .fails_with(1);
    assert!(
        refused.contains("sha256:") || refused.contains("digest"),
        "{refused}"
    );
    assert_eq!(kept(&engine), empty);
    engine
        .gantry(&["load", "-i", &archive.to_string_lossy()])
        .ok();
    assert_eq!(kept(&engine).0, before.0);
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
}

/// A registry that says yes to `/v2/` and does `then` with every other request; its address.
fn registry_that(then: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let then = std::sync::Arc::new(then);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let then = then.clone();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n")
                    && stream.read(&mut byte).is_ok_and(|read| read > 0)
                {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                if path == "/v2/" {
                    stream
                        .write_all(
                            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
                        )
                        .ok();
                } else {
                    then(path, &mut stream);
                }
            });
        }
    });
    address
}

const LAYER: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}"#;

fn sha256(text: &str) -> String {
    let said = ran(
        std::process::Command::new("sha256sum"),
        text.as_bytes(),
        Duration::from_secs(20),
    )
    .ok();
    format!("sha256:{}", &said[..64])
}

/// Answers manifest and config as they should be; the layer is `layer`'s business.
fn manifest_then(layer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    let config_digest = sha256(CONFIG);
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": CONFIG.len(), "digest": config_digest},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 1_000_000, "digest": LAYER}]})
    .to_string();
    registry_that(move |path, stream| {
        let answer = |stream: &mut TcpStream, kind: &str, body: &str| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).ok();
        };
        if path.contains("/manifests/") {
            answer(
                stream,
                "application/vnd.oci.image.manifest.v1+json",
                &manifest,
            );
        } else if path.contains(&config_digest) {
            answer(stream, "application/octet-stream", CONFIG);
        } else {
            layer(stream);
        }
    })
}

#[test]
fn a_registry_that_ends_mid_layer_leaves_nothing() {
    let engine = Engine::with_busybox();
    let before = kept(&engine);
    let address = manifest_then(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n")
            .ok();
        stream.write_all(&[0; 300_000]).ok();
    });
    let refused = engine
        .gantry(&["pull", &format!("{address}/box:1")])
        .fails_with(1);
    assert!(!refused.is_empty());
    assert_eq!(kept(&engine), before);
    engine.serves();
}

#[test]
fn a_registry_with_a_wrong_layer_is_found_out() {
    let engine = Engine::with_busybox();
    let before = kept(&engine);
    let address = manifest_then(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n")
            .ok();
        stream.write_all(&vec![0; 1_000_000]).ok();
    });
    let refused = engine
        .gantry(&["pull", &format!("{address}/box:1")])
        .fails_with(1);
    assert!(
        refused.contains("digest") || refused.contains("verif"),
        "{refused}"
    );
    assert_eq!(kept(&engine), before);
    engine.serves();
}

#[test]
fn a_registry_that_hangs_delays_nobody_and_can_be_left() {
    let engine = Engine::with_busybox();
    let address = manifest_then(|stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n")
            .ok();
        std::thread::sleep(Duration::from_secs(600));
    });
    let before = kept(&engine);
    let mut client = engine
        .command(&["pull", &format!("{address}/box:1")])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(client.try_wait().unwrap().is_none(), "the pull waits");
    let start = Instant::now();
    engine.serves();
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
    assert!(start.elapsed() < Duration::from_secs(5));
    // ^C of the client ends the pull in the daemon, too.
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&client),
        rustix::process::Signal::INT,
    )
    .unwrap();
    assert!(!client.wait().unwrap().success());
    gantry_testkit::until("nothing of it is left", Duration::from_secs(10), || {
        kept(&engine) == before
    });
}

#[test]
fn unknown_images_and_containers_are_told_in_dockers_words() {
    let engine = Engine::start();
    let pull = engine
        .gantry(&["run", "--rm", "127.0.0.1:1/none"])
        .fails_with(125);
    assert!(pull.contains("connection refused"), "{pull}");
    let absent = engine
        .gantry(&["run", "--rm", "--pull", "never", "none"])
        .fails_with(125);
    assert!(absent.contains("No such image: none:latest"), "{absent}");
    let upper = engine.gantry(&["run", "--rm", "UPPER"]).fails_with(125);
    assert!(
        upper.contains("repository name (library/UPPER) must be lowercase"),
        "{upper}"
    );
    let container = engine.gantry(&["logs", "none"]).fails_with(1);
    assert!(container.contains("No such container: none"), "{container}");
    engine.serves();
}

#[test]
fn requests_that_are_no_json_are_refused() {
    let engine = Engine::start();
    for (body, words) in [
        ("{", "EOF"),
        ("[]", "cannot unmarshal array"),
        ("{\"Image\": 5}", "cannot unmarshal number"),
    ] {
        let answer = engine
            .api_bytes(
                "POST",
                "/containers/create",
                "application/json",
                Some(body.as_bytes()),
            )
            .expect(400);
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    let wild = "[".repeat(100_000);
    engine
        .api_bytes(
            "POST",
            "/containers/create",
            "application/json",
            Some(wild.as_bytes()),
        )
        .expect(400);
    engine.serves();
}

/// A tmpfs as data root, gone with its mount.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let path =
            std::env::temp_dir().join(format!("gantry-disk-{}-{megabytes}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={megabytes}m");
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "gantry-test"])
            .arg(&path);
        ran(mount, b"", Duration::from_secs(10)).ok();
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn no_space_left_is_told_and_nothing_half_made_stays() {
    let disk = SmallDisk::new(24);
    let engine = Engine::with(Options {
        data_root: Some(disk.0.join("d")),
        ..Options::default()
    });
    engine.import(&busybox_tar(), "busybox");
    let before = kept(&engine);
    // 60 MB that do not fit.
    let big = engine.folder().join("big.tar");
    let script = format!(
        "head -c 60000000 /dev/urandom > big && tar -cf {} big && rm big",
        big.display()
    );
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(engine.folder());
    ran(shell, b"", Duration::from_secs(30)).ok();
    let refused = engine
        .gantry(&["import", &big.to_string_lossy(), "big"])
        .fails_with(1);
    assert!(
        refused.to_lowercase().contains("no space left on device"),
        "{refused}"
    );
    assert_eq!(kept(&engine), before);
    engine.serves();
    // The space is there again.
    engine
        .gantry(&[
            "run",
            "--rm",
            "busybox",
            "sh",
            "-c",
            "head -c 5000000 /dev/zero > /x",
        ])
        .ok();
    // A container that fills the disk itself gets the error, and goes.
    let full = engine
        .gantry(&["run", "--rm", "busybox", "sh", "-c", "cat /dev/zero > /x"])
        .fails_with(1);
    assert!(full.contains("No space left on device"), "{full}");
    engine.gantry(&["run", "--rm", "busybox", "true"]).ok();
    drop(engine);
    drop(disk);
}
