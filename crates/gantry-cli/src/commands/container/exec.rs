//! `gantry exec`: create, start with our streams, then ask for the exit code.

use gantry_api::exec::ExecOptions;
use serde_json::{Value as Json, json};

use super::session::{Foreground, keys};
use crate::client::{Client, talk};
use crate::commands::each::container;
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::{Checked, flags};
use crate::request::{Variable, environment};
use crate::stream::{is_terminal, size};

pub(crate) const COMMAND: Command = Command {
    names: &["container exec", "exec"],
    about: "Execute a command in a running container",
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    args: Count::AtLeast(2),
    mixed: false,
    run,
};

flags! {
    struct ExecFlags {
        /// Detached mode: run command in the background
        detach: bool = "detach" short "d";
        /// Override the key sequence for detaching a container
        detach_keys: Option<String> = "detach-keys";
        /// Set environment variables
        env: Checked<Variable> = "env" short "e";
        /// Read in a file of environment variables
        env_file: Vec<String> = "env-file";
        /// Keep STDIN open even if not attached
        interactive: bool = "interactive" short "i";
        /// Give extended privileges to the command
        privileged: bool = "privileged";
        /// Allocate a pseudo-TTY
        tty: bool = "tty" short "t";
        /// Username or UID (format: "<name|uid>[:<group|gid>]")
        user: String = "user" short "u";
        /// Working directory inside the container
        workdir: String = "workdir" short "w";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = ExecFlags::default();
    let args = cx.read(&COMMAND, &mut [&mut flags])?;
    let keys_text = cx.detach_keys(flags.detach_keys.as_deref());
    let keys = keys(keys_text)?;
    let attached = !flags.detach;
    let options = ExecOptions {
        user: flags.user.clone(),
        privileged: flags.privileged,
        tty: flags.tty,
        console_size: size().filter(|_| attached && flags.tty),
        attach_stdin: attached && flags.interactive,
        attach_stdout: attached,
        attach_stderr: attached,
        detach_keys: keys_text.unwrap_or_default().to_owned(),
        env: Some(environment(&flags.env_file, &flags.env).map_err(Failure::new)?),
        working_dir: flags.workdir.clone(),
        cmd: Some(args[1..].to_vec()),
    };
    talk(cx, async |client| {
        if options.attach_stdin && options.tty && !is_terminal(std::io::stdin()) {
            return Err(Failure::new("the input device is not a TTY"));
        }
        let created: Json = client
            .post(container(&args[0], "/exec")?)
            .body(&options)?
            .json()
            .await?;
        let id = created["Id"]
            .as_str()
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Failure::new("exec ID empty"))?;
        let path = format!("/exec/{id}");
        let start = json!({
            "Detach": flags.detach,
            "Tty": flags.tty,
            "ConsoleSize": options.console_size,
        });
        let call = client.post(format!("{path}/start")).body(&start)?;
        if flags.detach {
            call.done().await?;
            return Ok(0);
        }
        let connection = call.hijack().await?;
        let front = Foreground::enter(&client, &path, flags.tty, flags.interactive, false)?;
        let code = exit_code(&client, &path);
        let code = front
            .run(connection, true, keys, options.console_size, code)
            .await?;
        // COMPAT: to leave by the keys is an error, as of attach.
        code.ok_or_else(|| Failure::new("exec attach failed: read escape sequence"))
    })
}

/// The exit code, which is known when the stream has ended.
async fn exit_code(client: &Client, path: &str) -> Result<u8, Failure> {
    let told: Json = client.get(format!("{path}/json")).json().await?;
    Ok(told["ExitCode"].as_i64().unwrap_or(0) as u8)
}
