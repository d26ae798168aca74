//! `gantry network inspect`

use crate::commands::formats::TemplateFormat;
use crate::commands::inspection::{Kind, inspect};
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
        /// Verbose output for diagnostics
        verbose: bool = "verbose" short "v";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TemplateFormat::default();
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    let verbose = ("verbose", flags.verbose.then_some("true"));
    inspect(cx, Kind::Network, &names, &shown, verbose)
}
