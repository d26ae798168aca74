//! `gantry unpause`

use crate::client::talk;
use crate::commands::each::{container, print_each};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["container unpause", "unpause"],
    about: "Unpause all processes within one or more containers",
    usage: "CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let names = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    talk(cx, async |client| {
        let unpause = async |name: String| -> Result<(), Failure> {
            Ok(client.post(container(&name, "/unpause")?).done().await?)
        };
        print_each(cx, &names, &unpause).await
    })
}
