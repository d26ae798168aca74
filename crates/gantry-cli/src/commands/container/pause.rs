//! `gantry pause`

use crate::client::talk;
use crate::commands::each::{container, print_each};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["container pause", "pause"],
    about: "Pause all processes within one or more containers",
    usage: "CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let names = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    talk(cx, async |client| {
        let pause = async |name: String| -> Result<(), Failure> {
            Ok(client.post(container(&name, "/pause")?).done().await?)
        };
        print_each(cx, &names, &pause).await
    })
}
