//! The texts that speak of all commands: the root's help, a group's help, an unknown command.

use crate::commands::{COMMANDS, Command, GROUPS};
use crate::cx::{GlobalFlags, help_width};
use crate::flags::{Flags, options_text};

/// The commands that a newcomer meets first, in this order.
const COMMON: &[&str] = &["run", "ps", "pull", "images", "version", "info"];

/// Commands of Docker's that Gantry does not have, for a better word than "unknown".
const ABSENT: &[&str] = &[
    "build",
    "builder",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "context",
    "exec",
    "node",
    "pause",
    "plugin",
    "restart",
    "secret",
    "service",
    "stack",
    "stats",
    "swarm",
    "top",
    "trust",
    "unpause",
    "update",
    "volume",
];

/// `gantry --version`
pub(crate) fn version_line() -> String {
    format!("Gantry version {}", env!("CARGO_PKG_VERSION"))
}

fn row(text: &mut String, name: &str, about: &str) {
    text.push_str(&format!("  {name:<12}{about}\n"));
}

/// What a command does, in one line.
fn short(command: &Command) -> &'static str {
    let line = command.about.lines().next().unwrap_or_default();
    line.split(". ").next().unwrap_or_default()
}

/// The name without its noun, if it has one.
fn top_name(command: &Command) -> Option<&'static str> {
    command
        .names
        .iter()
        .find(|name| !name.contains(' '))
        .copied()
}

/// `gantry --help`
pub(crate) fn root(program: &str) -> String {
    let mut text =
        format!("Usage:  {program} [OPTIONS] COMMAND\n\nA container engine\n\nCommon Commands:\n");
    for name in COMMON {
        if let Some(command) = crate::commands::find(name) {
            row(&mut text, name, short(command));
        }
    }
    text.push_str("\nManagement Commands:\n");
    for group in GROUPS {
        row(&mut text, group.name, group.about);
    }
    text.push_str("\nCommands:\n");
    let mut others: Vec<(&str, &str)> = COMMANDS
        .iter()
        .filter_map(|command| Some((top_name(command)?, short(command))))
        .filter(|(name, _)| !COMMON.contains(name))
        .collect();
    others.sort_unstable();
    for (name, about) in others {
        row(&mut text, name, about);
    }
    text.push_str("\nGlobal Options:\n");
    text.push_str(&options_text(GlobalFlags::default().specs(), help_width()));
    text.push_str(&format!(
        "\nRun '{program} COMMAND --help' for more information on a command.\n"
    ));
    text
}

/// `gantry container --help`
pub(crate) fn group(program: &str, noun: &str) -> String {
    let about = GROUPS
        .iter()
        .find(|group| group.name == noun)
        .map_or("", |group| group.about);
    let about = match noun {
        "manifest" => crate::commands::manifest::description(program),
        _ => about.to_owned(),
    };
    let mut text = format!("Usage:  {program} {noun} COMMAND\n\n{about}\n\nCommands:\n");
    let mut rows: Vec<(&str, &str)> = COMMANDS
        .iter()
        .filter_map(|command| {
            let (of, verb) = command.names.first()?.split_once(' ')?;
            (of == noun).then_some((verb, short(command)))
        })
        .collect();
    rows.sort_unstable();
    for (verb, about) in rows {
        row(&mut text, verb, about);
    }
    text.push_str(&format!(
        "\nRun '{program} {noun} COMMAND --help' for more information on a command.\n"
    ));
    text
}

/// What is said of a command that does not exist.
pub(crate) fn unknown(program: &str, called: &str) -> String {
    if ABSENT.contains(&called) {
        return format!(
            "{program}: '{called}' is not a {program} command.\nSee '{program} --help'"
        );
    }
    match called.split_once(' ') {
        Some((noun, _)) => {
            // COMPAT: Docker's groups do not agree on what their usage is.
            let usage = match noun {
                "manifest" => "manifest COMMAND",
                "volume" => "volume COMMAND",
                other => other,
            };
            format!(
                "{program}: unknown command: {program} {called}\n\nUsage:  {program} {usage}\n\nRun '{program} {noun} --help' for more information"
            )
        }
        None => format!(
            "{program}: unknown command: {program} {called}\n\nRun '{program} --help' for more information"
        ),
    }
}
