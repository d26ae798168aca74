//! How a container's end becomes the client's exit code.

use serde::Deserialize;

use crate::client::{Answer, Answered, Client};
use crate::cx::Cx;
use crate::failure::Failure;

/// The answer of `wait`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Waited {
    pub(super) status_code: i64,
    #[serde(default)]
    error: Option<WaitError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WaitError {
    message: String,
}

impl Waited {
    /// The client's exit code.
    pub(super) fn code(&self) -> u8 {
        match self
            .error
            .as_ref()
            .filter(|error| !error.message.is_empty())
        {
            Some(error) => {
                eprintln!("Error waiting for container: {}", error.message);
                125
            }
            // What the system takes of an exit code: its low byte.
            None => (self.status_code & 0xff) as u8,
        }
    }
}

/// Asks for the end of a container that is about to start. The answer's head is there when this returns,
/// so the daemon watches and a start cannot come too early.
pub(super) async fn watch<'a>(client: &'a Client, id: &str, removed: bool) -> Answered<Answer<'a>> {
    let condition = if removed { "removed" } else { "next-exit" };
    let call = client.post(format!("/containers/{id}/wait"));
    call.query("condition", condition).send().await
}

/// The exit code in the answer of `wait`.
pub(super) async fn ended(waiting: Answer<'_>) -> Result<u8, Failure> {
    let waited: Waited = waiting.json().await?;
    Ok(waited.code())
}

/// The failure of `run`, with the exit code that Docker's client reads from the daemon's words.
pub(super) fn run_failure(cx: &Cx, text: &str) -> Failure {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let code = if says(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    };
    Failure::new(cx.with_help(text, &cx.called)).with_code(code)
}
