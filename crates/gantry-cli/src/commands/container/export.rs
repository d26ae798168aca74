//! `gantry export`

use std::io::IsTerminal;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::image::save::{to_file, to_stdout};
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

/// Why a file cannot be written to (Docker's atomicwriter).
fn refused(path: &Path) -> Option<String> {
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
