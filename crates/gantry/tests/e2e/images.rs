//! Images from archives, from a registry, and what real ones do.

use gantry_testkit::{Engine, Registry, busybox_tar, debian_tar};
use std::path::{Path, PathBuf};

/// An archive of the image, in Docker's format, as the engine saves it.
fn saved(engine: &Engine, image: &str) -> PathBuf {
    let file = engine.folder().join("saved.tar");
    engine
        .gantry(&["save", "-o", &file.to_string_lossy(), image])
        .ok();
    file
}

#[test]
fn import_run_save_and_load() {
    let engine = Engine::with_busybox();
    let tar = busybox_tar();
    engine
        .gantry(&[
            "import",
            "--change",
            "CMD [\"echo\", \"by default\"]",
            "--change",
            "ENV A=b",
            &tar.to_string_lossy(),
            "changed:1",
        ])
        .ok();
    assert_eq!(
        engine.gantry(&["run", "--rm", "changed:1"]).ok(),
        "by default"
    );
    let id = engine
        .gantry(&["images", "-q", "--no-trunc", "changed:1"])
        .ok();
    let archive = saved(&engine, "changed:1");
    engine.gantry(&["rmi", "changed:1"]).ok();
    engine
        .gantry(&["run", "--rm", "--pull", "never", "changed:1"])
        .fails_with(125);
    let loaded = engine
        .gantry(&["load", "-i", &archive.to_string_lossy()])
        .ok();
    assert!(loaded.contains("changed:1"), "{loaded}");
    assert_eq!(
        engine
            .gantry(&["images", "-q", "--no-trunc", "changed:1"])
            .ok(),
        id
    );
    assert_eq!(
        engine.gantry(&["run", "--rm", "changed:1"]).ok(),
        "by default"
    );
}

#[test]
fn an_oci_archive_is_loaded() {
    let engine = Engine::with_busybox();
    let archive = saved(&engine, "busybox");
    let oci = engine.folder().join("oci.tar");
    skopeo(
        &engine,
        &format!("docker-archive:{}", archive.display()),
        &format!("oci-archive:{}:fromoci:1", oci.display()),
    );
    let loaded = engine.gantry(&["load", "-i", &oci.to_string_lossy()]).ok();
    let name = loaded
        .lines()
        .last()
        .and_then(|line| line.split(": ").last())
        .unwrap()
        .to_owned();
    assert_eq!(
        engine.gantry(&["run", "--rm", &name, "echo", "hi"]).ok(),
        "hi"
    );
}

fn skopeo(engine: &Engine, from: &str, to: &str) {
    let mut command = std::process::Command::new("skopeo");
    command
        .args(["--insecure-policy", "copy", from, to])
        .env("TMPDIR", engine.folder());
    gantry_testkit::ran(command, b"", std::time::Duration::from_secs(60)).ok();
}

#[test]
fn an_image_goes_by_skopeo_to_a_registry_and_comes_back() {
    let engine = Engine::with_busybox();
    let archive = saved(&engine, "busybox");
    let registry = Registry::start(&engine.folder().join("registry"));
    let from = format!("docker-archive:{}", archive.display());
    for (tag, more) in [
        ("v2s2", &["--format", "v2s2"][..]),
        ("oci", &["--format", "oci"]),
        (
            "zstd",
            &["--format", "oci", "--dest-compress-format", "zstd"],
        ),
    ] {
        registry.push(&from, &format!("box:{tag}"), more);
        let name = format!("{}/box:{tag}", registry.address());
        let pulled = engine.gantry(&["pull", &name]).ok();
        assert!(pulled.contains("Digest: sha256:"), "{pulled}");
        assert!(
            pulled.contains(&format!("Status: Downloaded newer image for {name}")),
            "{pulled}"
        );
        assert_eq!(
            engine.gantry(&["run", "--rm", &name, "echo", tag]).ok(),
            tag
        );
        let again = engine.gantry(&["pull", &name]).ok();
        assert!(again.contains("Image is up to date"), "{again}");
        engine.gantry(&["rmi", &name]).ok();
        // By its digest, and pulled by run itself.
        let digest = pulled
            .lines()
            .find_map(|line| line.strip_prefix("Digest: "))
            .unwrap();
        let by_digest = format!("{}/box@{digest}", registry.address());
        assert_eq!(
            engine
                .gantry(&["run", "--rm", &by_digest, "echo", "again"])
                .ok(),
            "again"
        );
        engine.gantry(&["rmi", &by_digest]).ok();
    }
}

#[test]
fn a_registry_with_tls_is_asked_for_its_certificate() {
    let maker = Engine::with_busybox();
    let archive = saved(&maker, "busybox");
    let (registry, certificate) = Registry::start_tls(&maker.folder().join("registry"));
    registry.push(
        &format!("docker-archive:{}", archive.display()),
        "box:1",
        &[],
    );
    let name = format!("{}/box:1", registry.address());
    // 127.0.0.0/8 counts as insecure, as Docker has it: any certificate will do there.
    maker.gantry(&["pull", &name]).ok();
    assert_eq!(
        maker.gantry(&["run", "--rm", &name, "echo", "tls"]).ok(),
        "tls"
    );
    assert!(certificate.exists());
}

#[test]
fn debian_runs() {
    let engine = Engine::start();
    engine.import(&debian_tar(), "debian");
    let version = engine
        .gantry(&["run", "--rm", "debian", "apt-get", "--version"])
        .ok();
    assert!(version.starts_with("apt "), "{version}");
    // File capabilities, owners and modes are kept.
    let modes = engine
        .gantry(&[
            "run",
            "--rm",
            "debian",
            "stat",
            "-c",
            "%a %U %G %n",
            "/tmp",
            "/usr/bin/passwd",
            "/etc/shadow",
        ])
        .ok();
    assert_eq!(
        modes,
        "1777 root root /tmp\n4755 root root /usr/bin/passwd\n640 root shadow /etc/shadow"
    );
}

#[test]
fn debian_updates_through_nat_and_serves_with_nginx() {
    // The one test that needs the world: a firewall in the way is told as such. A Docker Engine leaves this policy behind.
    let rules = std::process::Command::new("iptables")
        .args(["-S", "FORWARD"])
        .output();
    let dropped =
        rules.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("-P FORWARD DROP"));
    assert!(
        !dropped,
        "the machine's own firewall drops forwarded packets (`iptables -S FORWARD`): containers cannot reach the world"
    );
    let engine = Engine::start();
    engine.import(&debian_tar(), "debian");
    let script = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light \
                  >/dev/null 2>&1 && echo installed && echo 'from the container' > /var/www/html/index.html && exec nginx -g 'daemon off;'";
    engine
        .gantry(&["run", "-d", "--name", "web", "debian", "sh", "-c", script])
        .ok();
    gantry_testkit::until(
        "nginx is installed",
        std::time::Duration::from_secs(240),
        || {
            let state = engine.inspect("web");
            assert_eq!(
                state["State"]["Running"],
                true,
                "{}",
                engine.gantry(&["logs", "web"])
            );
            engine.gantry(&["logs", "web"]).stdout.contains("installed")
        },
    );
    let address = engine.inspect("web")["NetworkSettings"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    gantry_testkit::until("nginx serves", std::time::Duration::from_secs(20), || {
        fetched(&address).contains("from the container")
    });
    // Another container reaches it over the bridge.
    engine.import(&busybox_tar(), "busybox");
    let url = format!("http://{address}/");
    assert_eq!(
        engine
            .gantry(&["run", "--rm", "busybox", "wget", "-qO-", &url])
            .ok(),
        "from the container"
    );
    engine.gantry(&["stop", "web"]).ok();
    assert_eq!(engine.inspect("web")["State"]["ExitCode"], 0);
}

fn fetched(address: &str) -> String {
    use std::io::{Read, Write};
    let mut text = String::new();
    if let Ok(mut stream) = std::net::TcpStream::connect((address, 80)) {
        let sent = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
        if sent.is_ok() {
            stream.read_to_string(&mut text).ok();
        }
    }
    text
}

#[test]
fn hard_links_sparse_files_devices_and_attributes_are_kept() {
    let engine = Engine::start();
    let root = engine.folder().join("special");
    std::fs::create_dir_all(root.join("d")).unwrap();
    shell(
        &root,
        "cp /bin/busybox ./busybox && ln busybox d/link && truncate -s 3G sparse && mknod null c 1 3 && mkfifo pipe && \
         ln -s /etc/target dangling && chmod 2750 d",
    );
    let tar = engine.folder().join("special.tar");
    shell(&root, &format!("tar --sparse -cf {} .", tar.display()));
    engine.import(&tar, "special");
    let said = engine
        .gantry(&[
            "run",
            "--rm",
            "special",
            "/busybox",
            "stat",
            "-c",
            "%n %h %F %a",
            "/busybox",
            "/d/link",
            "/null",
            "/pipe",
            "/d",
            "/sparse",
        ])
        .ok();
    assert_eq!(
        said,
        "/busybox 2 regular file 755\n/d/link 2 regular file 755\n/null 1 character special file 644\n/pipe 1 fifo 644\n\
         /d 2 directory 2750\n/sparse 1 regular file 644"
    );
    let blocks = engine
        .gantry(&[
            "run", "--rm", "special", "/busybox", "stat", "-c", "%s %b", "/sparse",
        ])
        .ok();
    let (size, blocks) = blocks.split_once(' ').unwrap();
    assert_eq!(size, "3221225472");
    assert!(
        blocks.parse::<u64>().unwrap() < 10_000,
        "a sparse file has become {blocks} blocks"
    );
}

fn shell(folder: &Path, script: &str) {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).current_dir(folder);
    gantry_testkit::ran(command, b"", std::time::Duration::from_secs(60)).ok();
}

#[test]
fn whiteouts_and_opaque_folders_of_upper_layers_hold() {
    let engine = Engine::start();
    let work = engine.folder().join("layers");
    for folder in ["one/bin", "one/gone", "one/opaque", "two/opaque", "image"] {
        std::fs::create_dir_all(work.join(folder)).unwrap();
    }
    shell(
        &work,
        "cp /bin/busybox one/bin/; touch one/gone/x one/opaque/below one/file; touch two/.wh.gone two/.wh.file two/opaque/.wh..wh..opq \
         two/opaque/above; tar -C one -cf image/1.tar .; tar -C two -cf image/2.tar .; cd image; \
         a=$(sha256sum <1.tar | cut -c-64); b=$(sha256sum <2.tar | cut -c-64); \
         echo '{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:'$a'\",\"sha256:'$b'\"]}}' >c.json; \
         echo '[{\"Config\":\"c.json\",\"RepoTags\":[\"layered:1\"],\"Layers\":[\"1.tar\",\"2.tar\"]}]' >manifest.json; tar -cf ../image.tar *",
    );
    engine
        .gantry(&["load", "-i", &work.join("image.tar").to_string_lossy()])
        .ok();
    let said = engine.gantry(&[
        "run",
        "--rm",
        "layered:1",
        "/bin/busybox",
        "find",
        "/gone",
        "/file",
        "/opaque",
    ]);
    assert_eq!(said.stdout.trim_end(), "/opaque\n/opaque/above", "{said}");
}

#[test]
fn an_image_is_of_the_machines_platform() {
    let engine = Engine::with_busybox();
    let archive = saved(&engine, "busybox");
    let registry = Registry::start(&engine.folder().join("registry"));
    registry.push(
        &format!("docker-archive:{}", archive.display()),
        "box:1",
        &["--format", "oci"],
    );
    let raw = gantry_testkit::ran(
        {
            let mut inspect = std::process::Command::new("skopeo");
            inspect.args([
                "inspect",
                "--raw",
                "--tls-verify=false",
                &format!("docker://{}/box:1", registry.address()),
            ]);
            inspect
        },
        b"",
        std::time::Duration::from_secs(30),
    )
    .ok();
    let digest = sha256(raw.as_bytes());
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": raw.len(), "digest": digest,
         "platform": {"os": "linux", "architecture": "amd64"}}]});
    let put = put(
        registry.address(),
        "/v2/box/manifests/list",
        "application/vnd.oci.image.index.v1+json",
        index.to_string().as_bytes(),
    );
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    let name = format!("{}/box:list", registry.address());
    assert_eq!(
        engine
            .gantry(&["run", "--rm", &name, "echo", "chosen"])
            .ok(),
        "chosen"
    );
    let other = engine
        .gantry(&["pull", "--platform", "linux/s390x", &name])
        .fails_with(1);
    assert!(
        other.contains("no matching manifest for linux/s390x"),
        "{other}"
    );
}

fn sha256(bytes: &[u8]) -> String {
    let said = gantry_testkit::ran(
        std::process::Command::new("sha256sum"),
        bytes,
        std::time::Duration::from_secs(20),
    )
    .ok();
    format!("sha256:{}", &said[..64])
}

fn put(address: &str, path: &str, kind: &str, body: &[u8]) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
