//! `gantry stop`

use crate::client::{Call, talk};
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
    pub(super) struct StopFlags {
        /// Signal to send to the container
        signal: Option<String> = "signal" short "s";
        /// Seconds to wait before killing the container
        timeout: Option<i64> = "timeout" short "t";
        time: Option<i64> = "time";
    }
}

impl StopFlags {
    /// The request with what the flags say.
    pub(super) fn on<'c>(&self, call: Call<'c>) -> Call<'c> {
        let timeout = self.timeout.or(self.time);
        let timeout = timeout.map(|seconds| seconds.to_string());
        call.query_if("signal", self.signal.as_deref())
            .query_if("t", timeout.as_deref())
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = StopFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        let stop = async |name: String| -> Result<(), Failure> {
            let call = client.post(container(&name, "/stop")?);
            Ok(flags.on(call).done().await?)
        };
        print_each(cx, &names, &stop).await
    })
}
