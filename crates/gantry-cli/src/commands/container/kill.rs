//! `gantry kill`

use crate::client::talk;
use crate::commands::each::{container, print_each};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container kill", "kill"],
    about: "Kill one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct KillFlags {
        /// Signal to send to the container
        signal: Option<String> = "signal" short "s";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = KillFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        let kill = async |name: String| -> Result<(), Failure> {
            let call = client.post(container(&name, "/kill")?);
            Ok(call
                .query_if("signal", flags.signal.as_deref())
                .done()
                .await?)
        };
        print_each(cx, &names, &kill).await
    })
}
