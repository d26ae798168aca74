//! `gantry diff`

use gantry_api::files::FilesystemChange;

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["container diff", "diff"],
    about: "Inspect changes to files or directories on a container's filesystem",
    usage: "CONTAINER",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let names = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    talk(cx, async |client| {
        let call = client.get(container(&names[0], "/changes")?);
        let changes = call.json::<Option<Vec<FilesystemChange>>>().await?;
        cx.print(&lines(&changes.unwrap_or_default()))?;
        Ok(0)
    })
}

/// A line each, as `C /etc`.
fn lines(changes: &[FilesystemChange]) -> String {
    let line = |change: &FilesystemChange| format!("{} {}\n", change.letter(), change.path);
    changes.iter().map(line).collect()
}
