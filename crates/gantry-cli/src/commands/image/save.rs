//! `gantry save`

use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
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
    let output = flags.output.as_deref().filter(|path| !path.is_empty());
    if output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    if let Some(why) = output.and_then(|path| refused(Path::new(path))) {
        return Err(Failure::new(format!("failed to save image: {why}")));
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
        match output {
            Some(path) => to_file(answer, Path::new(path)).await?,
            None => to_stdout(answer).await?,
        }
        Ok(0)
    })
}

/// Why a file cannot be written to (Docker's atomicwriter).
pub(in crate::commands) fn refused(path: &Path) -> Option<String> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Some(format!(
            "invalid output path: stat {}: no such file or directory",
            parent.display()
        ));
    }
    let kind = path.symlink_metadata().ok()?.file_type();
    let what = match kind {
        kind if kind.is_file() => return None,
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link directly",
        kind if kind.is_fifo() => "a named pipe (FIFO)",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() => "a character device file",
        _ => "a block device file",
    };
    Some(format!("cannot write to {what}"))
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
