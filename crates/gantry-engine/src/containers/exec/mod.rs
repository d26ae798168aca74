//! Execs: further processes in a running container, each with a shim of its own.
//!
//! `create` notes what is asked for, `start` makes the process, its shim tells the end. An exec has a folder below the
//! exec root (`x/<id>`): the note, then the shim's files; so a daemon that comes later finds all of them again. An exec
//! that has ended is known for five minutes more.

mod recover;
mod start;

pub use start::ExecAttach;

use super::attach::DetachKeys;
use super::record::Record;
use super::transition::Operation;
use super::{Container, Containers};
use crate::error::{Error, Result};
use gantry_api::exec::{ExecInspect, ExecOptions, ProcessConfig};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

/// How long an exec that has ended is known.
const KEPT: Duration = Duration::from_secs(300);
/// The file in which an exec is noted.
const NOTE: &str = "exec.json";

/// What is asked for, with the container's own settings filled in.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Note {
    container: String,
    options: ExecOptions,
    /// A health check's: of no use to the next daemon.
    #[serde(default)]
    probe: bool,
}

/// How far an exec has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Created,
    Starting,
    Running { pid: u32 },
    Ended { code: i32, at: Instant },
}

/// One exec.
#[derive(Debug)]
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    note: Note,
    /// The process, for who has to end it.
    process: Mutex<Option<OwnedFd>>,
    stage: tokio::sync::watch::Sender<Stage>,
}

impl Exec {
    fn new(id: String, note: Note, stage: Stage) -> Arc<Self> {
        Arc::new(Self {
            id,
            note,
            process: Mutex::default(),
            stage: tokio::sync::watch::Sender::new(stage),
        })
    }

    fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// The command in one line, as the events have it.
    fn command(&self) -> String {
        self.note
            .options
            .cmd
            .as_deref()
            .unwrap_or_default()
            .join(" ")
    }

    /// Waits for the end and tells the exit code.
    pub(crate) async fn ended(&self) -> i32 {
        let mut stages = self.stage.subscribe();
        match stages
            .wait_for(|stage| matches!(stage, Stage::Ended { .. }))
            .await
            .map(|stage| *stage)
        {
            Ok(Stage::Ended { code, .. }) => code,
            // The sender lives as long as `self`.
            _ => 137,
        }
    }
}

/// All execs by ID.
#[derive(Debug, Default)]
pub(super) struct Execs(RwLock<BTreeMap<String, Arc<Exec>>>);

impl Execs {
    fn insert(&self, exec: Arc<Exec>) {
        let mut all = self
            .0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.insert(exec.id.clone(), exec);
    }

    fn get(&self, id: &str) -> Option<Arc<Exec>> {
        let all = self
            .0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.get(id).cloned()
    }

    /// Takes out those that are of no use any more.
    fn take(&self, useless: impl Fn(&Exec) -> bool) -> Vec<Arc<Exec>> {
        let mut all = self
            .0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken: Vec<_> = all.values().filter(|e| useless(e)).cloned().collect();
        for exec in &taken {
            all.remove(&exec.id);
        }
        taken
    }

    /// Those of a container that have not ended; `None` where there are none, as inspect shows it.
    pub(super) fn of(&self, container: &str) -> Option<Vec<String>> {
        let all = self
            .0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let ids: Vec<String> = all
            .values()
            .filter(|e| e.note.container == container)
            .filter(|e| !matches!(e.stage(), Stage::Ended { .. }))
            .map(|e| e.id.clone())
            .collect();
        (!ids.is_empty()).then_some(ids)
    }
}

impl Containers {
    /// `<exec-root>/x/<id>`
    fn exec_dir(&self, id: &str) -> PathBuf {
        self.context.settings.exec_root.join("x").join(id)
    }

    /// Notes an exec in a running container; its ID.
    pub async fn exec_create(self: &Arc<Self>, name: &str, options: ExecOptions) -> Result<String> {
        self.exec_note(name, options, false).await
    }

    /// [`Self::exec_create`], also for a health check.
    pub(super) async fn exec_note(
        self: &Arc<Self>,
        name: &str,
        mut options: ExecOptions,
        probe: bool,
    ) -> Result<String> {
        if options.cmd.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        let container = self.find(name)?;
        let record = container.snapshot();
        takes_execs(&record, name)?;
        if !options.detach_keys.is_empty() {
            DetachKeys::parse(&options.detach_keys)?;
        }
        if options.working_dir.is_empty() {
            options.working_dir.clone_from(&record.config.working_dir);
        }
        if options.user.is_empty() {
            options.user.clone_from(&record.config.user);
        } else {
            // Docker's answer to an unknown user comes here, not at the start.
            let (this, record, user) = (self.clone(), record.clone(), options.user.clone());
            let container = container.clone();
            crate::blocking(move || {
                this.exec_user(&container, &record, &user)
                    .map_err(|e| Error::invalid(e.message))
            })
            .await??;
        }
        let note = Note {
            container: container.id.clone(),
            options,
            probe,
        };
        let exec = Exec::new(super::create::random_id(), note, Stage::Created);
        // To its end, whoever waits for it: a note without an exec would stay.
        let this = self.clone();
        crate::to_the_end(async move { this.keep_exec(&container, exec).await }).await?
    }

    async fn keep_exec(&self, container: &Container, exec: Arc<Exec>) -> Result<String> {
        let (dir, written) = (self.exec_dir(&exec.id), exec.clone());
        crate::blocking(move || write_note(&dir, &written.note)).await??;
        self.execs.insert(exec.clone());
        if !container.record().state.status.is_alive() {
            // It has ended meanwhile, and what was known of it by then is cleared away.
            self.exec_forget(&exec.id).await;
            return Err(super::stop::not_running(&container.id));
        }
        self.tell_exec(container, &exec, "exec_create", true, &[]);
        Ok(exec.id.clone())
    }

    /// What is known of an exec.
    pub fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        let exec = self.find_exec(id)?;
        let options = &exec.note.options;
        let mut command = options.cmd.iter().flatten().cloned();
        let stage = exec.stage();
        let keys = match options.detach_keys.as_str() {
            "" => String::new(),
            keys => base64(DetachKeys::parse(keys)?.bytes()),
        };
        Ok(ExecInspect {
            id: exec.id.clone(),
            running: matches!(stage, Stage::Running { .. } | Stage::Starting),
            exit_code: match stage {
                Stage::Ended { code, .. } => Some(code),
                _ => None,
            },
            process_config: ProcessConfig {
                tty: options.tty,
                entrypoint: command.next().unwrap_or_default(),
                arguments: command.collect(),
                privileged: options.privileged,
                user: options.user.clone(),
            },
            open_stdin: options.attach_stdin,
            open_stderr: options.attach_stderr,
            open_stdout: options.attach_stdout,
            can_remove: false,
            container_id: exec.note.container.clone(),
            detach_keys: keys,
            pid: match stage {
                Stage::Running { pid } => pid,
                _ => 0,
            },
        })
    }

    /// Sets the terminal's size; an exec that is being started is waited for.
    pub async fn exec_resize(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let exec = self.find_exec(id)?;
        takes_execs(&self.find(&exec.note.container)?.record(), id)?;
        let mut stages = exec.stage.subscribe();
        let begun = stages.wait_for(|s| !matches!(s, Stage::Created | Stage::Starting));
        if tokio::time::timeout(PATIENCE, begun).await.is_err() {
            return Err(Error::system("timeout waiting for exec session ready"));
        }
        if !matches!(exec.stage(), Stage::Running { .. }) {
            return Err(Error::system("the exec process has ended"));
        }
        let dir = self.exec_dir(id);
        crate::blocking(move || gantry_runtime::shim_client::resize(&dir, rows, columns))
            .await?
            .map_err(|e| Error::caused("cannot resize the terminal", e))
    }

    /// Says that a client left by its detach keys.
    pub fn exec_detached(&self, id: &str) {
        if let Ok(exec) = self.find_exec(id)
            && let Ok(container) = self.find(&exec.note.container)
        {
            self.tell_exec(&container, &exec, "exec_detach", false, &[]);
        }
    }

    /// Waits until the exit code of an exec is known; none for one that is not known.
    pub fn exec_end(&self, id: &str) -> Option<futures_util::future::BoxFuture<'static, ()>> {
        let exec = self.find_exec(id).ok()?;
        Some(Box::pin(async move {
            exec.ended().await;
        }))
    }

    /// The exit code of an exec, once it has ended.
    pub(super) async fn exec_code(&self, id: &str) -> Result<i32> {
        Ok(self.find_exec(id)?.ended().await)
    }

    /// Kills an exec and waits for its end, but not longer than `patience`.
    pub(super) async fn exec_kill(&self, id: &str, patience: Duration) {
        let Ok(exec) = self.find_exec(id) else {
            return;
        };
        if let Some(process) = super::lock(&exec.process).as_ref() {
            // It has ended: fine.
            let _ = rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL);
        }
        let _ = tokio::time::timeout(patience, exec.ended()).await;
    }

    /// Forgets an exec that nobody asks for any more.
    pub(super) async fn exec_forget(&self, id: &str) {
        self.execs.take(|exec| exec.id == id);
        let dir = self.exec_dir(id);
        let _ = crate::blocking(move || std::fs::remove_dir_all(dir)).await;
    }

    fn find_exec(&self, id: &str) -> Result<Arc<Exec>> {
        let found = self.execs.get(id);
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {id}")))
    }

    fn tell_exec(
        &self,
        container: &Container,
        exec: &Exec,
        action: &str,
        with_command: bool,
        extra: &[(&str, &str)],
    ) {
        let action = if with_command {
            format!("{action}: {}", exec.command())
        } else {
            action.to_owned()
        };
        let mut attributes = vec![("execID", exec.id.as_str())];
        attributes.extend(extra);
        self.context
            .tell(&container.snapshot(), &action, &attributes);
    }

    /// Drops the execs of a container that has ended before they were started.
    pub(super) fn forget_waiting_execs(&self, container: &str) {
        let waiting =
            |e: &Exec| e.note.container == container && matches!(e.stage(), Stage::Created);
        self.remove_exec_dirs(&self.execs.take(waiting));
    }

    /// Drops the execs of a container that goes away.
    pub(super) fn forget_execs(&self, container: &str) {
        let mut gone = self.execs.take(|e| e.note.container == container);
        // One that still ends has its folder removed when it has.
        gone.retain(|exec| !matches!(exec.stage(), Stage::Running { .. } | Stage::Starting));
        self.remove_exec_dirs(&gone);
    }

    /// Removes the folders of execs that are known no more; nobody has to wait for it.
    fn remove_exec_dirs(&self, execs: &[Arc<Exec>]) {
        let dirs: Vec<PathBuf> = execs.iter().map(|e| self.exec_dir(&e.id)).collect();
        if !dirs.is_empty() {
            tokio::task::spawn_blocking(move || {
                dirs.iter().for_each(|dir| {
                    let _ = std::fs::remove_dir_all(dir);
                });
            });
        }
    }

    /// Forgets the execs that ended some time ago, again and again.
    pub(crate) async fn forget_old_execs(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_secs(60));
        loop {
            ticks.tick().await;
            let old = self.execs.take(|exec| match exec.stage() {
                Stage::Ended { at, .. } => at.elapsed() >= KEPT,
                // It can never be started any more.
                Stage::Created => self
                    .find(&exec.note.container)
                    .map_or(true, |c| !c.record().state.status.is_alive()),
                Stage::Starting | Stage::Running { .. } => false,
            });
            self.remove_exec_dirs(&old);
        }
    }
}

/// Whether a container can take an exec now; `name` is what it was called.
fn takes_execs(record: &Record, name: &str) -> Result<()> {
    let asked = record.state.ask(Operation::Exec, &record.id, name);
    asked.map(drop)
}

/// Writes the note whole: by another name, then renamed.
fn write_note(dir: &std::path::Path, note: &Note) -> Result<()> {
    let failed = |e| Error::caused(&format!("cannot note the exec in {}", dir.display()), e);
    let json = serde_json::to_vec(note).map_err(|e| Error::caused("cannot note the exec", e))?;
    std::fs::create_dir_all(dir).map_err(failed)?;
    let new = dir.join("exec.json.new");
    std::fs::write(&new, json).map_err(failed)?;
    std::fs::rename(new, dir.join(NOTE)).map_err(failed)
}

/// RFC 4648 base64, as Go's JSON has bytes.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
