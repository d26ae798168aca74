//! `gantry restart`

use super::stop::StopFlags;
use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};

pub(crate) const COMMAND: Command = Command {
    names: &["container restart", "restart"],
    about: "Restart one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let mut flags = StopFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        let mut wrong = Vec::new();
        // COMPAT: one after another, as Docker does it.
        for name in &names {
            let restarted = async {
                let call = client.post(container(name, "/restart")?);
                flags.on(call).done().await
            };
            match restarted.await {
                Ok(()) => cx.print(&format!("{name}\n"))?,
                Err(error) => wrong.push(error.to_string()),
            }
        }
        Failure::all(wrong)
    })
}
