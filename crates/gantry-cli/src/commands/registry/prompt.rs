//! Asking for a user name and a password at a terminal.

use std::io::IsTerminal;

use crate::config::HUB;
use crate::cx::Cx;
use crate::failure::Failure;
use crate::format::{Note, note};
use crate::stream::{NoEcho, Signals};

/// A signal's number is added to it, as a shell does.
const BY_SIGNAL: i32 = 128;

const REGISTER: &str = "Log in with your Docker ID or email address to push and pull images from Docker Hub. \
    If you don't have a Docker ID, head over to https://hub.docker.com/ to create one.";
const TOKENS: &str = "You can log in with your password or a Personal Access Token (PAT). Using a limited-scope PAT \
    grants better security and is required for organizations using SSO. Learn more at \
    https://docs.docker.com/go/access-tokens/";

/// The user's name; what was used before is offered.
pub(super) async fn username(cx: &Cx, before: &str, server: &str) -> Result<String, Failure> {
    if server == HUB {
        let hints = std::env::var("DOCKER_CLI_HINTS").unwrap_or_default();
        let text = match hints.as_str() {
            "0" | "f" | "F" | "false" | "FALSE" | "False" => format!("{REGISTER}\n"),
            _ => format!("{REGISTER}\n{TOKENS}\n\n"),
        };
        cx.print(&text)?;
    }
    let before = before.trim();
    let question = match before {
        "" => "Username: ".to_owned(),
        before => format!("Username ({before}): "),
    };
    let given = line(cx, &question).await?;
    match (given.as_str(), before) {
        ("", "") => Err(Failure::new("Error: Non-null Username Required")),
        ("", before) => Ok(before.to_owned()),
        (given, _) => Ok(given.to_owned()),
    }
}

/// The password, which is not shown.
pub(super) async fn password(cx: &Cx, server: &str) -> Result<String, Failure> {
    let silent = NoEcho::enter()?;
    if server == HUB {
        let terminal = std::io::stderr().is_terminal();
        let page = "https://app.docker.com/settings";
        let page = match terminal {
            true => format!("\x1b[4m{page}\x1b[0m"),
            false => page.to_owned(),
        };
        let text = format!(
            "A Personal Access Token (PAT) can be used instead.\nTo create a PAT, visit {page}\n\n"
        );
        eprint!("{}", note(Note::Info, &text, terminal));
    }
    let given = line(cx, "Password: ").await?;
    drop(silent);
    cx.print("\n")?;
    match given.as_str() {
        "" => Err(Failure::new("Error: Password Required")),
        given => Ok(given.to_owned()),
    }
}

/// One line from the user. A signal ends the command, and the terminal is as it was.
async fn line(cx: &Cx, question: &str) -> Result<String, Failure> {
    let mut signals = Signals::catch_fatal()?;
    cx.print(question)?;
    let reading = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin().read_line(&mut text).map(|_| text)
    });
    tokio::select! {
        text = reading => {
            let text = text.map_err(|error| Failure::new(error.to_string()))??;
            Ok(text.trim().to_owned())
        }
        // COMPAT: Docker's client calls that a success.
        number = signals.next() => {
            cx.print("\n")?;
            Err(Failure::quiet(u8::try_from(BY_SIGNAL + number).unwrap_or(1)))
        }
    }
}
