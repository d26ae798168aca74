//! `gantry start`

use serde_json::Value as Json;

use super::exit::{ended, watch};
use super::session::{Foreground, attach, keys};
use crate::client::{Client, talk};
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::stream::is_terminal;

pub(crate) const COMMAND: Command = Command {
    names: &["container start", "start"],
    about: "Start one or more stopped containers",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    args: Count::AtLeast(1),
    mixed: true,
    run,
};

flags! {
    struct StartFlags {
        /// Attach STDOUT/STDERR and forward signals
        attach: bool = "attach" short "a";
        /// Override the key sequence for detaching a container
        detach_keys: Option<String> = "detach-keys";
        /// Attach container's STDIN
        interactive: bool = "interactive" short "i";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = StartFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    talk(cx, async |client| {
        if flags.attach || flags.interactive {
            return match names.as_slice() {
                [name] => attached(cx, &client, name, &flags).await,
                _ => Err(Failure::new(
                    "you cannot start and attach multiple containers at once",
                )),
            };
        }
        let mut failed = Vec::new();
        for name in &names {
            let started = async { client.post(container(name, "/start")?).done().await };
            match started.await {
                Ok(()) => cx.print(&format!("{name}\n"))?,
                Err(error) => {
                    eprintln!("{error}");
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(0);
        }
        let failed = failed.join(", ");
        Err(Failure::new(format!(
            "Error: failed to start containers: {failed}"
        )))
    })
}

async fn attached(cx: &Cx, client: &Client, name: &str, flags: &StartFlags) -> Outcome {
    let found: Json = client.get(container(name, "/json")?).json().await?;
    let id = found["Id"].as_str().unwrap_or(name);
    let is = |key: &str| found["Config"][key].as_bool().unwrap_or(false);
    let tty = is("Tty");
    let stdin = flags.interactive && is("OpenStdin");
    if stdin && tty && !is_terminal(std::io::stdin()) {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let keys_text = cx.detach_keys(flags.detach_keys.as_deref());
    let removed = found["HostConfig"]["AutoRemove"].as_bool().unwrap_or(false);
    let attach = attach(client, id, keys_text, stdin)?.hijack();
    let (connection, waiting) = tokio::try_join!(attach, watch(client, id, removed))?;
    let path = format!("/containers/{id}");
    let front = Foreground::enter(client, &path, tty, stdin, true)?;
    if let Err(error) = client.post(container(id, "/start")?).done().await {
        drop(front);
        eprintln!("{error}");
        return Err(Failure::new(format!(
            "Error: failed to start containers: {name}"
        )));
    }
    let code = front
        .run(connection, true, keys(keys_text)?, None, ended(waiting))
        .await?;
    Ok(code.unwrap_or(0))
}
