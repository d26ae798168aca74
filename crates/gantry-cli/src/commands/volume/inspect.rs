//! `gantry volume inspect`

use crate::client::talk;
use crate::commands::inspection::{Kind, fetch, show};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["volume inspect"],
    about: "Display detailed information on one or more volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
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
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for name in &names {
            match fetch(&client, Kind::Volume, name, false).await {
                Ok(one) => found.push((Kind::Volume, one)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        show(cx, flags.format.as_deref(), &found, wrong)
    })
}
