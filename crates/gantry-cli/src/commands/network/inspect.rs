//! `gantry network inspect`

use crate::client::{encode, talk};
use crate::commands::inspection::{Kind, show};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["network inspect"],
    about: "Display detailed information on one or more networks",
    usage: "[OPTIONS] NETWORK [NETWORK...]",
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
        /// Verbose output for diagnostics
        verbose: bool = "verbose" short "v";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let verbose = flags.verbose.then_some("true");
    talk(cx, async |client| {
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for name in &names {
            let call = client.get(format!("/networks/{}", encode(name)));
            match call.query_if("verbose", verbose).json().await {
                Ok(one) => found.push((Kind::Network, one)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        show(cx, flags.format.as_deref(), &found, wrong)
    })
}
