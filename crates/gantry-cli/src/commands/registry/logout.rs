//! `gantry logout`

use super::warn_of_environment;
use crate::commands::{Command, Count};
use crate::config::{HUB, hostname, key_of};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["logout"],
    about: "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
    usage: "[SERVER]",
    args: Count::AtMost(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let args = cx.read(&COMMAND, &mut [&mut NoFlags {}])?;
    warn_of_environment();
    let server = args.first().map_or(HUB, |server| match server.as_str() {
        "" => HUB,
        given => given,
    });
    let mut keys = vec![server.to_owned()];
    let mut shown = server.to_owned();
    if args.first().is_some_and(|server| !server.is_empty()) {
        shown = hostname(server);
        // The ways in which other clients, and older ones, have written a registry's name.
        keys.push(shown.clone());
        keys.push(format!("http://{shown}"));
        keys.push(format!("https://{shown}"));
        // COMPAT: `docker logout docker.io` leaves what `docker login docker.io` has stored.
        keys.push(key_of(&shown).to_owned());
    }
    let mut seen = std::collections::HashSet::new();
    keys.retain(|key| seen.insert(key.clone()));
    cx.print(&format!("Removing login credentials for {shown}\n"))?;
    let erased = keys.iter().map(|key| (key, cx.config().erase(key)));
    let failed: Vec<_> = erased
        .filter_map(|(key, erased)| Some((key, erased.err()?)))
        .collect();
    // COMPAT: told only where nothing at all could be erased, and no failure.
    if failed.len() == keys.len() {
        eprintln!("WARNING: could not erase credentials:");
        for (key, why) in failed {
            eprintln!("{key}: {why}");
        }
    }
    Ok(0)
}
