//! Clients and containers that mean no good.

use super::{inside, sleeper, text};
use gantry_testkit::Engine;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[test]
fn a_daemon_killed_while_files_are_copied_leaves_nothing() {
    let mut engine = Engine::with_busybox();
    let folder = text(engine.folder());
    let flags = ["-v", &format!("{folder}:/rw"), "busybox", "true"];
    let mut words = vec!["create", "--name", "still"];
    words.extend(flags);
    engine.gantry(&words).ok();
    let mut fed = engine
        .command(&["cp", "-", "still:/tmp"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    engine.kill_daemon();
    drop(fed.stdin.take());
    fed.wait().unwrap();
    assert!(engine.leaks().iter().all(|leak| !leak.starts_with("mount")));
    engine.launch();
    engine.gantry(&["start", "-a", "still"]).ok();
}

#[test]
fn a_daemon_killed_in_a_commit_has_the_image_or_nothing_of_it() {
    let mut engine = Engine::with_busybox();
    let script = "i=0; while [ $i -lt 400 ]; do dd if=/dev/urandom of=/f$i bs=16k count=4 2>/dev/null; i=$((i+1)); done";
    engine
        .gantry(&["run", "--name", "made", "busybox", "sh", "-c", script])
        .ok();
    let layers = |engine: &Engine| {
        let root = engine.data_root();
        let count = |path: &str| std::fs::read_dir(root.join(path)).unwrap().count();
        (count("layers/l"), count("image/blobs/sha256"))
    };
    let before = layers(&engine);
    let mut kept = 0;
    for delay in [5, 20, 40, 80, 120, 200, 300] {
        let name = format!("kept:{delay}");
        let words = ["commit", "-c", &format!("ENV D={delay}"), "made", &name];
        let mut commit = engine
            .command(&words)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        engine.kill_daemon();
        commit.wait().unwrap();
        engine.launch();
        let images = engine.gantry(&["images", "-q", "--no-trunc", &name]).ok();
        if images.is_empty() {
            continue;
        }
        kept += 1;
        let looked = ["run", "--rm", &name, "sh", "-c", "ls /f* | wc -l"];
        assert_eq!(engine.gantry(&looked).ok(), "400");
        engine.gantry(&["rmi", &name]).ok();
    }
    println!("{kept} of 7 commits were done before the daemon was killed");
    engine.gantry(&["image", "prune", "-f"]);
    engine.api("POST", "/images/prune", None).expect(200);
    assert_eq!(layers(&engine), before);
    let left = std::fs::read_dir(engine.data_root().join("tmp"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[test]
fn several_clients_share_one_look_into_a_still_container() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&[
            "create",
            "--name",
            "still",
            "busybox",
            "sh",
            "-c",
            "ls /tmp | wc -l",
        ])
        .ok();
    let file = engine.folder().join("file");
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    std::thread::scope(|scope| {
        for number in 0..12 {
            let (engine, file) = (&engine, &file);
            scope.spawn(move || {
                let to = format!("still:/tmp/{number}");
                engine.gantry(&["cp", &text(file), &to]).ok();
                let back = engine.folder().join(format!("back-{number}"));
                engine.gantry(&["cp", &to, &text(&back)]).ok();
                assert_eq!(std::fs::read(back).unwrap().len(), 300_000);
            });
        }
    });
    assert_eq!(engine.gantry(&["start", "-a", "still"]).ok(), "12");
}

#[test]
fn a_start_shuts_out_a_client_that_never_ends() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["create", "--name", "still", "busybox", "sleep", "1000"])
        .ok();
    let mut stuck = engine
        .command(&["cp", "-", "still:/tmp"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    engine.gantry(&["start", "still"]).ok();
    assert!(started.elapsed() < Duration::from_secs(20));
    use std::io::Write;
    let _ = stuck.stdin.take().unwrap().write_all(&[0; 4096]);
    let output = stuck.wait_with_output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("started or removed meanwhile"), "{told}");
}

/// CVE-2018-15664: a container that exchanges a directory for a link to the host's, all the time.
#[test]
fn a_container_that_swaps_links_gains_nothing() {
    let engine = Engine::with_busybox();
    let canary = PathBuf::from(format!("/var/tmp/gantry-canary-{}", std::process::id()));
    std::fs::create_dir_all(&canary).unwrap();
    std::fs::write(canary.join("file"), "of the host").unwrap();
    let script = format!(
        "mkdir -p /w/real; echo inner >/w/real/file; ln -s {0} /w/link; ln -s / /w/rootlink; \
         while true; do mv -T /w/real /w/x && mv -T /w/link /w/real && mv -T /w/x /w/link; \
         mv -T /w/real /w/x && mv -T /w/link /w/real && mv -T /w/x /w/link; done",
        canary.display()
    );
    engine
        .gantry(&[
            "run", "-d", "--name", "evil", "busybox", "sh", "-c", &script,
        ])
        .ok();
    let file = engine.folder().join("file");
    std::fs::write(&file, "overwritten").unwrap();
    let out = engine.folder().join("out");
    let end = Instant::now() + Duration::from_secs(6);
    let (mut rounds, mut seen) = (0, 0);
    while Instant::now() < end {
        for path in ["/w/real/file", "/w/link/file", "/w/real", "/w"] {
            let _ = std::fs::remove_dir_all(&out);
            let _ = std::fs::remove_file(&out);
            engine.gantry(&["cp", "-L", &format!("evil:{path}"), &text(&out)]);
            // What came out as a link is the client's own, and leads where it says.
            let real = |path: &PathBuf| !path.is_symlink();
            let folders = [out.clone(), out.join("real"), out.join("link")];
            let folders = folders.iter().filter(|dir| real(&out) && real(dir));
            let files = folders.map(|dir| dir.join("file")).chain([out.clone()]);
            for found in files.filter(real) {
                let content = std::fs::read_to_string(found).unwrap_or_default();
                assert!(!content.contains("of the host"), "{path}: {content}");
                // The container's own, as it was made or as it has been written from here.
                seen += usize::from(content == "inner\n" || content == "overwritten");
            }
        }
        for path in ["/w/real/file", "/w/link/file", "/w/real/", "/w/link/"] {
            engine.gantry(&["cp", &text(&file), &format!("evil:{path}")]);
        }
        rounds += 1;
    }
    assert!(rounds > 5 && seen > 0, "{rounds} rounds, {seen} seen");
    let kept = std::fs::read_to_string(canary.join("file")).unwrap();
    let names = std::fs::read_dir(&canary).unwrap().count();
    std::fs::remove_dir_all(&canary).unwrap();
    assert_eq!((kept.as_str(), names), ("of the host", 1));
}

#[test]
fn hostile_archives_do_no_harm() {
    let engine = Engine::with_busybox();
    let canary = PathBuf::from(format!("/var/tmp/gantry-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&canary).unwrap();
    std::fs::write(canary.join("file"), "host").unwrap();
    sleeper(&engine, "running", &["--cap-drop", "MKNOD"]);
    engine
        .gantry(&["create", "--name", "still", "busybox", "true"])
        .ok();
    let host = text(&canary);
    let up = format!("../../../../../../../..{host}/file");
    let absolute = format!("{host}/file");
    let cases: &[(Entries<'_>, u16, &str)] = &[
        (&[(&up, b'0', "")], 500, "invalid entry name"),
        (
            &[("a/../../b", b'0', "")],
            500,
            "invalid entry name \"a/../../b\"",
        ),
        // An absolute name is one below the folder, and so is an absolute link to what follows.
        (&[(&absolute, b'0', "")], 200, ""),
        (&[("out", b'2', &up), ("out", b'0', "")], 200, ""),
        (&[("abs", b'2', &host), ("abs/file", b'0', "")], 200, ""),
        (&[("h", b'1', &up)], 500, "invalid hardlink target"),
        (&[("h", b'1', "/etc/shadow")], 404, ""),
        (&[("way", b'2', "/etc"), ("way/made", b'0', "")], 200, ""),
        (
            &[("block", b'4', ""), ("char", b'3', ""), ("fifo", b'6', "")],
            200,
            "",
        ),
        (&[("x", b'9', "")], 200, ""),
    ];
    for name in ["running", "still"] {
        for (entries, status, words) in cases {
            let path = format!("/v1.51/containers/{name}/archive?path=/tmp&noOverwriteDirNonDir=1");
            let answer =
                engine.api_bytes("PUT", &path, "application/x-tar", Some(&tar_of(entries)));
            let told = answer.text();
            assert_eq!(answer.status, *status, "{name} {entries:?}: {told}");
            let told = told.replace("\\\"", "\"");
            assert!(told.contains(words), "{name} {entries:?}: {told}");
        }
        let kept = std::fs::read_to_string(canary.join("file")).unwrap();
        assert_eq!(
            (kept.as_str(), std::fs::read_dir(&canary).unwrap().count()),
            ("host", 1)
        );
        assert!(!Path::new("/etc/made").exists());
        for garbage in [
            vec![7_u8; 100_000],
            vec![0x1f, 0x8b, 8, 0, 1, 2, 3],
            Vec::new(),
        ] {
            let path = format!("/v1.51/containers/{name}/archive?path=/tmp");
            let answer = engine.api_bytes("PUT", &path, "application/x-tar", Some(&garbage));
            assert_eq!(answer.status, if garbage.is_empty() { 200 } else { 500 });
        }
    }
    assert_eq!(
        inside(
            &engine,
            "running",
            "ls /etc/made 2>/dev/null || cat /tmp/etc/made"
        ),
        "evil"
    );
    std::fs::remove_dir_all(&canary).unwrap();
    engine.serves();
}

type Entries<'a> = &'a [(&'a str, u8, &'a str)];

/// A tar by hand: path, kind, link.
pub(super) fn tar_of(entries: &[(&str, u8, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, kind, link) in entries {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..107].copy_from_slice(b"0000644");
        block[108..115].copy_from_slice(b"0000000");
        block[116..123].copy_from_slice(b"0000000");
        let size = if *kind == b'0' { 5 } else { 0 };
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[136..147].copy_from_slice(b"00000000000");
        block[156] = *kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[329..336].copy_from_slice(b"0000010");
        block[337..344].copy_from_slice(b"0000000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(block);
        if size > 0 {
            let mut data = b"evil\n".to_vec();
            data.resize(512, 0);
            out.extend(data);
        }
    }
    out.extend([0; 1024]);
    out
}
