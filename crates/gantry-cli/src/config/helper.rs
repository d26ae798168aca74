//! Credential helpers: programs `docker-credential-<name>` that keep secrets somewhere safer than a file.
//!
//! Each is called with one word, what to do, and reads the rest from its standard input. Errors are told on its
//! standard output. (The protocol of docker-credential-helpers.)

use std::io::{ErrorKind, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use serde::{Deserialize, Serialize};

const PREFIX: &str = "docker-credential-";
/// What a helper says of a server that it has nothing for.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// Faults that a helper finds in a request: told as they are.
const REFUSALS: [&str; 2] = ["no credentials server URL", "no credentials username"];

/// What a helper keeps of one server.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Secret {
    #[serde(rename = "ServerURL")]
    pub(super) server: String,
    pub(super) username: String,
    pub(super) secret: String,
}

/// What it has for a server, if anything.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Secret>, String> {
    let (output, failed) = run(name, "get", server.as_bytes());
    match failed {
        None => serde_json::from_str(&output).map(Some).map_err(|error| {
            format!("error getting credentials - {PREFIX}{name} gave no JSON: {error}")
        }),
        Some(_) if output == NOT_FOUND => Ok(None),
        Some(why) => Err(told("getting", &why, &output)),
    }
}

pub(super) fn store(name: &str, secret: &Secret) -> Result<(), String> {
    let text = serde_json::to_string(secret).map_err(|error| error.to_string())?;
    let (output, failed) = run(name, "store", format!("{text}\n").as_bytes());
    failed.map_or(Ok(()), |why| Err(told("storing", &why, &output)))
}

pub(super) fn erase(name: &str, server: &str) -> Result<(), String> {
    let (output, failed) = run(name, "erase", server.as_bytes());
    failed.map_or(Ok(()), |why| Err(told("erasing", &why, &output)))
}

/// The helper that a machine without any configuration uses: `pass`, else the desktop's own, where it is installed.
pub(super) fn of_this_machine() -> Option<String> {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let installed = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    let name = if installed("pass") {
        "pass"
    } else {
        "secretservice"
    };
    installed(&format!("{PREFIX}{name}")).then(|| name.to_owned())
}

fn told(doing: &str, why: &str, output: &str) -> String {
    let why = REFUSALS
        .into_iter()
        .find(|text| *text == output)
        .unwrap_or(why);
    format!("error {doing} credentials - err: {why}, out: `{output}`")
}

/// Runs a helper; gives its output, trimmed, and why it failed, in Go's words.
fn run(name: &str, action: &str, input: &[u8]) -> (String, Option<String>) {
    let program = format!("{PREFIX}{name}");
    let started = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let why = format!("exec: {program:?}: executable file not found in $PATH");
            return (String::new(), Some(why));
        }
        Err(error) => return (String::new(), Some(format!("exec: {program:?}: {error}"))),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A helper need not read what it does not want to know.
        stdin.write_all(input).ok();
    }
    match child.wait_with_output() {
        Ok(done) => {
            let output = String::from_utf8_lossy(&done.stdout).trim().to_owned();
            (output, failure(done.status))
        }
        Err(error) => (String::new(), Some(error.to_string())),
    }
}

fn failure(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, signal) => Some(format!("signal {}", signal.unwrap_or_default())),
    }
}
