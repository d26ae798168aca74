//! `gantry manifest inspect`

use gantry_oci::Reference;

use super::list::List;
use super::remote::{Found, Remote};
use super::store::{Stored, no_such};
use super::{named, store};
use crate::client::alone;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::indented;

pub(crate) const COMMAND: Command = Command {
    names: &["manifest inspect"],
    about: "Display an image manifest, or manifest list",
    usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    args: Count::Between(1, 2),
    mixed: true,
    run,
};

flags! {
    struct InspectFlags {
        /// Allow communication with an insecure registry
        insecure: bool = "insecure";
        /// Output additional info including layers and platform
        verbose: bool = "verbose" short "v";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = InspectFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let name = named(args.last().map_or("", String::as_str))?;
    let store = store(cx);
    if args.len() > 1 {
        let list = named(&args[0])?;
        let stored = store.get(&list, &name)?.ok_or_else(|| no_such(&name))?;
        return print_one(cx, &stored, flags.verbose);
    }
    // One that is being made here counts before the registry's.
    if let Ok(Some(manifests)) = store.list(&name) {
        return print_list(cx, &name, &manifests, flags.verbose);
    }
    alone(async {
        let remote = Remote::of(cx, &name, flags.insecure)?;
        match remote.either(&name).await? {
            Found::Manifest(stored) => print_one(cx, &stored, flags.verbose),
            Found::List(manifests) => print_list(cx, &name, &manifests, flags.verbose),
        }
    })
}

fn print_one(cx: &Cx, stored: &Stored, verbose: bool) -> Outcome {
    let text = match verbose {
        true => indented(&stored.json(), "\t"),
        false => indented(stored.text()?, "\t"),
    };
    cx.print(&format!("{text}\n"))?;
    Ok(0)
}

fn print_list(cx: &Cx, name: &Reference, manifests: &[Stored], verbose: bool) -> Outcome {
    let text = if verbose {
        let all: Vec<String> = manifests.iter().map(Stored::json).collect();
        indented(&format!("[{}]", all.join(",")), "\t")
    } else {
        let list = List::of(name, manifests).map_err(|failure| {
            Failure::new(format!(
                "failed to assemble ManifestDescriptor: {}",
                failure.text
            ))
        })?;
        list.text()
    };
    cx.print(&format!("{text}\n"))?;
    Ok(0)
}
