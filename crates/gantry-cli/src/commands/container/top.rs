//! `gantry top`

use gantry_api::stats::TopResponse;

use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::Outcome;
use crate::flags::NoFlags;
use crate::format::table_of;

pub(crate) const COMMAND: Command = Command {
    names: &["container top", "top"],
    about: "Display the running processes of a container",
    usage: "CONTAINER [ps OPTIONS]",
    args: Count::AtLeast(1),
    mixed: false,
    run,
};

/// Columns of this table are at least so wide.
const NARROWEST: usize = 20;

fn run(cx: &Cx) -> Outcome {
    let words = cx.read(&COMMAND, &mut [&mut NoFlags::default()])?;
    let (name, ps_args) = (&words[0], words[1..].join(" "));
    talk(cx, async |client| {
        let call = client.get(container(name, "/top")?);
        let ps_args = Some(ps_args.as_str()).filter(|text| !text.is_empty());
        let top: TopResponse = call.query_if("ps_args", ps_args).json().await?;
        let mut lines = vec![top.titles.join("\t")];
        let rows = top.processes.into_iter().flatten();
        lines.extend(rows.map(|row| row.join("\t")));
        cx.print(&table_of(&lines, NARROWEST))?;
        Ok(0)
    })
}
