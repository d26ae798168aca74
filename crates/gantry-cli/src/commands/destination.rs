//! Where `save` and `export` write their archive.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::client::Answer;
use crate::failure::{Failure, Outcome};
use crate::stream::Output;

/// A file, or standard output.
pub(super) struct Destination<'a>(Option<&'a Path>);

impl<'a> Destination<'a> {
    /// What `--output` says; `failed` begins what is said of a file that cannot be written to.
    pub(super) fn of(output: Option<&'a str>, failed: &str) -> Result<Self, Failure> {
        let path = output.filter(|path| !path.is_empty()).map(Path::new);
        if path.is_none() && std::io::stdout().is_terminal() {
            return Err(Failure::new(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        match path.and_then(refused) {
            Some(why) => Err(Failure::new(format!("{failed}: {why}"))),
            None => Ok(Self(path)),
        }
    }

    /// Writes an answer there.
    pub(super) async fn take(&self, answer: Answer<'_>) -> Outcome {
        match self.0 {
            Some(path) => to_file(answer, path).await?,
            None => to_stdout(answer).await?,
        }
        Ok(0)
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

/// Writes an answer to standard output.
pub(super) async fn to_stdout(mut answer: Answer<'_>) -> Result<(), Failure> {
    let stdout = Output::stdout();
    while let Some(bytes) = answer.chunk().await? {
        stdout.write_all(&bytes).await?;
    }
    Ok(())
}

/// Writes beside `path` first, so that a save that breaks leaves what was there.
async fn to_file(mut answer: Answer<'_>, path: &Path) -> Result<(), Failure> {
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
