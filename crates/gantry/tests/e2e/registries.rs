//! Registries from the command line: login, push, pull, search, manifests; by Docker's client and by ours.

use crate::everyday::{Normal, words};
use gantry_testkit::{Engine, Ran, Registry, docker_cli, ran};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A client with a configuration folder of its own.
fn client(engine: &Engine, program: &Path, config: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command
        .args(["-H", &engine.host()])
        .args(args)
        .env("DOCKER_CONFIG", engine.folder().join(config))
        .env("PATH", "/usr/bin:/bin")
        .env_remove("DOCKER_HOST")
        .env_remove("GANTRY_HOST");
    ran(command, b"", Duration::from_secs(60))
}

fn gantry(engine: &Engine, args: &[&str]) -> Ran {
    let program = engine.command(&[]).get_program().to_owned();
    client(engine, Path::new(&program), "config", args)
}

#[test]
fn a_private_registry_wants_a_login() {
    let engine = Engine::with_busybox();
    let registry = Registry::start_private(&engine.folder().join("registry"));
    let address = registry.address();
    let image = format!("{address}/team/box:1");
    gantry(&engine, &["tag", "busybox", &image]).ok();
    let refused = gantry(&engine, &["push", &image]).fails_with(1);
    assert_eq!(refused, "no basic auth credentials");

    let login = |password: &str| gantry(&engine, &["login", "-u", "me", "-p", password, address]);
    let refused = login("wrong").fails_with(1);
    let why = format!("login attempt to http://{address}/v2/ failed with status: 401 Unauthorized");
    let why = format!("Error response from daemon: {why}");
    assert!(refused.ends_with(&why), "{refused}");
    let config = engine.folder().join("config/config.json");
    assert!(!config.exists());

    assert_eq!(login("secret").ok(), "Login Succeeded");
    let text = std::fs::read_to_string(&config).unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stored["auths"][address]["auth"], "bWU6c2VjcmV0");
    let pushed = gantry(&engine, &["push", "-q", &image]).ok();
    assert_eq!(pushed, image);
    gantry(&engine, &["rmi", &image]).ok();
    let pulled = gantry(&engine, &["pull", &image]).ok();
    assert!(pulled.ends_with(&image), "{pulled}");
    // What `create` pulls brings the credentials, too.
    gantry(&engine, &["rmi", &image]).ok();
    gantry(&engine, &["create", "--pull", "always", &image, "true"]).ok();
    // The same by digest, and what the name stands for.
    let auth = "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ==";
    let path = format!("/distribution/{image}/json");
    engine.api("GET", &path, None).expect(500);
    let mut curl = Command::new("curl");
    curl.args(["-s", "--unix-socket"])
        .arg(engine.socket())
        .args(["-H", &format!("X-Registry-Auth: {auth}")])
        .arg(format!("http://localhost{path}"));
    let found = ran(curl, b"", Duration::from_secs(20)).ok();
    let found: Value = serde_json::from_str(&found).unwrap();
    let digest = found["Descriptor"]["digest"].as_str().unwrap();
    assert!(found["Descriptor"]["size"].as_u64().unwrap() > 100);
    let by_digest = format!("{address}/team/box@{digest}");
    let pulled = gantry(&engine, &["pull", &by_digest]).ok();
    assert!(pulled.contains(&format!("Digest: {digest}")), "{pulled}");

    let said = gantry(&engine, &["logout", address]).ok();
    assert_eq!(said, format!("Removing login credentials for {address}"));
    let refused = gantry(&engine, &["pull", &image]).fails_with(1);
    assert!(refused.ends_with("no basic auth credentials"), "{refused}");
}

#[test]
fn a_token_server_gives_an_identity_for_the_password() {
    let engine = Engine::with_busybox();
    let (registry, tokens) = Registry::start_with_tokens(&engine.folder().join("registry"));
    let address = registry.address();
    let login = |user: &str, password: &str| {
        gantry(&engine, &["login", "-u", user, "-p", password, address])
    };
    let refused = login("me", "wrong").fails_with(1);
    let why = format!("Get \"http://{address}/v2/\": unauthorized: incorrect username or password");
    assert!(refused.ends_with(&why), "{refused}");
    let shown =
        serde_json::json!({"username": "me", "password": "wrong", "serveraddress": address});
    engine.api("POST", "/auth", Some(&shown)).expect(401);

    assert_eq!(login("me", "secret").ok(), "Login Succeeded");
    let text = std::fs::read_to_string(engine.folder().join("config/config.json")).unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    let entry = &stored["auths"][address];
    // `me:`: the password is nowhere.
    assert_eq!(entry["auth"], "bWU6");
    assert_eq!(entry["identitytoken"], "identity-of-me");
    let image = format!("{address}/team/box:1");
    gantry(&engine, &["tag", "busybox", &image]).ok();
    gantry(&engine, &["push", "-q", &image]).ok();
    gantry(&engine, &["pull", "-q", &image]).ok();
    gantry(&engine, &["manifest", "inspect", "--insecure", &image]).ok();
    let asked = tokens.asked();
    assert_eq!(asked.last().unwrap(), &["repository:team/box:pull"]);

    // A user whom the server gives no such token keeps the password.
    assert_eq!(login("reader", "secret").ok(), "Login Succeeded");
    let refused = gantry(&engine, &["push", "-q", &image]).fails_with(1);
    assert_eq!(
        refused,
        "denied: requested access to the resource is denied"
    );
    gantry(&engine, &["logout", address]).ok();
    let refused = gantry(&engine, &["pull", &image]).fails_with(1);
    assert!(refused.contains("pull access denied"), "{refused}");
}

#[test]
fn a_login_needs_no_daemon() {
    let engine = Engine::start();
    let registry = Registry::start_private(&engine.folder().join("registry"));
    let program = engine.command(&[]).get_program().to_owned();
    let login = |password: &str| {
        let mut command = Command::new(&program);
        command
            .args(["-H", "unix:///nonexistent/sock", "login", "-u", "me"])
            .args(["-p", password, registry.address()])
            .env("DOCKER_CONFIG", engine.folder().join("config"))
            .env("PATH", "/usr/bin:/bin");
        ran(command, b"", Duration::from_secs(30))
    };
    let refused = login("wrong").fails_with(1);
    assert!(
        refused.ends_with("failed with status: 401 Unauthorized"),
        "{refused}"
    );
    assert_eq!(login("secret").ok(), "Login Succeeded");
}

/// A registry of Docker's first protocol, as far as search needs it; gives its address and the requests that came.
fn searchable() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let all = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap_or(0);
            let head = String::from_utf8_lossy(&bytes[..count]).into_owned();
            let moved = head
                .lines()
                .next()
                .and_then(|line| line.split_once("/search?q=moved-"))
                .and_then(|(_, rest)| rest.split_once('&'))
                .map(|(port, _)| format!("Location: http://127.0.0.1:{port}/v1/search?q=box\r\n"));
            let (status, body) = match head.split(' ').nth(1).unwrap_or_default() {
                "/v1/_ping" => ("200 OK", "{\"standalone\": true}"),
                _ if moved.is_some() => ("302 Found", ""),
                path if path.starts_with("/v1/search?q=nothing") => ("200 OK", "{}"),
                path if path.starts_with("/v1/search?q=broken") => ("200 OK", "<html>"),
                path if path.starts_with("/v1/search?") => ("200 OK", FOUND),
                _ => ("404 Not Found", "{}"),
            };
            if head.starts_with("GET ") {
                all.lock().unwrap().push(head);
            }
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{}Connection: close\r\n\r\n{body}",
                moved.unwrap_or_default()
            );
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    (address, seen)
}

const FOUND: &str = r#"{"num_results": 3, "query": "box", "results": [
    {"name": "box", "description": "A box\nwith <two> lines, and more of them than will fit into a table", "star_count": 42,
        "is_official": true, "is_automated": false},
    {"name": "me/box", "description": "", "star_count": 5, "is_official": false, "is_automated": true},
    {"name": "you/box", "description": null, "star_count": 0, "is_official": false, "is_trusted": false}
]}"#;

/// Searches that both clients must show in the same way.
const SEARCHES: &str = "\
search REG/box
search --no-trunc REG/box
search --filter stars=5 REG/box
search --filter is-official=true REG/box
search --filter is-official=false --filter stars=1 REG/box
search --filter is-automated=true REG/box
search --filter is-automated=false REG/box
search --filter stars=x REG/box
search --filter nope=x REG/box
search --filter is-official=maybe REG/box
search --limit 2 REG/box
search --limit 101 REG/box
search --format json REG/box
search --format '{{.Name}}: {{.StarCount}} {{.IsOfficial}} {{.Description}}' REG/box
search --format 'table {{.Name}}\t{{.IsOfficial}}' REG/box
search --format '{{json .}}' REG/box
search --format '{{.Nope}}' REG/box
search REG/nothing
search REG/broken
search http://REG/x
search 127.0.0.1:1/x
search
search --help";

/// What both clients say to the same commands, each to its own daemon and registry.
fn compare(commands: &str, theirs: (&Engine, &str), ours: (&Engine, &str)) {
    let docker = docker_cli();
    let binary = ours.0.command(&[]).get_program().to_owned();
    let normal = Normal::new();
    let said = |(engine, address): (&Engine, &str), program: &Path, config: &str, line: &str| {
        let words: Vec<String> = words(line)
            .iter()
            .map(|word| word.replace("REG", address))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = client(engine, program, config, &words);
        let place = engine.folder().join(config).display().to_string();
        let of = |text: &str| normal.of(&text.replace(&place, "/CONFIG").replace(address, "REG"));
        (ran.code, of(&ran.stdout), of(&ran.stderr))
    };
    let mut differ = Vec::new();
    for line in commands.lines() {
        // One after the other: they may have one registry.
        let theirs = said(theirs, &docker, "config-docker", line);
        let ours = said(ours, Path::new(&binary), "config", line);
        if theirs != ours {
            differ.push(format!("{line}\n  docker: {theirs:?}\n  gantry: {ours:?}"));
        }
    }
    let count = differ.len();
    assert!(differ.is_empty(), "{count} differ:\n{}", differ.join("\n"));
}

#[test]
fn search() {
    let engine = Engine::start();
    let (address, seen) = searchable();
    let term = format!("{address}/box");
    let names = |args: &[&str]| {
        let format = [&["search", "--format", "{{.Name}}"], args].concat();
        gantry(&engine, &[&format[..], &[&term]].concat()).ok()
    };
    assert_eq!(names(&[]), "box\nme/box\nyou/box");
    assert_eq!(names(&["-s", "5"]), "box\nme/box");
    assert_eq!(names(&["--automated"]), "");
    assert_eq!(names(&["--limit", "7"]), "box\nme/box\nyou/box");
    let last = seen.lock().unwrap().last().cloned().unwrap();
    assert!(last.starts_with("GET /v1/search?q=box&n=7 "), "{last}");
    assert!(!last.to_lowercase().contains("authorization"), "{last}");
    // Stored credentials are shown.
    let config = engine.folder().join("config");
    std::fs::create_dir_all(&config).unwrap();
    let text = format!("{{\"auths\":{{\"{address}\":{{\"auth\":\"bWU6c2VjcmV0\"}}}}}}");
    std::fs::write(config.join("config.json"), text).unwrap();
    names(&[]);
    let last = seen.lock().unwrap().last().cloned().unwrap();
    assert!(
        last.contains("authorization: Basic bWU6c2VjcmV0\r\n"),
        "{last}"
    );
    // But not to whom the registry sends us on.
    let (elsewhere, others) = searchable();
    let port = elsewhere.rsplit(':').next().unwrap();
    let found = gantry(&engine, &["search", &format!("{address}/moved-{port}")]).ok();
    assert!(found.contains("me/box"), "{found}");
    let last = others.lock().unwrap().last().cloned().unwrap();
    assert!(!last.to_lowercase().contains("authorization"), "{last}");
    engine
        .api("GET", "/images/search?term=a&limit=-1", None)
        .expect(400);
    compare(SEARCHES, (&engine, &address), (&engine, &address));
}

/// A day with a registry.
const COMMANDS: &str = "\
login --help
login -u me -p secret REG
login -u me -p wrong REG
login -u me -p secret http://REG/v2/
login REG
login -u '' REG
login a b
login -u me
push --help
push busybox:1 REG
push -a busybox:latest
push UPPER
push --platform x/y/z/w busybox
push --platform linux/amd64 nothing
push nothing
push busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000
tag busybox REG/box:1
tag busybox REG/box:2
push REG/box:1
push REG/box:1
push -q REG/box:2
push -a REG/box
push REG/box
image push -q REG/box:1
rmi REG/box:1 REG/box:2
pull --help
pull REG/box:1
pull REG/box:1
pull -q REG/box:2
pull REG/box:3
pull REG/nothing
pull -a REG/box
pull -aq REG/box
pull -a REG/nothing
pull -a REG/box:1
pull UPPER
pull --platform nope/nope REG/box:1
pull --platform linux/arm64 REG/box:1
image pull -q REG/box:1
logout --help
logout REG
logout REG
logout a b
pull REG/box:1
push REG/box:1";

#[test]
fn a_day_with_a_registry() {
    let (theirs, ours) = (Engine::with_busybox(), Engine::with_busybox());
    let start = |engine: &Engine| Registry::start_private(&engine.folder().join("registry"));
    let (first, second) = (start(&theirs), start(&ours));
    compare(
        COMMANDS,
        (&theirs, first.address()),
        (&ours, second.address()),
    );
}

/// A list of two platforms and another repository, from its making to its end.
const LISTS: &str = "\
manifest
manifest --help
manifest nope
manifest create --help
manifest annotate --help
manifest inspect --help
manifest push --help
manifest rm --help
manifest create REG/list
manifest create UPPER REG/box:arm
manifest create REG/l UPPER
manifest create REG/list:2 REG/box:arm
manifest create --insecure REG/list:1 REG/box:arm REG/box:amd
manifest create --insecure REG/list:1 REG/box:arm
manifest create --insecure --amend REG/list:1 REG/other/box
manifest create --insecure --amend REG/list:1 REG/nope
manifest inspect REG/list:1
manifest inspect -v REG/list:1
manifest inspect REG/list:1 REG/box:arm
manifest inspect -v REG/list:1 REG/box:amd
manifest inspect REG/list:1 REG/nope
manifest annotate --os linux --arch arm --variant v7 --os-features a,b --os-features b --os-version 1.2 REG/list:1 REG/box:arm
manifest annotate --arch nope REG/list:1 REG/box:arm
manifest annotate REG/list:1 REG/nope
manifest annotate REG/nope REG/box:arm
manifest annotate UPPER REG/box:arm
manifest inspect REG/list:1
manifest push REG/list:1
manifest push --insecure -p REG/list:1
manifest push REG/list:1
manifest inspect --insecure REG/list:1
manifest inspect --insecure -v REG/list:1
manifest inspect --insecure REG/box:arm
manifest inspect --insecure -v REG/box:amd
manifest inspect --insecure REG/nope
manifest inspect REG/box:arm
manifest inspect
manifest inspect a b c
manifest create --insecure REG/l REG/list:1
manifest create --insecure elsewhere.example/l REG/box:arm
manifest inspect elsewhere.example/l
manifest push elsewhere.example/l
manifest rm elsewhere.example/l nope
manifest rm elsewhere.example/l UPPER
manifest rm";

#[test]
fn lists_of_manifests() {
    let engine = Engine::start();
    let registry = Registry::start(&engine.folder().join("registry"));
    let address = registry.address();
    let tar = gantry_testkit::busybox_tar();
    for (platform, name) in [
        ("linux/arm64", "box:arm"),
        ("linux/amd64", "box:amd"),
        ("linux/riscv64", "other/box"),
    ] {
        let (name, tar) = (format!("{address}/{name}"), tar.to_string_lossy());
        gantry(&engine, &["import", "--platform", platform, &tar, &name]).ok();
        gantry(&engine, &["push", "-q", &name]).ok();
    }
    compare(LISTS, (&engine, address), (&engine, address));
    // Either client goes on with a list that the other one has begun.
    let (list, box_) = (format!("{address}/both"), format!("{address}/box:arm"));
    gantry(&engine, &["manifest", "create", "--insecure", &list, &box_]).ok();
    let inspect = ["manifest", "inspect", "-v", &list];
    let theirs = client(&engine, &docker_cli(), "config", &inspect).ok();
    assert_eq!(theirs, gantry(&engine, &inspect).ok());
    let annotate = ["manifest", "annotate", "--variant", "v8", &list, &box_];
    client(&engine, &docker_cli(), "config", &annotate).ok();
    let ours = gantry(&engine, &inspect).ok();
    assert!(ours.contains("\"variant\": \"v8\""), "{ours}");
    // What was pushed is an index that a pull understands.
    let list = format!("{address}/list:1");
    let pulled = gantry(&engine, &["pull", "--platform", "linux/amd64", &list]).ok();
    assert!(pulled.ends_with(&list), "{pulled}");
    let found = engine.api("GET", &format!("/distribution/{list}/json"), None);
    let found: Value = found.expect(200).json();
    let platforms = found["Platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), 3, "{found}");
    assert_eq!(
        platforms[1],
        serde_json::json!({"architecture": "arm", "os": "linux", "os.version": "1.2", "os.features": ["a", "b"], "variant": "v7"})
    );
}

#[test]
fn a_body_that_comes_late_does_not_end_the_connection() {
    let engine = Engine::start();
    for path in ["nothing/push?tag=1", "nothing/push?tag=1&platform=broken"] {
        let mut stream = UnixStream::connect(engine.socket()).unwrap();
        let head =
            format!("POST /v1.51/images/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        // The connection is still there, and good for another question.
        stream.write_all(b"{}\n").unwrap();
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        let answer = String::from_utf8_lossy(&bytes[..count]);
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}
