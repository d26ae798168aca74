//! What `run` asks for, line by line, held against requests and texts of Docker's own client (28.2.2).

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use super::client;
use super::daemon::{Daemon, json};

const RECORDED: &str = include_str!("run-docker-28.2.2.jsonl");

/// Objects whose members count even where they are empty.
const MAPS: &[&str] = &[
    "EndpointsConfig",
    "ExposedPorts",
    "Volumes",
    "PortBindings",
    "Tmpfs",
    "Labels",
];

/// Takes out what says nothing: Go's zero values.
pub(super) fn stripped(value: &Value, keep: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let mut left = serde_json::Map::new();
            for (key, value) in fields {
                let inner = stripped(value, MAPS.contains(&key.as_str()));
                let empty = match &inner {
                    Value::Null | Value::Bool(false) => true,
                    Value::Number(number) => number.as_i64() == Some(0),
                    Value::String(text) => text.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    Value::Object(fields) => fields.is_empty(),
                    Value::Bool(true) => false,
                };
                let always = matches!(
                    key.as_str(),
                    "Init" | "StopTimeout" | "EnableIPv4" | "EnableIPv6"
                ) && !value.is_null();
                if key != "ConsoleSize" && (keep || always || !empty) {
                    left.insert(key.clone(), inner);
                }
            }
            Value::Object(left)
        }
        Value::Array(items) => items.iter().map(|item| stripped(item, false)).collect(),
        other => other.clone(),
    }
}

/// Words as a shell would make them of a line with simple quotes.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for letter in line.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(end)) if letter == end => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            (letter, _) => word.push(letter),
        }
    }
    words.push(word);
    words
}

fn files(dir: &Path) {
    for (name, text) in [
        ("ENVFILE", "# c\nX=1\n\n  Y=two words\nNOT_SET_ANYWHERE\n"),
        ("LABELFILE", "la=1\nlb\n"),
        (
            "SECCOMPFILE",
            "{ \"defaultAction\" : \"SCMP_ACT_ALLOW\" }\n",
        ),
        ("BADENVFILE", "a b=1\n"),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn every_line_asks_for_what_dockers_client_asks_for() {
    let daemon =
        Daemon::start(|_, _, stream| json(stream, "418 Teapot", "{\"message\":\"recorded\"}"));
    let dir = std::env::temp_dir().join(format!("gantry-cli-recorded-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    files(&dir);
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in RECORDED.lines() {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let line = recorded["line"].as_str().unwrap();
        let words = words(line);
        if words[0] == "-it" {
            // Needs a terminal: see the tests of that.
            continue;
        }
        count += 1;
        let before = daemon.requests().len();
        let mut command = client(&daemon.host());
        command
            .arg0_docker()
            .arg("run")
            .args(&words)
            .current_dir(&dir);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let mut told = |what: String| wrong.push(format!("run {line}: {what}"));
        if output.status.code() != recorded["code"].as_i64().map(|code| code as i32) {
            told(format!("exit {:?}", output.status));
        }
        let requests = daemon.requests();
        let expected_body = &recorded["body"];
        match requests.get(before) {
            None if expected_body.is_null() => {
                let text = String::from_utf8(output.stderr).unwrap();
                if recorded["error"].as_str() != Some(&text) {
                    told(format!("says {text:?}, Docker {}", recorded["error"]));
                }
            }
            None => told("sent nothing".to_owned()),
            Some(request) => {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                let body = stripped(&body, false);
                if body != *expected_body {
                    told(format!("sent {body}\n  Docker {expected_body}"));
                }
                let path = request.path.trim_start_matches('/');
                if Some(path) != recorded["path"].as_str() {
                    told(format!("asked {path}, Docker {}", recorded["path"]));
                }
            }
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(count > 150, "only {count} lines");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

trait Named {
    fn arg0_docker(&mut self) -> &mut Self;
}

impl Named for std::process::Command {
    /// Called as Docker's client, the texts are its texts.
    fn arg0_docker(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, "docker")
    }
}
