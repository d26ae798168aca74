//! `gantry image inspect`

use gantry_oci::manifest::Platform;

use crate::commands::formats::TemplateFormat;
use crate::commands::inspection::{Kind, inspect};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["image inspect"],
    about: "Display detailed information on one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct InspectFlags {
        /// Inspect a specific platform of the multi-platform image.
        ///
        /// If the image or the server is not multi-platform capable, the command will error out if the
        /// platform does not match.
        ///
        /// 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)
        platform: Option<String> = "platform";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TemplateFormat::default();
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    let platform = match flags.platform.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => {
            let parsed = Platform::parse(text).map_err(|error| Failure::new(error.to_string()))?;
            Some(serde_json::json!(parsed).to_string())
        }
        None => None,
    };
    let platform = ("platform", platform.as_deref());
    inspect(cx, Kind::Image, &names, &shown, platform)
}
