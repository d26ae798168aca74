//! `gantry manifest rm`

use super::store::no_such;
use super::{named, store};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["manifest rm"],
    about: "Delete one or more manifest lists from local storage",
    usage: "MANIFEST_LIST [MANIFEST_LIST...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let args = cx.read(&COMMAND, &mut [&mut NoFlags {}])?;
    let store = store(cx);
    let remove = |text: &String| {
        let name = named(text)?;
        store.list(&name)?.ok_or_else(|| no_such(&name))?;
        store.remove(&name)
    };
    let wrong = args.iter().filter_map(|text| remove(text).err());
    Failure::all(wrong.map(|failure| failure.text).collect())
}
