//! `gantry network rm`

use serde::Deserialize;

use crate::client::{Client, encode, talk};
use crate::commands::each::confirm;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["network rm", "network remove"],
    about: "Remove one or more networks",
    usage: "NETWORK [NETWORK...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct RmFlags {
        /// Do not error if the network does not exist
        force: bool = "force" short "f";
    }
}

const INGRESS: &str = "WARNING! Before removing the routing-mesh network, make sure all the nodes in your swarm \
                       run the same docker engine version. Otherwise, removal may not be effective and \
                       functionality of newly create ingress networks will be impaired.\n\
                       Are you sure you want to continue?";

/// What must be known of a network before it goes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Known {
    ingress: bool,
}

/// Whether it went; a network of a swarm's own is asked about first.
async fn remove(cx: &Cx, client: &Client, name: &str, force: bool) -> Result<bool, Failure> {
    let path = format!("/networks/{}", encode(name));
    let known = client.get(&path).json::<Known>().await;
    if known.is_ok_and(|network| network.ingress) && !confirm(cx, INGRESS)? {
        return Ok(false);
    }
    match client.delete(path).done().await {
        Ok(()) => Ok(true),
        Err(error) if force && error.is_not_found() => Ok(false),
        Err(error) => Err(Failure::new(error.to_string())),
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = RmFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        let mut wrong = false;
        for name in &names {
            match remove(cx, &client, name, flags.force).await {
                Ok(true) => cx.print(&format!("{name}\n"))?,
                Ok(false) => {}
                Err(failure) => {
                    eprintln!("{}", failure.text);
                    wrong = true;
                }
            }
        }
        match wrong {
            true => Err(Failure::new("exit status 1")),
            false => Ok(0),
        }
    })
}
