//! Commands that are about a registry.

pub(super) mod login;
pub(super) mod logout;
mod prompt;
pub(super) mod search;

use std::io::IsTerminal;

use crate::config::ENVIRONMENT;
use crate::format::{Note, note};

/// Says that what is stored does not count, where the environment has credentials.
fn warn_of_environment() {
    if std::env::var_os(ENVIRONMENT).is_some_and(|text| !text.is_empty()) {
        let text = format!(
            "{ENVIRONMENT} is set and takes precedence.\nUnset {ENVIRONMENT} to restore the CLI auth behaviour.\n"
        );
        eprint!(
            "{}",
            note(Note::Warn, &text, std::io::stderr().is_terminal())
        );
    }
}
