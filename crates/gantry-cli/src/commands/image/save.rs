//! `gantry save`

use std::io::{IsTerminal, Write};
use std::path::Path;

use super::load::platform_json;
use crate::client::{Answer, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::stream::Output;

pub(crate) const COMMAND: Command = Command {
    names: &["image save", "save"],
    about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct SaveFlags {
        /// Write to a file, instead of STDOUT
        output: Option<String> = "output" short "o";
        /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g.,
        /// "linux/amd64")
        platform: Option<String> = "platform";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = SaveFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    if flags.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    if let Some(path) = &flags.output {
        let parent = Path::new(path)
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if parent.is_some_and(|parent| !parent.is_dir()) {
            return Err(Failure::new(format!(
                "failed to save image: invalid output path: directory \"{path}\" does not exist"
            )));
        }
    }
    let platform = platform_json(flags.platform.as_deref())?;
    talk(cx, async |client| {
        let mut call = client.get("/images/get");
        for name in &names {
            call = call.query("names", name);
        }
        let answer = call
            .query_if("platform", platform.as_deref())
            .send()
            .await?;
        match &flags.output {
            Some(path) => to_file(answer, Path::new(path)).await?,
            None => to_stdout(answer).await?,
        }
        Ok(0)
    })
}

/// Writes an answer to standard output.
pub(in crate::commands) async fn to_stdout(mut answer: Answer<'_>) -> Result<(), Failure> {
    let stdout = Output::stdout();
    while let Some(bytes) = answer.chunk().await? {
        stdout.write_all(&bytes).await?;
    }
    Ok(())
}

/// Writes beside `path` first, so that a save that breaks leaves what was there.
pub(in crate::commands) async fn to_file(
    mut answer: Answer<'_>,
    path: &Path,
) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".part-{}", std::process::id()));
    let part = Path::new(&name);
    let written: Result<(), Failure> = async {
        let mut file = std::fs::File::create(part)?;
        while let Some(bytes) = answer.chunk().await? {
            file.write_all(&bytes)?;
        }
        Ok(std::fs::rename(part, path)?)
    }
    .await;
    if written.is_err() {
        std::fs::remove_file(part).ok();
    }
    written
}
