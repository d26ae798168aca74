//! `gantry export`

use std::io::IsTerminal;
use std::path::Path;

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::image::save::{refused, to_file, to_stdout};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
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
    let output = flags.output.as_deref().filter(|path| !path.is_empty());
    if output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    if let Some(why) = output.and_then(|path| refused(Path::new(path))) {
        return Err(Failure::new(format!("failed to export container: {why}")));
    }
    talk(cx, async |client| {
        let answer = client.get(container(&names[0], "/export")?).send().await?;
        match output {
            Some(path) => to_file(answer, Path::new(path)).await?,
            None => to_stdout(answer).await?,
        }
        Ok(0)
    })
}
