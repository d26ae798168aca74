//! `gantry attach`

use serde_json::Value as Json;

use super::exit::ended;
use super::session::{Foreground, attach, keys};
use crate::client::talk;
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::stream::is_terminal;

pub(crate) const COMMAND: Command = Command {
    names: &["container attach", "attach"],
    about: "Attach local standard input, output, and error streams to a running container",
    usage: "[OPTIONS] CONTAINER",
    args: Count::Exactly(1),
    mixed: true,
    run,
};

flags! {
    struct AttachFlags {
        /// Override the key sequence for detaching a container
        detach_keys: Option<String> = "detach-keys";
        /// Do not attach STDIN
        no_stdin: bool = "no-stdin";
        /// Proxy all received signals to the process
        sig_proxy: bool = "sig-proxy" default "true";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = AttachFlags::default();
    let names = cx.read(&COMMAND, &mut [&mut flags])?;
    let name = &names[0];
    let keys_text = cx.detach_keys(flags.detach_keys.as_deref());
    let keys = keys(keys_text)?;
    talk(cx, async |client| {
        let found: Json = client.get(container(name, "/json")?).json().await?;
        let id = found["Id"].as_str().unwrap_or(name);
        let is = |of: &str, key: &str| found[of][key].as_bool().unwrap_or(false);
        for (state, what) in [
            (
                !is("State", "Running"),
                "a stopped container, start it first",
            ),
            (
                is("State", "Paused"),
                "a paused container, unpause it first",
            ),
            (
                is("State", "Restarting"),
                "a restarting container, wait until it is running",
            ),
        ] {
            if state {
                return Err(Failure::new(format!("You cannot attach to {what}")));
            }
        }
        let tty = is("Config", "Tty");
        let stdin = !flags.no_stdin && is("Config", "OpenStdin");
        if stdin && tty && !is_terminal(std::io::stdin()) {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let attach = attach(&client, id, keys_text, stdin)?.hijack();
        let wait = client
            .post(container(id, "/wait")?)
            .query("condition", "not-running");
        let (connection, waiting) = tokio::try_join!(attach, wait.send())?;
        let path = format!("/containers/{id}");
        let front = Foreground::enter(&client, &path, tty, stdin, flags.sig_proxy && !tty)?;
        let code = front
            .run(connection, true, keys, None, ended(waiting))
            .await?;
        // COMPAT: to leave by the keys is an error of attach, and none of run.
        code.ok_or_else(|| Failure::new("read escape sequence"))
    })
}
