//! Execs of an earlier daemon: those whose shims live go on, the others have their ends noted.

use super::{Exec, NOTE, Note, Stage};
use crate::containers::Containers;
use crate::error::{Error, Result};
use gantry_runtime::shim_client::{self, ExitRecord, Found};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

impl Containers {
    /// Takes up the execs of an earlier daemon; called when the containers are known.
    pub(crate) async fn recover_execs(self: &Arc<Self>) -> Result<()> {
        let root = self.context.settings.exec_root.join("x");
        let failed = |e| Error::caused(&format!("cannot read {}", root.display()), e);
        std::fs::create_dir_all(&root).map_err(failed)?;
        for entry in std::fs::read_dir(&root).map_err(failed)?.flatten() {
            if let Ok(id) = entry.file_name().into_string() {
                self.recover_exec(id).await;
            }
        }
        Ok(())
    }

    async fn recover_exec(self: &Arc<Self>, id: String) {
        let dir = self.exec_dir(&id);
        let note: Option<Note> = std::fs::read(dir.join(NOTE))
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok());
        let container = note
            .as_ref()
            .and_then(|note| self.find(&note.container).ok());
        let looked = dir.clone();
        let found = crate::blocking(move || look(&looked)).await;
        let note = note.filter(|note| !note.probe);
        let (Some(note), Some(container), Ok(found)) = (note, container, found) else {
            tracing::info!(exec = id, "an exec of no use any more is cleared away");
            let _ = crate::blocking(move || {
                end(&dir);
                let _ = std::fs::remove_dir_all(dir);
            })
            .await;
            return;
        };
        let (stage, watch) = match found {
            Looked::Waiting => (Stage::Created, None),
            Looked::Ended { code, ago } => {
                // A clock that began after that time: it counts from now.
                let at = Instant::now().checked_sub(ago).unwrap_or_else(Instant::now);
                (Stage::Ended { code, at }, None)
            }
            Looked::Running { pid, watch } => (Stage::Running { pid }, Some(watch)),
        };
        let exec = Exec::new(id, note, stage);
        self.execs.insert(exec.clone());
        if let Some(watch) = watch {
            self.watch_exec(container, exec, watch);
        }
    }
}

enum Looked {
    /// It was never started.
    Waiting,
    Running {
        pid: u32,
        watch: shim_client::Watch,
    },
    Ended {
        code: i32,
        ago: Duration,
    },
}

fn look(dir: &Path) -> Looked {
    let begun = dir.join("shim.sock").exists() || dir.join("init.pid").exists();
    match shim_client::find(dir) {
        Ok(Found::Running { pid, watch, .. }) => Looked::Running { pid, watch },
        Ok(Found::Exited(exit)) => Looked::Ended {
            code: exit.code,
            ago: SystemTime::now()
                .duration_since(exit.finished_at)
                .unwrap_or_default(),
        },
        _ if begun => Looked::Ended {
            code: clear_lost(dir),
            ago: Duration::ZERO,
        },
        _ => Looked::Waiting,
    }
}

/// Ends an exec whose shim may live, and waits until it is gone: it writes into its folder to the last.
fn end(dir: &Path) {
    let running = shim_client::find(dir);
    clear_lost(dir);
    if let Ok(Found::Running { watch, .. }) = running {
        let _ = watch.socket.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = watch.wait();
    }
}

/// Ends what a dead shim left behind; the exit code, which is noted.
pub(super) fn clear_lost(dir: &Path) -> i32 {
    let pid = match shim_client::find(dir) {
        Ok(Found::Exited(exit)) => return exit.code,
        Ok(Found::Running { pid, .. }) => Some(pid),
        Ok(Found::Lost { pid }) => pid,
        Err(_) => None,
    };
    if let Some(pid) = pid
        .and_then(|p| i32::try_from(p).ok())
        .and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    let _ = ExitRecord::now(137).write(dir);
    137
}
