//! A container's files: diff, cp, export, commit; and the small commands of its life beside them.

use self::hostile::tar_of;
use gantry_testkit::{Engine, ran};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod hostile;
mod whole;

const PATIENCE: Duration = Duration::from_secs(90);

/// A container that sleeps, with these flags.
fn sleeper(engine: &Engine, name: &str, flags: &[&str]) {
    let mut words = vec!["run", "-d", "--name", name];
    words.extend(flags);
    words.extend(["busybox", "sleep", "1000"]);
    engine.gantry(&words).ok();
}

/// What a shell in a running container says.
#[track_caller]
fn inside(engine: &Engine, name: &str, script: &str) -> String {
    engine.gantry(&["exec", name, "sh", "-c", script]).ok()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A folder of files of all kinds.
fn odd_tree(engine: &Engine) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let tree = engine.folder().join("tree");
    std::fs::create_dir_all(tree.join("d/e")).unwrap();
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    write(&tree.join("d/file"), b"content");
    let odd = std::ffi::OsStr::from_bytes(b"not \xff UTF-8");
    write(&tree.join("d").join(odd), b"odd");
    write(&tree.join("setuid"), b"s");
    std::fs::set_permissions(tree.join("setuid"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::hard_link(tree.join("d/file"), tree.join("hard")).unwrap();
    symlink("d/file", tree.join("link")).unwrap();
    symlink("/etc/passwd", tree.join("absolute")).unwrap();
    std::os::unix::fs::chown(tree.join("d/file"), Some(1234), Some(4321)).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"middle", 32 << 20).unwrap();
    let node = |name: &str, kind, device| {
        let mode = rustix::fs::Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(rustix::fs::CWD, tree.join(name), kind, mode, device).unwrap();
    };
    node("fifo", rustix::fs::FileType::Fifo, 0);
    let null = rustix::fs::makedev(1, 3);
    node("device", rustix::fs::FileType::CharacterDevice, null);
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(tree.join("d/file"), "user.test", b"value", none).unwrap();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    rustix::fs::setxattr(tree.join("setuid"), "security.capability", capability, none).unwrap();
    tree
}

/// Everything of a tree that a copy keeps.
fn listing(dir: &Path, owners: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(place) = ahead.pop() {
        for file in std::fs::read_dir(&place).unwrap() {
            let path = file.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let content = if kind.is_symlink() {
                format!("-> {:?}", path.read_link().unwrap())
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let sum: u64 = bytes.iter().map(|b| u64::from(*b)).sum();
                assert!(meta.blocks() * 512 < (1 << 20), "{path:?} is not sparse");
                format!("{} bytes, sum {sum}", bytes.len())
            } else {
                format!("fifo {} device {}", kind.is_fifo(), kind.is_char_device())
            };
            let mut value = [0_u8; 64];
            let mut xattr = |key: &str| rustix::fs::lgetxattr(&path, key, &mut value[..]).ok();
            let xattrs = [xattr("user.test"), xattr("security.capability")];
            let owner = if owners {
                (meta.uid(), meta.gid())
            } else {
                (0, 0)
            };
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            lines.push(format!(
                "{:?} {:o} {owner:?} {links} {} {} {xattrs:?} {content}",
                path.strip_prefix(dir).unwrap(),
                meta.mode(),
                meta.mtime(),
                meta.rdev(),
            ));
            if meta.is_dir() {
                ahead.push(path);
            }
        }
    }
    lines.sort();
    lines
}

#[track_caller]
fn same_trees(one: &Path, other: &Path, owners: bool) {
    let (one, other) = (listing(one, owners), listing(other, owners));
    let differing: Vec<_> = one.iter().zip(&other).filter(|(a, b)| a != b).collect();
    assert!(
        differing.is_empty() && one.len() == other.len(),
        "{differing:#?}"
    );
}

#[test]
fn trees_go_in_and_come_out() {
    let engine = Engine::with_busybox();
    let tree = odd_tree(&engine);
    sleeper(&engine, "running", &[]);
    engine
        .gantry(&["create", "--name", "still", "busybox", "true"])
        .ok();
    for name in ["running", "still"] {
        let copied = engine.gantry(&["cp", &text(&tree), &format!("{name}:/tmp")]);
        assert_eq!((copied.ok(), copied.stderr.as_str()), (String::new(), ""));
        let back = engine.folder().join(format!("back-{name}"));
        engine
            .gantry(&["cp", &format!("{name}:/tmp/tree"), &text(&back)])
            .ok();
        same_trees(&tree, &back, false);
        // By the stream, with the owners, into another container and out of it.
        let mut pipe = Command::new("sh");
        pipe.arg("-c").arg(format!(
            "set -o pipefail; G='{} -H {}'; $G cp {name}:/tmp/tree - | $G cp -q - {name}:/var && $G cp {name}:/var/tree - | tar -C {} -xp",
            engine.folder().join("gantry").display(),
            engine.host(),
            engine.folder().display(),
        ));
        let from = engine.folder().join("tree");
        let kept = engine.folder().join("kept");
        std::fs::rename(&from, &kept).unwrap();
        let piped = Command::new("bash")
            .arg("-c")
            .arg(pipe.get_args().nth(1).unwrap())
            .output()
            .unwrap();
        assert!(
            piped.status.success(),
            "{}",
            String::from_utf8_lossy(&piped.stderr)
        );
        let meta = from.join("d/file").metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.nlink()), (1234, 4321, 2));
        std::fs::remove_dir_all(&from).unwrap();
        std::fs::rename(&kept, &from).unwrap();
    }
    assert_eq!(
        inside(
            &engine,
            "running",
            "stat -c '%u:%g %a' /tmp/tree/d/file /tmp/tree/setuid; cat /tmp/tree/link"
        ),
        "1234:4321 644\n0:0 4755\ncontent"
    );
    // What a container that did not run was given is there when it does.
    engine
        .gantry(&["cp", &text(&tree.join("d/file")), "still:/etc/passwd"])
        .ok();
    engine.gantry(&["start", "still"]).ok();
    engine.gantry(&["wait", "still"]).ok();
    let out = engine.gantry(&["cp", "still:/etc/passwd", "-"]).ok();
    assert!(out.contains("content"));
}

#[test]
fn a_large_file_goes_both_ways() {
    let engine = Engine::with_busybox();
    sleeper(&engine, "cc", &[]);
    let file = engine.folder().join("large");
    let mut bytes = vec![0_u8; 100 << 20];
    let mut state = 1_u32;
    for chunk in bytes.chunks_mut(4) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    std::fs::write(&file, &bytes).unwrap();
    let start = Instant::now();
    engine.gantry(&["cp", &text(&file), "cc:/large"]).ok();
    let back = engine.folder().join("back");
    engine.gantry(&["cp", "cc:/large", &text(&back)]).ok();
    println!("100 MB in and out in {:?}", start.elapsed());
    assert!(std::fs::read(&back).unwrap() == bytes, "the bytes differ");
}

/// What Docker's client says and does for each pair of paths (docs.docker.com/reference/cli/docker/container/cp).
#[test]
fn where_things_are_copied_to() {
    let engine = Engine::with_busybox();
    sleeper(&engine, "cc", &[]);
    let here = engine.folder().join("here");
    std::fs::create_dir_all(here.join("dir/sub")).unwrap();
    std::fs::write(here.join("file"), "f").unwrap();
    std::fs::write(here.join("dir/inner"), "i").unwrap();
    symlink("dir", here.join("link")).unwrap();
    let at = |path: &str| format!("{}/{path}", here.display());
    inside(
        &engine,
        "cc",
        "mkdir -p /t/dir /t/none; echo old >/t/old; ln -s /t/dir /t/way; ln -s nothing /t/ahead",
    );
    let cases: &[(&str, &str, &str)] = &[
        ("file", "/t/dir", "/t/dir/file"),
        ("file", "/t/dir/", "/t/dir/file"),
        ("file", "/t/new", "/t/new"),
        ("file", "/t/old", "/t/old"),
        ("file", "/t/way", "/t/dir/file"),
        ("file", "/t/ahead", "/t/nothing"),
        ("dir", "/t/none", "/t/none/dir/inner"),
        ("dir/", "/t/made", "/t/made/inner"),
        ("dir/.", "/t/dots", "/t/dots/inner"),
        ("dir/.", "/t/dir", "/t/dir/inner"),
        ("dir", "t/relative", "/t/relative/inner"),
        ("link/", "/t/none", "/t/none/link/inner"),
    ];
    for (from, to, made) in cases {
        inside(&engine, "cc", "rm -rf /t/dir/* /t/none/*");
        let copied = engine.gantry(&["cp", &at(from), &format!("cc:{to}")]);
        assert_eq!(copied.ok(), "", "{from} to {to}");
        inside(&engine, "cc", &format!("test -f {made}"));
    }
    engine.gantry(&["cp", &at("link"), "cc:/t/aslink"]).ok();
    assert_eq!(inside(&engine, "cc", "readlink /t/aslink"), "dir");
    engine.gantry(&["cp", "-L", &at("link"), "cc:/t/none"]).ok();
    inside(&engine, "cc", "test -f /t/none/link/inner");
    // The other way.
    inside(
        &engine,
        "cc",
        "mkdir -p /s/dir; echo x >/s/dir/inner; echo y >/s/file; ln -s dir /s/link; ln -s file /s/flink",
    );
    let out = engine.folder().join("out");
    std::fs::create_dir_all(out.join("dir")).unwrap();
    std::fs::write(out.join("old"), "old").unwrap();
    for (flags, from, to, made) in [
        (&[][..], "/s/file", "dir", "dir/file"),
        (&[], "/s/file", "new", "new"),
        (&[], "/s/file", "old", "old"),
        (&[], "/s/dir", "made", "made/inner"),
        (&[], "/s/dir", "dir", "dir/dir/inner"),
        (&[], "/s/dir/.", "dots", "dots/inner"),
        (&[], "/s/link/", "dir", "dir/link/inner"),
        (&["-L"], "/s/flink", "dir", "dir/flink"),
        (&["-L"], "/s/link", "followed", "followed/inner"),
    ] {
        let mut words = vec!["container", "cp"];
        words.extend(flags);
        let (from, to) = (format!("cc:{from}"), text(&out.join(to)));
        words.extend([from.as_str(), to.as_str()]);
        engine.gantry(&words).ok();
        assert!(out.join(made).is_file(), "{from} to {to}");
    }
    refusals(&engine, &at, &out);
}

fn refusals(engine: &Engine, at: &dyn Fn(&str) -> String, out: &Path) {
    let daemon = "Error response from daemon:";
    let missing = format!("{daemon} Could not find the file /none in container cc");
    let missing_dir = format!("{daemon} Could not find the file /no/ in container cc");
    let not_there = format!("lstat {}: no such file or directory", at("none"));
    let no_folder = format!(
        "invalid output path: directory {:?} does not exist",
        text(&out.join("no"))
    );
    let over = "cannot overwrite non-directory \"dir\" with directory".to_owned();
    std::fs::create_dir_all(out.join("d")).unwrap();
    std::fs::write(out.join("d/dir"), "a file").unwrap();
    for (from, to, words) in [
        ("cc:/none".to_owned(), at("x"), missing.as_str()),
        (at("none"), "cc:/t".to_owned(), &not_there),
        (at("file"), "cc:/no/where/".to_owned(), "no such directory"),
        (
            at("file"),
            "cc:/no/where".to_owned(),
            &missing_dir.replace("/no/", "/no"),
        ),
        (at("dir"), "cc:/t/old".to_owned(), "cannot copy directory"),
        (
            "cc:/s/file".to_owned(),
            text(&out.join("no/where")),
            &no_folder,
        ),
        ("cc:/s/dir".to_owned(), text(&out.join("d")), &over),
        (
            "cc:/a".to_owned(),
            "cc:/b".to_owned(),
            "copying between containers is not supported",
        ),
        (
            at("a"),
            at("b"),
            "must specify at least one container source",
        ),
        (
            "nobody:/a".to_owned(),
            at("b"),
            "Error response from daemon: No such container: nobody",
        ),
        (
            at("file"),
            "nobody:/a".to_owned(),
            "Error response from daemon: No such container: nobody",
        ),
        (
            at("file"),
            "cc:/dev/null".to_owned(),
            "destination \"cc:/dev/null\" must be a directory or a regular file: got a device",
        ),
        (
            "-".to_owned(),
            "cc:/t/old".to_owned(),
            "destination \"cc:/t/old\" must be a directory",
        ),
        (String::new(), "cc:/t".to_owned(), "source can not be empty"),
        (
            "cc:/s/file/".to_owned(),
            at("x"),
            "Error response from daemon: lstat /s/file/: not a directory",
        ),
    ] {
        let told = engine.gantry(&["cp", &from, &to]).fails_with(1);
        assert!(told.starts_with(words), "{from} to {to}: {told}");
    }
    // Told how much, where that is asked for without a terminal.
    let told = engine.gantry(&["cp", "--quiet=false", &at("file"), "cc:/t"]);
    assert_eq!(told.stderr, "Successfully copied 2.05kB to cc:/t\n");
    let told = engine.gantry(&["cp", "-q=0", "cc:/s/file", &text(out)]);
    assert_eq!(
        told.stderr,
        format!("Successfully copied 2.05kB to {}\n", out.display())
    );
}

#[test]
fn mounts_are_seen_running_or_not() {
    let engine = Engine::with_busybox();
    let folder = engine.folder().join("bound");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "host").unwrap();
    let file = engine.folder().join("file");
    std::fs::write(&file, "new").unwrap();
    let binds = [
        "-v",
        &format!("{}:/rw", folder.display()),
        "-v",
        &format!("{}:/ro:ro", folder.display()),
    ];
    let mut flags = binds.to_vec();
    flags.extend(["--tmpfs", "/scratch", "--read-only"]);
    sleeper(&engine, "running", &flags);
    let mut words = vec!["create", "--name", "still"];
    words.extend(&flags);
    words.extend(["busybox", "sh", "-c", "cat /rw/still"]);
    engine.gantry(&words).ok();
    for name in ["running", "still"] {
        let out = engine.folder().join(format!("out-{name}"));
        engine
            .gantry(&["cp", &format!("{name}:/rw/file"), &text(&out)])
            .ok();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "host");
        engine
            .gantry(&["cp", &text(&file), &format!("{name}:/rw/{name}")])
            .ok();
        assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), "new");
        for (path, words) in [
            ("/ro", "mounted volume is marked read-only"),
            ("/etc", "container rootfs is marked read-only"),
        ] {
            let told = engine.gantry(&["cp", &text(&file), &format!("{name}:{path}")]);
            assert_eq!(
                told.fails_with(1),
                format!("Error response from daemon: {words}")
            );
        }
    }
    engine
        .gantry(&["cp", &text(&file), "running:/scratch/x"])
        .ok();
    assert_eq!(inside(&engine, "running", "cat /scratch/x"), "new");
    assert_eq!(engine.gantry(&["start", "-a", "still"]).ok(), "new");
    // The mounts of a look are nobody's: neither the host's, nor is anything left of them.
    assert!(
        engine.leaks().iter().all(|leak| !leak.starts_with("mount")),
        "{:?}",
        engine.leaks()
    );
    // Without its mounts an export has what is below them.
    let tar = engine.folder().join("export.tar");
    engine
        .gantry(&["export", "-o", &text(&tar), "running"])
        .ok();
    let listed = Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().any(|line| line == "rw/"), "{listed}");
    assert!(
        !listed.contains("rw/file") && !listed.contains("proc/1"),
        "{listed}"
    );
}

#[test]
fn paths_over_the_api() {
    let engine = Engine::with_busybox();
    sleeper(&engine, "api", &["-u", "12:34"]);
    engine
        .gantry(&[
            "exec",
            "-u",
            "0",
            "api",
            "ln",
            "-s",
            "../etc/passwd",
            "/tmp/link",
        ])
        .ok();
    let stat = |path: &str| {
        let url = format!("/v1.51/containers/api/archive?path={path}");
        let answer = engine.api("HEAD", &url, None).expect(200);
        let header = answer
            .header("x-docker-container-path-stat")
            .unwrap()
            .to_owned();
        let mut decode = Command::new("base64");
        decode.arg("-d");
        let json = ran(decode, header.as_bytes(), PATIENCE).ok();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    let link = stat("/tmp/link");
    assert_eq!(
        (&link["name"], &link["linkTarget"]),
        (&"link".into(), &"/etc/passwd".into())
    );
    assert_eq!(link["mode"].as_u64().unwrap() >> 24, 0x08);
    assert_eq!(stat("/tmp")["mode"], 0x8010_01ff_u32);
    assert_eq!(stat("/")["name"], "/");
    engine
        .api("HEAD", "/v1.51/containers/api/archive?path=/none", None)
        .expect(404);
    // Everything for the container's user.
    let url = "/v1.51/containers/api/archive?path=/tmp&copyUIDGID=1";
    let tar = tar_of(&[("mine", b'0', "")]);
    engine
        .api_bytes("PUT", url, "application/x-tar", Some(&tar))
        .expect(200);
    assert_eq!(inside(&engine, "api", "stat -c %u:%g /tmp/mine"), "12:34");
}

/// The client of Docker itself, where it is at hand (the folder of other engines).
#[test]
fn dockers_own_client_copies() {
    let Some(docker) = ["/var/tmp/gantry-peers/usr/bin/docker", "/usr/bin/docker"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
    else {
        println!("no docker client is installed: nothing is compared");
        return;
    };
    let engine = Engine::with_busybox();
    let docker = |words: &[&str]| {
        let mut command = Command::new(docker);
        command.args(["-H", &engine.host()]).args(words);
        ran(command, b"", PATIENCE)
    };
    let tree = odd_tree(&engine);
    sleeper(&engine, "cc", &[]);
    docker(&["cp", &text(&tree), "cc:/tmp/tree"]).ok();
    let back = engine.folder().join("back");
    docker(&["cp", "cc:/tmp/tree", &text(&back)]).ok();
    let (sent, got) = (back.join("d/file"), tree.join("d/file"));
    assert_eq!(std::fs::read(sent).unwrap(), std::fs::read(got).unwrap());
    assert!(
        back.join("fifo")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let missing = docker(&["cp", "cc:/none", &text(&back)]).fails_with(1);
    assert!(
        missing.contains("Could not find the file /none in container cc"),
        "{missing}"
    );
    assert!(docker(&["diff", "cc"]).ok().contains("A /tmp/tree/link"));
    let tar = engine.folder().join("docker.tar");
    docker(&["export", "-o", &text(&tar), "cc"]).ok();
    let id = docker(&["commit", "-m", "by docker", "cc", "bydocker"]).ok();
    assert!(id.starts_with("sha256:"));
    docker(&["rename", "cc", "dd"]).ok();
}
