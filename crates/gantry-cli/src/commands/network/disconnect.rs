//! `gantry network disconnect`

use gantry_api::network::DisconnectNetwork;

use crate::client::{encode, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;

pub(crate) const COMMAND: Command = Command {
    names: &["network disconnect"],
    about: "Disconnect a container from a network",
    usage: "[OPTIONS] NETWORK CONTAINER",
    args: Count::Exactly(2),
    mixed: true,
    run,
};

flags! {
    struct DisconnectFlags {
        /// Force the container to disconnect from a network
        force: bool = "force" short "f";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = DisconnectFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let [network, container] = &args[..] else {
        return Err(Failure::new("a network and a container are needed"));
    };
    let body = DisconnectNetwork {
        container: container.clone(),
        force: flags.force,
    };
    talk(cx, async |client| {
        let path = format!("/networks/{}/disconnect", encode(network));
        client.post(path).body(&body)?.done().await?;
        Ok(0)
    })
}
