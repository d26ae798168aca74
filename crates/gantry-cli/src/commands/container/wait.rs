//! `gantry wait`

use super::exit::Waited;
use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;

pub(crate) const COMMAND: Command = Command {
    names: &["container wait", "wait"],
    about: "Block until one or more containers stop, then print their exit codes",
    usage: "CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

fn run(cx: &Cx) -> Outcome {
    let names = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    talk(cx, async |client| {
        let mut wrong = Vec::new();
        for name in &names {
            let waited = async {
                client
                    .post(container(name, "/wait")?)
                    .json::<Waited>()
                    .await
            };
            match waited.await {
                Ok(waited) => cx.print(&format!("{}\n", waited.status_code))?,
                Err(error) => wrong.push(error.to_string()),
            }
        }
        Failure::all(wrong)
    })
}
