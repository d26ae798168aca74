//! `pause` and `unpause`: the freezer stops a container's processes where they are, and lets them go on.
//!
//! The kernel's freezer is the truth: a daemon that starts reads it. What was frozen by the daemon for its own ends
//! ([`Containers::pause_for_a_while`]) is marked by a file in the run directory, and goes on at the daemon's next start.

use super::transition::{Operation, Refusal};
use super::{Container, Containers, lock};
use crate::error::{Error, Result};
use gantry_runtime::cgroup::Cgroup;
use std::path::PathBuf;
use std::sync::Arc;

/// The file of the run directory that is there while the daemon itself has paused the container.
const FOR_A_WHILE: &str = "paused-for-a-while";

impl Containers {
    /// Stops all processes of a container where they are.
    ///
    /// # Errors
    /// `Conflict` when it is not running, paused already or restarting; `System` when the kernel does not stop them.
    pub async fn pause(self: &Arc<Self>, name: &str) -> Result<()> {
        let container = self.find(name)?;
        let (this, name) = (self.clone(), name.to_owned());
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            this.pause_in_turn(&container, &name, false).await
        })
        .await?
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// `System` when it is not paused.
    pub async fn unpause(self: &Arc<Self>, name: &str) -> Result<()> {
        let container = self.find(name)?;
        let (this, name) = (self.clone(), name.to_owned());
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            this.unpause_in_turn(&container, &name).await
        })
        .await?
    }

    /// Pauses a running container until the guard is released, as `commit` does; `None` when it has no running
    /// processes, or is paused already. As with Docker the events `pause` and `unpause` tell of it.
    ///
    /// # Errors
    /// The kernel does not stop the processes.
    pub async fn pause_for_a_while(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<Option<PausedForAWhile>> {
        let (this, paused) = (self.clone(), container.clone());
        crate::to_the_end(async move {
            let _turn = paused.turn.lock().await;
            let asked = paused
                .record()
                .state
                .ask(Operation::Pause, &paused.id, &paused.id);
            if asked.is_err() {
                return Ok(None);
            }
            this.pause_in_turn(&paused, &paused.id, true).await?;
            let paused = paused.clone();
            Ok(Some(PausedForAWhile {
                containers: this,
                container: Some(paused),
            }))
        })
        .await?
    }

    async fn pause_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        name: &str,
        for_a_while: bool,
    ) -> Result<()> {
        let id = &container.id;
        let _freezing = container.freezing.lock().await;
        container.record().state.ask(Operation::Pause, id, name)?;
        // Frozen now, it would not die of the SIGKILL that is on its way.
        if lock(&container.live).killed {
            return Err(Refusal::NotRunning.error(id, name));
        }
        let cgroup = self.cgroup(container);
        let mark = for_a_while.then(|| self.mark(container));
        let frozen = crate::blocking(move || {
            if let Some(mark) = mark {
                std::fs::write(&mark, "")
                    .map_err(|e| Error::caused(&format!("cannot write {}", mark.display()), e))?;
            }
            cgroup
                .freeze()
                .map_err(|e| Error::caused("cannot freeze it", e))
        })
        .await?;
        let entered = frozen.is_ok() && container.record().state.enter(Operation::Pause);
        if !entered {
            self.unmark(container);
            // It has ended in between; or it hangs.
            return Err(match frozen {
                Ok(()) => Refusal::NotRunning.error(id, name),
                Err(error) => {
                    Error::system(format!("cannot pause container {id}: {}", error.message))
                }
            });
        }
        self.save_or_log(container);
        self.context.tell(&container.snapshot(), "pause", &[]);
        Ok(())
    }

    async fn unpause_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        name: &str,
    ) -> Result<()> {
        let id = &container.id;
        let _freezing = container.freezing.lock().await;
        container.record().state.ask(Operation::Unpause, id, name)?;
        self.thaw(container)
            .await
            .map_err(|e| Error::system(format!("Cannot unpause container {id}: {}", e.message)))?;
        self.context.tell(&container.snapshot(), "unpause", &[]);
        Ok(())
    }

    /// Lets frozen processes go on; the caller holds [`Container::freezing`].
    // COMPAT: Docker goes on to show a container as paused that a signal has thawed.
    pub(super) async fn thaw(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let cgroup = self.cgroup(container);
        crate::blocking(move || cgroup.thaw())
            .await?
            .map_err(|e| Error::caused("cannot thaw it", e))?;
        container.record().state.enter(Operation::Thaw);
        self.unmark(container);
        self.save_or_log(container);
        Ok(())
    }

    /// What the kernel says of a container whose shim runs, at the start of a daemon.
    pub(super) fn found(&self, container: &Container) -> Operation {
        let cgroup = self.cgroup(container);
        let frozen = cgroup.is_frozen().unwrap_or_else(|error| {
            tracing::warn!(container = %container.id, %error, "cannot read the freezer");
            false
        });
        if frozen && self.mark(container).exists() {
            if let Err(error) = cgroup.thaw() {
                tracing::error!(container = %container.id, %error, "cannot thaw");
                return Operation::FoundFrozen;
            }
            self.unmark(container);
            return Operation::FoundRunning;
        }
        if frozen {
            Operation::FoundFrozen
        } else {
            Operation::FoundRunning
        }
    }

    pub(super) fn cgroup(&self, container: &Container) -> Cgroup {
        Cgroup {
            path: self.context.cgroup_path(&container.record()),
        }
    }

    fn mark(&self, container: &Container) -> PathBuf {
        self.context.run_dir(&container.id).join(FOR_A_WHILE)
    }

    fn unmark(&self, container: &Container) {
        // Mostly it is not there.
        let _ = std::fs::remove_file(self.mark(container));
    }

    fn save_or_log(&self, container: &Container) {
        if let Err(error) = self.save_state(container) {
            tracing::error!(container = %container.id, %error, "cannot record the container's state");
        }
    }
}

/// A container that the daemon has paused. It goes on when this is released, or dropped.
#[derive(Debug)]
pub struct PausedForAWhile {
    containers: Arc<Containers>,
    container: Option<Arc<Container>>,
}

impl PausedForAWhile {
    /// Lets the container go on, and returns when it does.
    pub async fn release(mut self) {
        if let Some(container) = self.container.take() {
            let containers = self.containers.clone();
            let _ = crate::to_the_end(release(containers, container)).await;
        }
    }
}

impl Drop for PausedForAWhile {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            tokio::spawn(release(self.containers.clone(), container));
        }
    }
}

async fn release(containers: Arc<Containers>, container: Arc<Container>) {
    let _turn = container.turn.lock().await;
    // Somebody has thawed or ended it meanwhile: fine.
    if let Err(error) = containers.unpause_in_turn(&container, &container.id).await {
        tracing::debug!(container = %container.id, %error, "not paused any more");
    }
}
