//! `gantry volume inspect`

use crate::commands::formats::TemplateFormat;
use crate::commands::inspection::{Kind, inspect};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;

pub(crate) const COMMAND: Command = Command {
    names: &["volume inspect"],
    about: "Display detailed information on one or more volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let mut shown = TemplateFormat::default();
    let names = cx.read(&COMMAND, &mut [&mut shown])?;
    inspect(cx, Kind::Volume, &names, &shown, ("", None))
}
