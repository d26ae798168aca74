//! `gantry stop`

use crate::client::talk;
use crate::commands::each::{container, print_each};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["container stop", "stop"],
    about: "Stop one or more running containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct StopFlags {
        /// Signal to send to the container
        signal: Option<String> = "signal" short "s";
        /// Seconds to wait before killing the container
        timeout: Option<i64> = "timeout" short "t";
        time: Option<i64> = "time";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = StopFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let timeout = flags
        .timeout
        .or(flags.time)
        .map(|seconds| seconds.to_string());
    talk(cx, async |client| {
        let stop = async |name: String| -> Result<(), Failure> {
            let call = client.post(container(&name, "/stop")?);
            let call = call.query_if("signal", flags.signal.as_deref());
            Ok(call.query_if("t", timeout.as_deref()).done().await?)
        };
        print_each(cx, &names, &stop).await
    })
}
