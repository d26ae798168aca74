//! `gantry volume rm`

use crate::client::{encode, talk};
use crate::commands::each::print_each;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["volume rm", "volume remove"],
    about: "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct RmFlags {
        /// Force the removal of one or more volumes
        force: bool = "force" short "f";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = RmFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        print_each(cx, &names, async |name: String| {
            let call = client.delete(format!("/volumes/{}", encode(&name)));
            let done = call.switch("force", flags.force).done().await;
            done.map_err(|error| Failure::new(error.to_string()))
        })
        .await
    })
}
