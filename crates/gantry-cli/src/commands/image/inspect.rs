//! `gantry image inspect`

use gantry_oci::manifest::Platform;
use serde_json::value::RawValue;

use crate::client::{encode, talk};
use crate::commands::inspection::{Kind, show};
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
        /// Format output using a custom template:
        ///
        /// 'json':             Print in JSON format
        ///
        /// 'TEMPLATE':         Print output using the given Go template.
        format: Option<String> = "format" short "f";
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
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let platform = match flags.platform.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => {
            let parsed = Platform::parse(text).map_err(|error| Failure::new(error.to_string()))?;
            Some(serde_json::json!(parsed).to_string())
        }
        None => None,
    };
    talk(cx, async |client| {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for name in &names {
            let call = client.get(format!("/images/{}/json", encode(name)));
            let call = call.query_if("platform", platform.as_deref());
            match call.json::<Box<RawValue>>().await {
                Ok(one) => found.push((Kind::Image, one)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        show(cx, flags.format.as_deref(), &found, wrong)
    })
}
