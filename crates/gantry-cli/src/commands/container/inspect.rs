//! `gantry container inspect`

use crate::commands::formats::TemplateFormat;
use crate::commands::inspection::{Kind, inspect};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container inspect"],
    about: "Display detailed information on one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct InspectFlags {
        /// Display total file sizes
        size: bool = "size" short "s";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut shown = TemplateFormat::default();
    let mut flags = InspectFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut shown, &mut flags])?;
    let size = ("size", flags.size.then_some("1"));
    inspect(cx, Kind::Container, &names, &shown, size)
}
