//! `gantry logs`

use crate::client::{ApiError, talk};
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::format::parse_when;
use crate::stream::{FrameSink, Output};

pub(crate) const COMMAND: Command = Command {
    names: &["container logs", "logs"],
    about: "Fetch the logs of a container",
    usage: "[OPTIONS] CONTAINER",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct LogsFlags {
        /// Show extra details provided to logs
        details: bool = "details";
        /// Follow log output
        follow: bool = "follow" short "f";
        /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42
        /// minutes)
        since: Option<String> = "since";
        /// Number of lines to show from the end of the logs
        tail: String = "tail" short "n" default "all";
        /// Show timestamps
        timestamps: bool = "timestamps" short "t";
        /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42
        /// minutes)
        until: Option<String> = "until";
    }
}

fn when(name: &str, text: Option<&str>) -> Result<Option<String>, Failure> {
    let parsed = text.map(parse_when).transpose();
    parsed.map_err(|why| Failure::new(format!("invalid value for \"{name}\": {why}")))
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = LogsFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let since = when("since", flags.since.as_deref())?;
    let until = when("until", flags.until.as_deref())?;
    talk(cx, async |client| {
        let mut answer = client
            .get(container(&names[0], "/logs")?)
            .switch("details", flags.details)
            .switch("follow", flags.follow)
            .query_if("since", since.as_deref())
            .query("stderr", "1")
            .query("stdout", "1")
            .query("tail", &flags.tail)
            .switch("timestamps", flags.timestamps)
            .query_if("until", until.as_deref())
            .send()
            .await?;
        let written: Result<(), ApiError> = async {
            if answer.is_multiplexed() {
                let mut sink = FrameSink::default();
                while let Some(bytes) = answer.chunk().await? {
                    sink.write(&bytes).await?;
                }
                return Ok(());
            }
            let stdout = Output::stdout();
            while let Some(bytes) = answer.chunk().await? {
                stdout.write_all(&bytes).await?;
            }
            Ok(())
        }
        .await;
        written?;
        Ok(0)
    })
}
