//! `gantry image inspect`

use crate::commands::inspection::{Kind, inspect};
use crate::commands::{Command, Count};

pub(crate) const COMMAND: Command = Command {
    names: &["image inspect"],
    about: "Display detailed information on one or more images",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    args: Count::AtLeast(1),
    mixed: true,
    run: |cx| inspect(cx, &COMMAND, Kind::Image),
};
