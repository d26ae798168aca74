//! The table of commands. One file each: `<noun>/<verb>.rs`, with its flags, its `COMMAND` and its doing.

mod builder;
mod container;
mod destination;
mod each;
mod formats;
mod image;
mod inspection;
pub(crate) mod manifest;
mod network;
mod registry;
mod system;
mod volume;

use crate::cx::Cx;
use crate::failure::Outcome;

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

impl Count {
    /// Docker's words where `given` does not fit.
    pub(crate) fn check(self, given: usize) -> Option<String> {
        let noun = |count| if count == 1 { "argument" } else { "arguments" };
        match self {
            Count::None if given > 0 => Some("accepts no arguments".to_owned()),
            Count::Exactly(count) if given != count => {
                Some(format!("requires {count} {}", noun(count)))
            }
            Count::AtLeast(count) if given < count => {
                Some(format!("requires at least {count} {}", noun(count)))
            }
            Count::AtMost(count) if given > count => {
                Some(format!("requires at most {count} {}", noun(count)))
            }
            Count::Between(least, most) if given < least || given > most => Some(format!(
                "requires at least {least} and at most {most} {}",
                noun(most)
            )),
            _ => None,
        }
    }
}

/// One command of the table.
#[derive(Debug)]
pub(crate) struct Command {
    /// All the ways to call it; the first is `<noun> <verb>`.
    pub(crate) names: &'static [&'static str],
    pub(crate) about: &'static str,
    /// What follows the name in the usage line.
    pub(crate) usage: &'static str,
    pub(crate) args: Count,
    /// Flags may follow arguments.
    pub(crate) mixed: bool,
    pub(crate) run: fn(&Cx) -> Outcome,
}

/// A group of commands: `container`, `image`, `system`.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "builder",
        about: "Manage builds",
    },
    Group {
        name: "container",
        about: "Manage containers",
    },
    Group {
        name: "image",
        about: "Manage images",
    },
    Group {
        name: "manifest",
        about: "Manage Docker image manifests and manifest lists",
    },
    Group {
        name: "network",
        about: "Manage networks",
    },
    Group {
        name: "system",
        about: "Manage Gantry",
    },
    Group {
        name: "volume",
        about: "Manage volumes",
    },
];

pub(crate) const COMMANDS: &[&Command] = &[
    &container::run::COMMAND,
    &container::exec::COMMAND,
    &container::create::COMMAND,
    &container::start::COMMAND,
    &container::ls::COMMAND,
    &container::rm::COMMAND,
    &container::stop::COMMAND,
    &container::restart::COMMAND,
    &container::kill::COMMAND,
    &container::pause::COMMAND,
    &container::unpause::COMMAND,
    &container::rename::COMMAND,
    &container::update::COMMAND,
    &container::top::COMMAND,
    &container::stats::COMMAND,
    &container::wait::COMMAND,
    &container::logs::COMMAND,
    &container::attach::COMMAND,
    &container::port::COMMAND,
    &container::inspect::COMMAND,
    &container::cp::COMMAND,
    &container::diff::COMMAND,
    &container::export::COMMAND,
    &container::commit::COMMAND,
    &container::prune::COMMAND,
    &image::pull::COMMAND,
    &image::push::COMMAND,
    &image::ls::COMMAND,
    &image::rm::COMMAND,
    &image::prune::COMMAND,
    &image::load::COMMAND,
    &image::save::COMMAND,
    &image::import::COMMAND,
    &image::tag::COMMAND,
    &image::history::COMMAND,
    &image::inspect::COMMAND,
    &manifest::annotate::COMMAND,
    &manifest::create::COMMAND,
    &manifest::inspect::COMMAND,
    &manifest::push::COMMAND,
    &manifest::rm::COMMAND,
    &network::connect::COMMAND,
    &network::create::COMMAND,
    &network::disconnect::COMMAND,
    &network::inspect::COMMAND,
    &network::ls::COMMAND,
    &network::prune::COMMAND,
    &network::rm::COMMAND,
    &registry::login::COMMAND,
    &registry::logout::COMMAND,
    &registry::search::COMMAND,
    &volume::create::COMMAND,
    &volume::inspect::COMMAND,
    &volume::ls::COMMAND,
    &volume::prune::COMMAND,
    &volume::rm::COMMAND,
    &system::inspect::COMMAND,
    &system::df::COMMAND,
    &system::prune::COMMAND,
    &builder::prune::COMMAND,
    &system::version::COMMAND,
    &system::info::COMMAND,
    &system::events::COMMAND,
    &system::stop_daemon::COMMAND,
];

/// The command called by exactly these words.
pub(crate) fn find(words: &str) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.names.contains(&words))
        .copied()
}
