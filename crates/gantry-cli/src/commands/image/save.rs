//! `gantry save`

use super::load::platform_json;
use crate::client::talk;
use crate::commands::destination::Destination;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::flags;

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
    let destination = Destination::of(flags.output.as_deref(), "failed to save image")?;
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
        destination.take(answer).await
    })
}
