//! `gantry rename`

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["container rename", "rename"],
    about: "Rename a container",
    usage: "CONTAINER NEW_NAME",
    args: Count::Exactly(2),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let names = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    let (old, new) = (names[0].trim(), names[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new(
            "Error: Neither old nor new names may be empty",
        ));
    }
    talk(cx, async |client| {
        let renamed = async {
            let call = client.post(container(old, "/rename")?);
            call.query("name", new).done().await
        };
        match renamed.await {
            Ok(()) => Ok(0),
            Err(error) => {
                eprintln!("{error}");
                Err(Failure::new(format!(
                    "Error: failed to rename container named {old}"
                )))
            }
        }
    })
}
