//! `gantry volume create`

use gantry_api::container::Map;
use gantry_api::volume::{CreateVolume, Volume};

use crate::client::talk;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::request::{DriverOption, Label};

pub(crate) const COMMAND: Command = Command {
    names: &["volume create"],
    about: "Create a volume",
    usage: "[OPTIONS] [VOLUME]",
    args: Count::AtMost(1),
    mixed: true,
    run,
};

flags! {
    struct CreateFlags {
        /// Specify volume driver name
        driver: String = "driver" short "d" default "local";
        /// Set metadata for a volume
        label: Checked<Label> = "label";
        /// Set driver specific options (default map[])
        opt: Checked<DriverOption> = "opt" short "o" kind "map";
    }
}

fn map(items: Vec<(String, String)>) -> Option<Map> {
    (!items.is_empty()).then(|| items.into_iter().collect())
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = CreateFlags::default();
    let mut names = cx.read(&COMMAND, &mut [&mut flags])?;
    let name = names.pop().unwrap_or_default();
    let body = CreateVolume {
        name: name.clone(),
        driver: flags.driver,
        driver_opts: map(flags.opt.items),
        labels: map(flags.label.items),
    };
    talk(cx, async |client| {
        let call = client.post("/volumes/create").body(&body)?;
        let made: Volume = call.json().await.map_err(Failure::from)?;
        cx.print(&format!("{}\n", made.name))?;
        Ok(0)
    })
}
