//! `gantry restart`

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container restart", "restart"],
    about: "Restart one or more containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct RestartFlags {
        /// Signal to send to the container
        signal: Option<String> = "signal" short "s";
        /// Seconds to wait before killing the container
        timeout: Option<i64> = "timeout" short "t";
        time: Option<i64> = "time";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = RestartFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let timeout = flags
        .timeout
        .or(flags.time)
        .map(|seconds| seconds.to_string());
    talk(cx, async |client| {
        let mut wrong = Vec::new();
        // COMPAT: one after another, as Docker does it.
        for name in &names {
            let restarted = async {
                let call = client.post(container(name, "/restart")?);
                let call = call.query_if("signal", flags.signal.as_deref());
                call.query_if("t", timeout.as_deref()).done().await
            };
            match restarted.await {
                Ok(()) => cx.print(&format!("{name}\n"))?,
                Err(error) => wrong.push(error.to_string()),
            }
        }
        Failure::all(wrong)
    })
}
