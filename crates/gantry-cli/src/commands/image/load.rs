//! `gantry load`

use std::io::{IsTerminal, Read};

use crate::client::{Answer, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::Display;
use gantry_oci::manifest::Platform;

pub(crate) const COMMAND: Command = Command {
    names: &["image load", "load"],
    about: "Load an image from a tar archive or STDIN",
    usage: "[OPTIONS]",
    args: Count::None,
    mixed: true,
    run,
};

flags! {
    struct LoadFlags {
        /// Read from tar archive file, instead of STDIN
        input: Option<String> = "input" short "i";
        /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g.,
        /// "linux/amd64")
        platform: Option<String> = "platform";
        /// Suppress the load output
        quiet: bool = "quiet" short "q";
    }
}

/// A file, or stdin for none and `-`.
pub(super) fn open(path: Option<&str>) -> Result<Box<dyn Read + Send>, Failure> {
    match path {
        None | Some("-") => Ok(Box::new(std::io::stdin())),
        Some(path) => match std::fs::File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(
                format!("open {path}: no such file or directory"),
            )),
            Err(error) => Err(Failure::new(format!("open {path}: {error}"))),
        },
    }
}

/// Shows the daemon's messages to their end.
pub(super) async fn show(mut answer: Answer<'_>, mut display: Display) -> Result<(), Failure> {
    while let Some(bytes) = answer.chunk().await? {
        display.feed(&bytes).map_err(Failure::new)?;
    }
    Ok(())
}

/// `os/arch/variant` as the API takes it.
pub(super) fn platform_json(text: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let platform = Platform::parse(text)
        .map_err(|error| Failure::new(format!("invalid platform: {error}")))?;
    Ok(Some(serde_json::json!(platform).to_string()))
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = LoadFlags::default();
    cx.read(&COMMAND, &mut [&mut flags])?;
    if flags.input.is_none() && std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "requested load from stdin, but stdin is empty",
        ));
    }
    let platform = platform_json(flags.platform.as_deref())?;
    let input = open(flags.input.as_deref())?;
    let quiet = flags.quiet || !std::io::stdout().is_terminal();
    talk(cx, async |client| {
        let answer = client
            .post("/images/load")
            .query("quiet", if quiet { "1" } else { "0" })
            .query_if("platform", platform.as_deref())
            .send_reader(input)
            .await?;
        show(answer, Display::stdout()).await?;
        Ok(0)
    })
}
