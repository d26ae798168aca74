//! The start of an exec: its process in the container's namespaces, and the watch over it.

use super::{Exec, Stage, takes_execs};
use crate::containers::attach::{AttachStream, DetachKeys};
use crate::containers::record::Record;
use crate::containers::spec::{self, ResolvedUser};
use crate::containers::{Container, Containers, lock, stop};
use crate::error::{Error, Result};
use gantry_runtime::shim_client::{ExitRecord, Watch};
use gantry_runtime::spawn::{Attached, ExecRequest, StartError, Started, Stdio, Streams};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::AsyncReadExt;

/// What Docker puts before runc's words.
const PREFIX: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";

/// How the caller is connected to an exec.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecAttach {
    /// Whether the output comes in Docker's frames: as the start asks, whatever the exec was created with.
    pub framed: bool,
    /// Rows, columns of the terminal; none: as at create.
    pub console_size: Option<(u16, u16)>,
}

impl Containers {
    /// Whether an exec could be started, for who has to answer before it is.
    pub fn exec_check(&self, id: &str) -> Result<()> {
        let exec = self.find_exec(id)?;
        let container = self.find(&exec.note.container).map_err(|_| missing(id))?;
        let record = container.snapshot();
        takes_execs(&record, &record.id)
    }

    /// Starts an exec; with `attach` its streams come back.
    pub async fn exec_start(
        self: &Arc<Self>,
        id: &str,
        attach: Option<ExecAttach>,
    ) -> Result<Option<AttachStream>> {
        let (this, id) = (self.clone(), id.to_owned());
        crate::to_the_end(async move { this.exec_begin(&id, attach).await }).await?
    }

    async fn exec_begin(
        self: Arc<Self>,
        id: &str,
        attach: Option<ExecAttach>,
    ) -> Result<Option<AttachStream>> {
        self.exec_check(id)?;
        let exec = self.find_exec(id)?;
        let container = self.find(&exec.note.container)?;
        let options = &exec.note.options;
        let keys = DetachKeys::parse(match options.detach_keys.as_str() {
            "" => "ctrl-p,ctrl-q",
            keys => keys,
        })?;
        exec.take_turn()?;
        let streams = Streams {
            stdin: options.attach_stdin,
            stdout: options.attach_stdout,
            stderr: options.attach_stderr || options.tty && options.attach_stdout,
        };
        let mut attached = Vec::new();
        let mut stream = None;
        if attach.is_some() {
            let pair = tokio_pair();
            let (ours, socket) =
                pair.map_err(|e| exec.failed_with(126, Error::caused("cannot make a socket", e)))?;
            attached.push(Attached { socket, streams });
            stream = Some(AttachStream {
                replay: None,
                tty: options.tty,
                socket: ours,
                detach: (options.tty && streams.stdin).then_some(keys),
            });
        }
        self.tell_exec(&container, &exec, "exec_start", true, &[]);
        let started = {
            let (this, container, exec) = (self.clone(), container.clone(), exec.clone());
            let attach = attach.unwrap_or_default();
            crate::blocking(move || this.exec_launch(&container, &exec, attach, attached)).await
        };
        match started.and_then(|s| s) {
            Ok(started) => {
                *lock(&exec.process) = Some(started.pidfd);
                exec.stage.send_replace(Stage::Running { pid: started.pid });
                self.watch_exec(container, exec, started.watch);
                Ok(stream)
            }
            Err(error) => {
                let code = exit_code(&error.message);
                let dir = self.exec_dir(&exec.id);
                let _ = crate::blocking(move || ExitRecord::now(code).write(&dir)).await;
                Err(exec.failed_with(code, error))
            }
        }
    }

    /// The blocking work of a start.
    fn exec_launch(
        &self,
        container: &Container,
        exec: &Exec,
        attach: ExecAttach,
        attached: Vec<Attached>,
    ) -> Result<Started> {
        let record = container.snapshot();
        let options = &exec.note.options;
        let target = target(container)?;
        let user = self.exec_user(container, &record, &options.user)?;
        let links = self.link_environment_now(&record);
        let (process, seccomp) = spec::exec(&record, options, &user, &links)?;
        let asked = attach.console_size.or_else(|| {
            let [rows, columns] = options.console_size?;
            Some((rows.min(65535) as u16, columns.min(65535) as u16))
        });
        let started = self.context.spawner.exec(ExecRequest {
            target,
            target_pid: record.state.pid,
            cgroup_path: &self.context.cgroup_path(&record),
            process: &process,
            seccomp: seccomp.as_ref(),
            run_dir: &self.exec_dir(&exec.id),
            stdio: Stdio {
                tty: options.tty,
                open_stdin: options.attach_stdin,
                stdin_once: true,
                console_size: asked.filter(|size| options.tty && *size != (0, 0)),
            },
            framed: attach.framed,
            attached,
        });
        started.map_err(|error| match error {
            StartError::Exec { message, .. } => Error::invalid(format!("{PREFIX}{message}")),
            StartError::Setup { step, message } if step.is_empty() => {
                Error::system(format!("{PREFIX}{message}"))
            }
            other => Error::system(format!("{PREFIX}{other}")),
        })
    }

    /// A user by the container's own files.
    pub(super) fn exec_user(
        &self,
        container: &Container,
        record: &Record,
        user: &str,
    ) -> Result<ResolvedUser> {
        let target = target(container)?;
        let groups = record.host_config.group_add.as_deref().unwrap_or_default();
        let root = root_of(&target, record)?;
        spec::resolve_user(root.as_fd(), user, groups)
    }

    /// Watches an exec until its shim is gone.
    pub(super) fn watch_exec(
        self: &Arc<Self>,
        container: Arc<Container>,
        exec: Arc<Exec>,
        watch: Watch,
    ) {
        let this = self.clone();
        tokio::spawn(async move {
            let socket = watch
                .socket
                .set_nonblocking(true)
                .and_then(|()| tokio::net::UnixStream::from_std(watch.socket));
            let mut told = false;
            if let Ok(mut socket) = socket {
                let (mut bytes, mut chunk) = (Vec::new(), [0_u8; 256]);
                while let Ok(n) = socket.read(&mut chunk).await
                    && n > 0
                {
                    bytes.extend_from_slice(&chunk[..n]);
                    if !told && let Some(exit) = Watch::decode(&bytes) {
                        told = true;
                        this.exec_ended(&container, &exec, exit.code);
                    }
                }
            }
            if !told {
                this.exec_lost(&container, &exec).await;
            }
            let dir = this.exec_dir(&exec.id);
            // Its container may have gone while it ended.
            let known = this.execs.get(&exec.id).is_some();
            let _ = crate::blocking(move || {
                if known {
                    for file in ["shim.sock", "init.pid", "shim.pid"] {
                        let _ = std::fs::remove_file(dir.join(file));
                    }
                } else {
                    let _ = std::fs::remove_dir_all(dir);
                }
            })
            .await;
        });
    }

    /// Notes the end of an exec.
    pub(super) fn exec_ended(&self, container: &Container, exec: &Exec, code: i32) {
        *lock(&exec.process) = None;
        exec.stage.send_replace(Stage::Ended {
            code,
            at: Instant::now(),
        });
        self.tell_exec(
            container,
            exec,
            "exec_die",
            false,
            &[("exitCode", &code.to_string())],
        );
    }

    /// The exec's shim died: its process is ended, too.
    async fn exec_lost(self: &Arc<Self>, container: &Container, exec: &Exec) {
        let dir = self.exec_dir(&exec.id);
        let code = crate::blocking(move || super::recover::clear_lost(&dir)).await;
        self.exec_ended(container, exec, code.unwrap_or(137));
    }
}

impl Exec {
    /// One start for an exec, whoever asks at the same time.
    fn take_turn(&self) -> Result<()> {
        let mut refused = None;
        self.stage.send_if_modified(|stage| match stage {
            Stage::Created => {
                *stage = Stage::Starting;
                true
            }
            Stage::Ended { .. } => {
                refused = Some(format!("exec command {} has already run", self.id));
                false
            }
            Stage::Starting | Stage::Running { .. } => {
                refused = Some(format!("exec command {} is already running", self.id));
                false
            }
        });
        refused.map_or(Ok(()), |why| Err(Error::conflict(why)))
    }

    /// Notes that it never ran.
    fn failed_with(&self, code: i32, error: Error) -> Error {
        self.stage.send_replace(Stage::Ended {
            code,
            at: Instant::now(),
        });
        error
    }
}

fn missing(id: &str) -> Error {
    Error::not_found(format!("No such exec instance: {id}"))
}

/// A pidfd of the container's first process.
fn target(container: &Container) -> Result<OwnedFd> {
    let live = lock(&container.live);
    let pidfd = live
        .pidfd
        .as_ref()
        .ok_or_else(|| stop::not_running(&container.id))?;
    pidfd
        .try_clone()
        .map_err(|e| Error::caused("cannot hold the container's first process", e))
}

/// The root of a running container as its first process sees it.
pub(in crate::containers) fn root_of(target: &OwnedFd, record: &Record) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let path = format!("/proc/{}/root", record.state.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|_| stop::not_running(&record.id))?;
    // It still lives, so the number was its own when the root was opened.
    let mut fds = [rustix::event::PollFd::new(
        target,
        rustix::event::PollFlags::IN,
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(0) => Ok(root),
        _ => Err(stop::not_running(&record.id)),
    }
}

fn tokio_pair() -> std::io::Result<(tokio::net::UnixStream, UnixStream)> {
    let (ours, shims) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((tokio::net::UnixStream::from_std(ours)?, shims))
}

/// The exit code that Docker derives from the words of a failed start (daemon/errors.go `setExitCodeFromError`).
fn exit_code(message: &str) -> i32 {
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["executable file not found", "no such file or directory"]) {
        127
    } else if has(&["permission denied", "is a directory", "not a directory"]) {
        126
    } else {
        128
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn exit_codes_by_words() {
        let code = super::exit_code;
        assert_eq!(
            code("exec: \"/nope\": stat /nope: no such file or directory"),
            127
        );
        assert_eq!(
            code("exec: \"nope\": executable file not found in $PATH"),
            127
        );
        assert_eq!(code("exec: \"/etc/passwd\": permission denied"), 126);
        assert_eq!(code("enter the cgroup: No space left on device"), 128);
    }
}
