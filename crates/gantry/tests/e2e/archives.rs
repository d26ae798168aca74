//! Images as files: from web servers, compressed by any program, for other programs.

use gantry_testkit::{Engine, busybox_tar, ran};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

/// A web server for a few requests: `/tar` has an archive, `/to/...` sends on, all else is not there.
fn web(archive: Vec<u8>, requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let path = head.split(' ').nth(1).unwrap();
            let close = "Connection: close\r\n";
            let answer = match path {
                "/tar" => format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n",
                    archive.len()
                ),
                "/cut" => format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n",
                    archive.len() * 2
                ),
                "/to/tar" => {
                    format!("HTTP/1.1 302 Found\r\nLocation: http://{own}/tar\r\n{close}\r\n")
                }
                "/to/file" => {
                    format!("HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n{close}\r\n")
                }
                "/to/itself" => {
                    format!("HTTP/1.1 302 Found\r\nLocation: /to/itself\r\n{close}\r\n")
                }
                _ => format!("HTTP/1.1 404 Not Found\r\nContent-Length: 8\r\n{close}\r\nnot here"),
            };
            stream.write_all(answer.as_bytes()).unwrap();
            if matches!(path, "/tar" | "/cut") {
                // Who has heard enough may go away.
                let _ = stream.write_all(&archive);
            }
        }
    });
    address
}

#[test]
fn an_image_is_imported_from_a_web_server() {
    let engine = Engine::start();
    let archive = std::fs::read(busybox_tar()).unwrap();
    let address = web(archive, 20);
    let url = format!("http://{address}/to/tar");
    let said = engine
        .gantry(&["import", "-c", "CMD [\"echo\", \"hi\"]", &url, "web:1"])
        .ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("Downloading from {url}"));
    assert!(lines.last().unwrap().starts_with("sha256:"), "{said}");
    assert_eq!(engine.gantry(&["run", "--rm", "web:1"]).ok(), "hi");
    assert_eq!(
        engine
            .gantry(&["inspect", "-f", "{{.Comment}}", "web:1"])
            .ok(),
        format!("Imported from {url}")
    );
    // The progress, as it goes over the wire; without a scheme it is http.
    let path = format!("/v1.51/images/create?fromSrc={address}/tar&message=m");
    let answer = engine.api("POST", &path, None).expect(200).text();
    assert!(
        answer.contains("{\"status\":\"Importing\",\"progressDetail\":{\"current\":"),
        "{answer}"
    );

    let refused = |path: &str, status: u16| {
        let path = format!("/v1.51/images/create?fromSrc=http://{address}{path}");
        let answer = engine.api("POST", &path, None).expect(status);
        answer.json()["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        refused("/nothing", 404),
        format!("failed to GET http://{address}/nothing with status 404 Not Found: not here")
    );
    assert!(refused("/to/file", 500).contains("unsupported protocol scheme \"file\""));
    assert!(refused("/to/itself", 500).contains("stopped after 10 redirects"));
    let closed = engine.api(
        "POST",
        "/v1.51/images/create?fromSrc=http://127.0.0.1:1/x",
        None,
    );
    assert_eq!(
        closed.expect(500).json()["message"],
        "Get \"http://127.0.0.1:1/x\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    let scheme = engine.api("POST", "/v1.51/images/create?fromSrc=ftp://x/y", None);
    assert_eq!(
        scheme.expect(500).json()["message"],
        "Get \"ftp://x/y\": unsupported protocol scheme \"ftp\""
    );
    // A server that breaks off makes no image.
    let before = engine.gantry(&["images", "-qa"]).ok();
    engine
        .gantry(&["import", &format!("http://{address}/cut"), "cut:1"])
        .fails_with(1);
    assert_eq!(engine.gantry(&["images", "-qa"]).ok(), before);
}

fn shell(engine: &Engine, script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(engine.folder());
    ran(command, b"", Duration::from_secs(60)).ok()
}

#[test]
fn a_container_takes_archives_of_every_usual_compression() {
    let engine = Engine::with_busybox();
    engine
        .gantry(&["run", "-d", "--name", "box", "busybox", "sleep", "600"])
        .ok();
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        shell(
            &engine,
            &format!(
                "echo {program} > by-{program}; tar -cf - by-{program} | {program} -c > packed"
            ),
        );
        let packed = std::fs::read(engine.folder().join("packed")).unwrap();
        engine
            .api_bytes(
                "PUT",
                "/v1.51/containers/box/archive?path=/tmp",
                "application/x-tar",
                Some(&packed),
            )
            .expect(200);
        let file = format!("/tmp/by-{program}");
        assert_eq!(engine.gantry(&["exec", "box", "cat", &file]).ok(), program);
    }
}

#[test]
fn what_is_saved_is_read_by_skopeo_and_loaded_compressed() {
    let engine = Engine::with_busybox();
    engine.gantry(&["tag", "busybox", "one.example/box:1"]).ok();
    engine
        .gantry(&["run", "--name", "maker", "busybox", "touch", "/more"])
        .ok();
    let id = engine.gantry(&["commit", "maker", "more:2"]).ok();
    let file = engine.folder().join("saved.tar");
    let file = file.to_string_lossy();
    engine
        .gantry(&["save", "-o", &file, "busybox", "one.example/box", "more:2"])
        .ok();
    for name in [
        "docker.io/library/busybox:latest",
        "one.example/box:1",
        "docker.io/library/more:2",
    ] {
        // In a layout skopeo knows images by their tags.
        let tag = name.rsplit(':').next().unwrap();
        for (kind, called) in [("docker-archive", name), ("oci-archive", tag)] {
            let of = shell(
                &engine,
                &format!(
                    "TMPDIR=$PWD skopeo inspect --config --raw {kind}:{file}:{called} | sha256sum"
                ),
            );
            let image = engine.gantry(&["inspect", "-f", "{{.Id}}", name]).ok();
            assert_eq!(format!("sha256:{}", &of[..64]), image, "{kind}: {name}");
        }
    }
    shell(&engine, "xz -kc0 saved.tar > saved.tar.xz");
    engine.gantry(&["rm", "maker"]).ok();
    engine
        .gantry(&["rmi", "busybox", "one.example/box:1", "more:2"])
        .ok();
    assert_eq!(engine.gantry(&["images", "-qa"]).ok(), "");
    let said = engine.gantry(&["load", "-i", &format!("{file}.xz")]).ok();
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Loaded image: busybox:latest",
            "Loaded image: more:2",
            "Loaded image: one.example/box:1"
        ]
    );
    assert_eq!(
        engine.gantry(&["inspect", "-f", "{{.Id}}", "more:2"]).ok(),
        id
    );
    // A name that is another's by now is taken from it.
    engine.import(&busybox_tar(), "more:2");
    let other = engine.gantry(&["inspect", "-f", "{{.Id}}", "more:2"]).ok();
    let said = engine.gantry(&["load", "-i", &file]).ok();
    assert!(
        said.contains(&format!(
            "The image more:2 already exists, renaming the old one with ID {other} to empty string"
        )),
        "{said}"
    );
}
