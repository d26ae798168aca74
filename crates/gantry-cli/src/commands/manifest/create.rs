//! `gantry manifest create`

use super::remote::Remote;
use super::{named, store};
use crate::client::alone;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["manifest create"],
    about: "Create a local manifest list for annotating and pushing to a registry",
    usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
    args: Count::AtLeast(2),
    mixed: true,
    run,
};

flags! {
    struct CreateFlags {
        /// Amend an existing manifest list
        amend: bool = "amend" short "a";
        /// Allow communication with an insecure registry
        insecure: bool = "insecure";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = CreateFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let list = named(&args[0]).map_err(|failure| {
        Failure::new(format!(
            "error parsing name for manifest list {}: {}",
            args[0], failure.text
        ))
    })?;
    let store = store(cx);
    if store.list(&list)?.is_some() && !flags.amend {
        return Err(Failure::new(
            "refusing to amend an existing manifest list with no --amend flag",
        ));
    }
    alone(async {
        for text in &args[1..] {
            let name = named(text)?;
            let stored = match store.get(&list, &name)? {
                Some(stored) => stored,
                None => {
                    let remote = Remote::of(cx, &name, flags.insecure)?;
                    remote.manifest(&name).await?
                }
            };
            store.save(&list, &name, &stored)?;
        }
        cx.print(&format!("Created manifest list {list}\n"))?;
        Ok(0)
    })
}
