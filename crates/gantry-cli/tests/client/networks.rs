//! The network commands, and the flags of `run` that are about networks, held against requests and texts of Docker's own
//! client (28.5.2): what it asked a played daemon, and what it said of the answers.
//!
//! Left out is what that build says of ports that are none: see the tests of `request::ports`.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};

use serde_json::Value;
use serde_json::value::RawValue;

use super::client;
use super::daemon::{Daemon, json};
use super::recorded::{stripped, words};

const RECORDED: &str = include_str!("network-docker-28.5.2.jsonl");

#[derive(serde::Deserialize)]
struct Answers {
    /// `METHOD path` to status and body.
    answers: HashMap<String, (u16, Box<RawValue>)>,
}

fn play(answers: Answers) -> Daemon {
    let answers = answers.answers;
    Daemon::start(move |_, request, stream| {
        let line = request.line();
        let bare = line.split('?').next().unwrap();
        match answers.get(bare) {
            None => json(stream, "418 Teapot", "{\"message\":\"recorded\"}"),
            Some((204, _)) => stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap(),
            Some((status, body)) if body.get() == "null" => {
                json(stream, &format!("{status} X"), "")
            }
            Some((status, body)) => json(stream, &format!("{status} X"), body.get()),
        }
    })
}

/// Called as Docker's client, with `input` to read.
fn run(daemon: &Daemon, line: &str, input: &str) -> Output {
    let mut command = client(&daemon.host());
    command.arg0("docker").args(words(line.trim_end()));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who asks nothing reads nothing.
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{input}").ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn body(bytes: &[u8]) -> Value {
    let mut body = match bytes {
        [] => return Value::Null,
        bytes => stripped(&serde_json::from_slice(bytes).unwrap(), false),
    };
    // Docker's client puts subnets in any order.
    if let Some(Value::Array(subnets)) = body.pointer_mut("/IPAM/Config") {
        subnets.sort_by_key(|subnet| subnet["Subnet"].to_string());
    }
    body
}

#[test]
fn every_line_asks_and_says_what_dockers_client_does() {
    let mut lines = RECORDED.lines();
    let daemon = play(serde_json::from_str(lines.next().unwrap()).unwrap());
    let (mut wrong, mut count) = (Vec::new(), 0);
    for recorded in lines {
        let recorded: Value = serde_json::from_str(recorded).unwrap();
        let whole = recorded["line"].as_str().unwrap();
        let (line, input) = whole.split_once(" <<< ").unwrap_or((whole, ""));
        let before = daemon.requests().len();
        let output = run(&daemon, line, input);
        count += 1;
        let mut compare = |what: &str, ours: Value, dockers: &Value| {
            if ours != *dockers {
                wrong.push(format!("{whole}: {what}\n  {ours}\n  Docker {dockers}"));
            }
        };
        let text = |bytes: Vec<u8>| match String::from_utf8(bytes).unwrap() {
            text if text.is_empty() => Value::Null,
            text => text.into(),
        };
        let code = output.status.code().unwrap();
        let code = if code == 0 { Value::Null } else { code.into() };
        compare("exit code", code, &recorded["code"]);
        compare("stdout", text(output.stdout), &recorded["stdout"]);
        compare("stderr", text(output.stderr), &recorded["stderr"]);
        let requests = daemon.requests().split_off(before);
        let dockers = recorded["requests"].as_array().cloned().unwrap_or_default();
        let lines: Vec<String> = requests.iter().map(|request| request.line()).collect();
        let part = |of: &Value, key: &str| of[key].as_str().unwrap().to_owned();
        let line = |of: &Value| format!("{} {}", part(of, "method"), part(of, "path"));
        let asked: Vec<String> = dockers.iter().map(line).collect();
        compare("requests", lines.into(), &asked.into());
        for (request, docker) in requests.iter().zip(&dockers) {
            compare("body", body(&request.body), &docker["body"]);
        }
    }
    assert!(count > 250, "only {count} lines");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_lxc_was_told_of_the_hardware_address_is_understood() {
    let daemon = Daemon::start(|_, _, stream| json(stream, "418 Teapot", "{\"message\":\"no\"}"));
    let asked = |line: &str| {
        let before = daemon.requests().len();
        let output = run(&daemon, line, "");
        let requests = daemon.requests().split_off(before);
        match requests.first() {
            Some(request) => body(&request.body)["NetworkingConfig"].to_string(),
            None => String::from_utf8(output.stderr).unwrap(),
        }
    };
    let expected = "{\"EndpointsConfig\":{\"default\":{\"MacAddress\":\"92:d0:c6:0a:29:33\"}}}";
    for conf in [
        "lxc.network.hwaddr=92:d0:c6:0a:29:33",
        "'lxc.network.hwaddr = 92:d0:c6:0a:29:33'",
    ] {
        assert_eq!(asked(&format!("run --lxc-conf {conf} busybox")), expected);
    }
    let told = asked("run --lxc-conf lxc.cgroup.cpuset.cpus=0 busybox");
    assert!(
        told.starts_with(
            "invalid argument \"lxc.cgroup.cpuset.cpus=0\" for \"--lxc-conf\" flag: 'lxc.cgroup.cpuset.cpus' is not \
             supported, of LXC's settings only lxc.network.hwaddr is\n"
        ),
        "{told}"
    );
    let told = asked("run --lxc-conf lxc.network.hwaddr=x --mac-address y busybox");
    assert!(told.contains("cannot specify both"), "{told}");
    let told = asked("run --lxc-conf lxc.network.hwaddr=x busybox");
    assert!(told.contains("x is not a valid mac address"), "{told}");
}

#[test]
fn ports_come_and_go_with_an_update() {
    let daemon = Daemon::start(|_, _, stream| json(stream, "200 OK", "{\"Warnings\":null}"));
    let line = "update --publish-add 127.0.0.1:8080:80 --publish-add 53:53/udp --publish-rm 81 web";
    let output = run(&daemon, line, "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "web\n");
    let request = daemon.requests().pop().unwrap();
    assert_eq!(request.line(), "POST /containers/web/update");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        body["GantryUpdate"],
        serde_json::json!({
            "Ports": {
                "53/udp": [{"HostIp": "", "HostPort": "53"}],
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
            },
            "PortsRemove": {"81/tcp": [{"HostIp": "", "HostPort": ""}]},
        })
    );
    let output = run(&daemon, "update --publish-add x web", "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "invalid containerPort: x\n"
    );
}
