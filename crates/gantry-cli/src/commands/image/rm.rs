//! `gantry rmi`

use gantry_oci::manifest::Platform;
use serde::Deserialize;

use crate::client::{encode, talk};
use crate::commands::{Command, Count};
use crate::cx::{Cx, Plain};
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};

pub(crate) const COMMAND: Command = Command {
    names: &["image rm", "image remove", "rmi"],
    about: "Remove one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct RmFlags {
        /// Force removal of the image
        force: bool = "force" short "f";
        /// Do not delete untagged parents
        no_prune: bool = "no-prune";
        /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g.,
        /// "linux/amd64")
        platform: Checked<Plain> = "platform" kind "strings";
    }
}

/// One step of a removal.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Removed {
    untagged: Option<String>,
    deleted: Option<String>,
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = RmFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let platforms: Vec<String> = flags
        .platform
        .items
        .iter()
        .flat_map(|text| text.split(','))
        .map(|text| {
            let platform =
                Platform::parse(text).map_err(|error| Failure::new(error.to_string()))?;
            Ok(serde_json::json!(platform).to_string())
        })
        .collect::<Result<_, Failure>>()?;
    talk(cx, async |client| {
        let mut wrong = Vec::new();
        let mut fatal = false;
        for name in &names {
            let call = client.delete(format!("/images/{}", encode(name)));
            let mut call = call
                .switch("force", flags.force)
                .switch("noprune", flags.no_prune);
            for platform in &platforms {
                call = call.query("platforms", platform);
            }
            match call.json::<Vec<Removed>>().await {
                Ok(steps) => {
                    let mut text = String::new();
                    for step in steps {
                        if let Some(name) = step.untagged {
                            text.push_str(&format!("Untagged: {name}\n"));
                        }
                        if let Some(id) = step.deleted {
                            text.push_str(&format!("Deleted: {id}\n"));
                        }
                    }
                    cx.print(&text)?;
                }
                Err(error) => {
                    fatal |= !error.is_not_found();
                    wrong.push(error.to_string());
                }
            }
        }
        // COMPAT: with --force an image that is not there is told of, but is no failure.
        if flags.force && !fatal && !wrong.is_empty() {
            return Err(Failure::new(wrong.join("\n")).with_code(0));
        }
        Failure::all(wrong)
    })
}
