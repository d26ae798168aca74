//! `gantry export`

use crate::client::talk;
use crate::commands::destination::Destination;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container export", "export"],
    about: "Export a container's filesystem as a tar archive",
    usage: "[OPTIONS] CONTAINER",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct ExportFlags {
        /// Write to a file, instead of STDOUT
        output: Option<String> = "output" short "o";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = ExportFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let destination = Destination::of(flags.output.as_deref(), "failed to export container")?;
    talk(cx, async |client| {
        let answer = client.get(container(&names[0], "/export")?).send().await?;
        destination.take(answer).await
    })
}
