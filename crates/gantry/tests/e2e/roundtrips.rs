//! Images go out to skopeo and come back: by the API (`docker-daemon:`) and by archives of both kinds.

use std::process::Command;
use std::time::Duration;

use gantry_testkit::{Engine, busybox_tar, ran};

fn skopeo(engine: &Engine, words: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.arg("--insecure-policy").args(words);
    command.env("TMPDIR", engine.folder());
    ran(command, b"", Duration::from_secs(120)).ok()
}

/// An image of two layers with settings of its own.
fn made(engine: &Engine) {
    engine.import(&busybox_tar(), "base");
    let script = "mkdir /d && echo here > /d/f && ln /d/f /d/hard && ln -s f /d/soft && mkfifo /d/p && chmod 4755 /d/f";
    engine
        .gantry(&["run", "--name", "maker", "base", "sh", "-c", script])
        .ok();
    let settings = ["--change", "ENV A=b", "--change", "CMD [\"cat\", \"/d/f\"]"];
    engine
        .gantry(&[&["commit"], &settings[..], &["maker", "team/two:1"]].concat())
        .ok();
    engine.gantry(&["rm", "maker"]).ok();
}

fn layers(engine: &Engine, name: &str) -> String {
    let format = "{{json .RootFS.Layers}} {{json .Config.Env}}";
    engine
        .gantry(&["image", "inspect", "-f", format, name])
        .ok()
}

fn same(engine: &Engine, name: &str, expected: &str) {
    assert_eq!(layers(engine, name), expected, "{name}");
    let ran = engine.gantry(&["run", "--rm", name]).ok();
    assert_eq!(ran, "here", "{name}");
    let kinds = "stat -c '%F %h %a' /d/f /d/hard /d/soft /d/p";
    assert_eq!(
        engine
            .gantry(&["run", "--rm", name, "sh", "-c", kinds])
            .ok(),
        "regular file 2 4755\nregular file 2 4755\nsymbolic link 1 777\nfifo 1 644",
        "{name}"
    );
}

#[test]
fn skopeo_takes_from_a_daemon_and_gives_to_another() {
    let (one, two) = (Engine::start(), Engine::start());
    made(&one);
    let expected = layers(&one, "team/two:1");
    let (from, to) = (one.host(), two.host());
    let hosts = ["--src-daemon-host", &from, "--dest-daemon-host", &to];
    let copy = |words: &[&str]| skopeo(&one, &[&["copy"], &hosts[..], words].concat());
    copy(&["docker-daemon:team/two:1", "docker-daemon:came/over:2"]);
    same(&two, "came/over:2", &expected);
    // Out into every form, and in again.
    for form in ["docker-archive", "oci-archive", "oci", "dir"] {
        let place = one.folder().join(form);
        let place = match form {
            "docker-archive" => format!("{form}:{}:in/{form}:1", place.display()),
            "dir" => format!("{form}:{}", place.display()),
            _ => format!("{form}:{}:1", place.display()),
        };
        copy(&["docker-daemon:team/two:1", &place]);
        let name = format!("in/{form}:1");
        copy(&[&place, &format!("docker-daemon:{name}")]);
        same(&two, &name, &expected);
    }
}

#[test]
fn archives_of_save_are_copied_by_skopeo_and_those_of_skopeo_loaded() {
    let (one, two) = (Engine::start(), Engine::start());
    made(&one);
    let expected = layers(&one, "team/two:1");
    let saved = one.folder().join("saved.tar");
    let file = saved.to_string_lossy();
    one.gantry(&["save", "-o", &file, "team/two:1"]).ok();
    // Docker's reader of what we save, and the OCI one, each into each kind of archive that we load.
    for reader in [
        format!("docker-archive:{file}:team/two:1"),
        format!("oci-archive:{file}"),
    ] {
        for form in ["docker-archive", "oci-archive"] {
            for compression in ["gzip", "zstd"] {
                let out = one.folder().join("out.tar");
                let kind = reader.split(':').next().unwrap();
                let name = format!("by/{kind}-{form}-{compression}:1");
                let to = match form {
                    "docker-archive" => format!("{form}:{}:{name}", out.display()),
                    _ => format!("{form}:{}:docker.io/{name}", out.display()),
                };
                let format = ["--dest-compress-format", compression];
                // Docker's form has its layers as they are.
                let format = if form == "oci-archive" {
                    &format[..]
                } else {
                    &[]
                };
                skopeo(&one, &[&["copy"], format, &[&reader, &to]].concat());
                let loaded = two.gantry(&["load", "-i", &out.to_string_lossy()]).ok();
                assert!(loaded.contains(&name), "{loaded}");
                same(&two, &name, &expected);
                std::fs::remove_file(&out).unwrap();
            }
        }
    }
}
