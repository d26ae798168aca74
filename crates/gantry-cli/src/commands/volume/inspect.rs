//! `gantry volume inspect`

use crate::commands::inspection::{Kind, inspect};
use crate::commands::{Command, Count};

pub(crate) const COMMAND: Command = Command {
    names: &["volume inspect"],
    about: "Display detailed information on one or more volumes",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    args: Count::AtLeast(1),
    mixed: true,
    run: |cx| inspect(cx, &COMMAND, Kind::Volume),
};
