//! `gantry run`: create, attach, wait, start, in this order, so that no byte and no exit is missed.

use gantry_api::container::CreateBody;

use super::create::{body, create, read};
use super::exit::{ended, run_failure, watch};
use super::session::{Foreground, keys};
use crate::client::{Client, talk};
use crate::commands::{Command, Count};
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::flags::flags;
use crate::request::{Attached, CreateFlags};
use crate::stream::{DetachKeys, is_terminal, size};

pub(crate) const COMMAND: Command = Command {
    names: &["container run", "run"],
    about: "Create and run a new container from an image",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    args: Count::AtLeast(1),
    mixed: false,
    run,
};

flags! {
    /// What `run` has beyond `create`.
    struct RunFlags {
        /// Run container in background and print container ID
        detach: bool = "detach" short "d";
        /// Override the key sequence for detaching a container
        detach_keys: Option<String> = "detach-keys";
        /// Proxy received signals to the process
        sig_proxy: bool = "sig-proxy" default "true";
    }
}

fn run(cx: &Cx) -> Outcome {
    let mut flags = CreateFlags::default();
    let mut own = RunFlags::default();
    let args = read(cx, &COMMAND, &mut flags, &mut [&mut own])?;
    let mut body = body(cx, &flags, &args)?;
    let attached = streams(&flags, &own, &mut body)?;
    let keys_text = cx.detach_keys(own.detach_keys.as_deref());
    let keys = keys(keys_text)?;
    talk(cx, async |client| {
        let id = create(cx, &client, &flags, &body).await;
        let id = id.map_err(|failure| {
            Failure::new(cx.with_help(&failure.text, &cx.called)).with_code(125)
        })?;
        let run = Run {
            cx,
            client: &client,
            id: &id,
            tty: flags.tty,
            removed: flags.rm,
            size: body.host_config.console_size,
            keys,
            keys_text,
            proxy: own.sig_proxy,
        };
        if attached.any() {
            return run.attached(attached).await;
        }
        run.start().await?;
        if own.detach {
            cx.print(&format!("{id}\n"))?;
        }
        Ok(0)
    })
}

/// Which streams to attach; the body is told so, and of our terminal's size.
fn streams(
    flags: &CreateFlags,
    own: &RunFlags,
    body: &mut CreateBody,
) -> Result<Attached, Failure> {
    let config = &mut body.config;
    if own.detach {
        if !flags.attach.items.is_empty() {
            let text = "conflicting options: cannot specify both --attach and --detach";
            return Err(Failure::new(text));
        }
        (
            config.attach_stdin,
            config.attach_stdout,
            config.attach_stderr,
        ) = (false, false, false);
        config.stdin_once = false;
    } else if config.tty && config.attach_stdin && !is_terminal(std::io::stdin()) {
        return Err(Failure::new("the input device is not a TTY"));
    }
    if let Some(size) = size().filter(|_| config.tty) {
        body.host_config.console_size = size;
    }
    Ok(Attached {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
    })
}

/// One run of a container that has been made.
struct Run<'a> {
    cx: &'a Cx,
    client: &'a Client,
    id: &'a str,
    tty: bool,
    removed: bool,
    size: [u32; 2],
    keys: DetachKeys,
    keys_text: Option<&'a str>,
    proxy: bool,
}

impl Run<'_> {
    async fn start(&self) -> Result<(), Failure> {
        let started = self
            .client
            .post(format!("/containers/{}/start", self.id))
            .done()
            .await;
        started.map_err(|error| run_failure(self.cx, &error.to_string()))
    }

    async fn attached(self, to: Attached) -> Outcome {
        let failed = |error: crate::client::ApiError| run_failure(self.cx, &error.to_string());
        let attach = self
            .client
            .post(format!("/containers/{}/attach", self.id))
            .query_if("detachKeys", self.keys_text)
            .switch("stderr", to.stderr)
            .switch("stdin", to.stdin)
            .switch("stdout", to.stdout)
            .query("stream", "1")
            .hijack();
        let waiting = watch(self.client, self.id, self.removed);
        let (connection, waiting) = tokio::try_join!(attach, waiting).map_err(failed)?;
        let path = format!("/containers/{}", self.id);
        let front = Foreground::enter(self.client, &path, self.tty, to.stdin, self.proxy)?;
        if let Err(failure) = self.start().await {
            drop(front);
            drop(connection);
            if self.removed {
                waiting.bytes().await?;
            }
            return Err(failure);
        }
        let output = to.stdout || to.stderr;
        let size = Some(self.size);
        let code = front
            .run(connection, output, self.keys, size, ended(waiting))
            .await?;
        Ok(code.unwrap_or(0))
    }
}
