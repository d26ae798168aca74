//! `gantry rm`

use crate::client::talk;
use crate::commands::each::{container, print_each};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container rm", "container remove", "rm"],
    about: "Remove one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct RmFlags {
        /// Force the removal of a running container (uses SIGKILL)
        force: bool = "force" short "f";
        /// Remove the specified link
        link: bool = "link" short "l";
        /// Remove anonymous volumes associated with the container
        volumes: bool = "volumes" short "v";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = RmFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        let remove = async |name: String| -> Result<(), Failure> {
            let call = client.delete(container(&name, "")?);
            let call = call.switch("force", flags.force).switch("link", flags.link);
            match call.switch("v", flags.volumes).done().await {
                // COMPAT: with --force a container that is not there is told of, but is no failure.
                Err(error) if flags.force && error.is_not_found() => {
                    eprintln!("{error}");
                    Err(Failure::quiet(0))
                }
                done => Ok(done?),
            }
        };
        print_each(cx, &names, &remove).await
    })
}
