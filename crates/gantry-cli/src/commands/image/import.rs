//! `gantry import`

use super::load::{open, show};
use crate::client::talk;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::Display;

pub(crate) const COMMAND: Command = Command {
    names: &["image import", "import"],
    about: "Import the contents from a tarball to create a filesystem image",
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    // COMPAT: what follows the name is passed over.
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct ImportFlags {
        /// Apply Dockerfile instruction to the created image
        change: Vec<String> = "change" short "c";
        /// Set commit message for imported image
        message: Option<String> = "message" short "m";
        /// Set platform if server is multi-platform capable
        platform: Option<String> = "platform";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = ImportFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let source = args[0].as_str();
    let name = args.get(1);
    if let Some(name) = name {
        gantry_oci::Reference::parse(name).map_err(|error| Failure::new(error.to_string()))?;
    }
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let input = match remote {
        true => None,
        false => Some(open(Some(source))?),
    };
    talk(cx, async |client| {
        let mut call = client.post("/images/create");
        for change in &flags.change {
            call = call.query("changes", change);
        }
        let call = call
            .query("fromSrc", if remote { source } else { "-" })
            .query_if("message", flags.message.as_deref())
            .query_if("platform", flags.platform.as_deref())
            .query_if("repo", name.map(String::as_str));
        let answer = match input {
            Some(input) => call.send_reader(input).await?,
            None => call.send().await?,
        };
        show(answer, Display::stdout()).await?;
        Ok(0)
    })
}
