//! Watching over a running container: its shim tells the exit, or dies without a word.

use super::record::{MountRecord, Record};
use super::transition::Operation;
use super::{Container, Containers, lock, restart};
use gantry_network::endpoint::Endpoint;
use gantry_runtime::cgroup::Cgroup;
use gantry_runtime::shim_client::{self, ExitRecord, Found, Watch};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Exit code of a container whose shim was killed: what was left of it has been killed, too.
const LOST: i32 = 137;

impl Container {
    /// Waits until the last run's shim is gone, so that its cgroup and its folder are free again.
    pub(super) async fn supervisor_ended(&self) {
        let handle = lock(&self.live).supervisor.take();
        if let Some(handle) = handle {
            let _ = handle.await;
        }
    }
}

impl Containers {
    /// Watches a running container on a task of its own.
    pub(super) fn supervise(self: &Arc<Self>, container: &Arc<Container>, watch: Watch) {
        let this = self.clone();
        let supervised = container.clone();
        let task = tokio::spawn(async move { this.watch_over(&supervised, watch).await });
        lock(&container.live).supervisor = Some(task);
    }

    async fn watch_over(self: &Arc<Self>, container: &Arc<Container>, watch: Watch) {
        let mut told = false;
        match async_socket(watch) {
            Ok(mut socket) => {
                let mut bytes = Vec::new();
                let mut chunk = [0_u8; 256];
                while let Ok(n) = socket.read(&mut chunk).await
                    && n > 0
                {
                    bytes.extend_from_slice(&chunk[..n]);
                    if !told && let Some(exit) = Watch::decode(&bytes) {
                        told = true;
                        self.ended(container, exit).await;
                    }
                }
            }
            Err(error) => {
                tracing::error!(container = %container.id, %error, "cannot watch the shim")
            }
        }
        if !told {
            self.lost(container).await;
        }
        // The shim is gone, its end is recorded: what is left in its folder is of no use.
        let run_dir = self.context.run_dir(&container.id);
        let _ = crate::blocking(move || std::fs::remove_dir_all(run_dir)).await;
        self.after_exit(container);
    }

    /// The shim died: the container is ended, and nothing of it stays in the kernel.
    pub(super) async fn lost(self: &Arc<Self>, container: &Arc<Container>) {
        tracing::warn!(container = %container.id, "the shim is gone: the container is ended");
        let record = container.snapshot();
        let cgroup = Cgroup {
            path: self.context.cgroup_path(&record),
        };
        let run_dir = self.context.run_dir(&container.id);
        let pidfd = lock(&container.live).pidfd.take();
        let cleared = crate::blocking(move || {
            if let Some(pidfd) = pidfd {
                // Already gone: fine.
                let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            }
            let destroyed = cgroup.destroy();
            let written = match shim_client::find(&run_dir) {
                Ok(Found::Exited(exit)) => Some(exit),
                _ => None,
            };
            (destroyed, written)
        })
        .await;
        let mut exit = ExitRecord {
            code: LOST,
            oom_killed: false,
            finished_at: std::time::SystemTime::now(),
        };
        match cleared {
            Ok((destroyed, written)) => {
                if let Err(error) = destroyed {
                    tracing::error!(container = %container.id, %error, "cannot remove the cgroup");
                }
                exit = written.unwrap_or(exit);
            }
            Err(error) => {
                tracing::error!(container = %container.id, %error, "cannot clear up after the shim")
            }
        }
        self.ended(container, exit).await;
    }

    /// Notes an exit: gives back the network, writes the record, tells those who wait. A daemon that dies before the record is
    /// written has the next one see the end by what the shim wrote down before it told, or by its death.
    pub(super) async fn ended(self: &Arc<Self>, container: &Arc<Container>, exit: ExitRecord) {
        if self.bridge_without_ways().is_some() {
            let (this, record) = (self.clone(), container.snapshot());
            let _ = crate::blocking(move || this.close_ways(&record)).await;
        }
        let endpoints = {
            let mut live = lock(&container.live);
            (live.pidfd, live.health) = (None, None);
            // From here on it is given none, see `Container::while_alive`.
            std::mem::take(&mut container.record().endpoints)
        };
        // As its addresses are soon somebody else's.
        self.context.served.end(&container.id);
        {
            let (context, id) = (self.context.clone(), container.id.clone());
            if container.record().volumes().next().is_some() {
                let _ = crate::blocking(move || context.volumes.unuse(&id)).await;
            }
        }
        self.leave_all(container, &endpoints).await;
        let freezing = container.freezing.lock().await;
        let (record, delay) = {
            let mut live = lock(&container.live);
            let cancelled = live.restarts_cancelled;
            let mut record = container.record();
            note_exit(&mut record, &exit);
            let delay = restart::decide(&mut record, cancelled, &mut live.back_off);
            record.state.enter(match delay {
                Some(_) => Operation::ExitForAWhile,
                None => Operation::Exit,
            });
            (record.clone(), delay)
        };
        drop(freezing);
        self.forget_waiting_execs(&container.id);
        // A container with `--rm` is about to go: a daemon that dies first finds its exit, or its shim's end, again.
        if !record.host_config.auto_remove
            && let Err(error) = self.save_state(container)
        {
            tracing::error!(container = %container.id, %error, "cannot record the exit");
        }
        self.tell_exit(&record, &exit, &endpoints);
        container.phase.send_modify(|phase| {
            phase.exits += 1;
            phase.alive = delay.is_some();
            phase.code = exit.code;
        });
        if let Some(delay) = delay {
            self.restart_later(container, delay);
        }
    }

    async fn leave_all(self: &Arc<Self>, container: &Container, endpoints: &[Endpoint]) {
        if endpoints.is_empty() {
            return;
        }
        let (this, id, endpoints) = (self.clone(), container.id.clone(), endpoints.to_vec());
        let _ = crate::blocking(move || this.leave(&id, &endpoints)).await;
    }

    fn tell_exit(&self, record: &Record, exit: &ExitRecord, endpoints: &[Endpoint]) {
        if exit.oom_killed {
            self.context.tell(record, "oom", &[]);
        }
        let started = record.state.started_at.unwrap_or_default();
        let finished = record.state.finished_at.unwrap_or_default();
        let seconds = finished
            .duration_since(started)
            .as_secs()
            .max(0)
            .to_string();
        self.context.tell(
            record,
            "die",
            &[
                ("exitCode", &exit.code.to_string()),
                ("execDuration", &seconds),
            ],
        );
        self.tell_networks("disconnect", &record.id, endpoints);
        self.tell_volumes(record, "unmount");
    }

    /// Tells that a container's volumes are used, or no more.
    pub(super) fn tell_volumes(&self, record: &Record, action: &str) {
        self.tell_mounts(&record.id, &record.mounts, action);
    }

    pub(super) fn tell_mounts(&self, id: &str, mounts: &[MountRecord], action: &str) {
        for mount in mounts {
            let Some(volume) = &mount.volume else {
                continue;
            };
            let writes = if mount.read_only { "false" } else { "true" };
            let mut attributes = vec![("container", id)];
            if action == "mount" {
                attributes.extend([
                    ("destination", mount.destination.as_str()),
                    ("propagation", mount.propagation.as_str()),
                    ("read/write", writes),
                ]);
            }
            self.context.volumes.tell(action, &volume.name, &attributes);
        }
    }

    /// What follows an exit by itself: the removal of a container with `--rm`.
    pub(super) fn after_exit(self: &Arc<Self>, container: &Arc<Container>) {
        if !container.record().host_config.auto_remove {
            return;
        }
        let (this, container) = (self.clone(), container.clone());
        tokio::spawn(async move {
            let _turn = container.turn.lock().await;
            let asked = container
                .record()
                .state
                .ask(Operation::Remove, &container.id, "");
            // Removed already, or started again.
            if asked.is_err() {
                return;
            }
            let _going = container.begin_removal("");
            if let Err(error) = this.remove_in_turn(&container, true).await {
                tracing::warn!(container = %container.id, %error, "cannot remove after the exit");
            }
        });
    }
}

/// The exit in the record, all but the state itself.
pub(super) fn note_exit(record: &mut Record, exit: &ExitRecord) {
    super::health::end(record);
    let state = &mut record.state;
    state.pid = 0;
    state.exit_code = exit.code;
    state.oom_killed = exit.oom_killed;
    state.finished_at = Some(finished_at(exit).unwrap_or_else(Timestamp::now));
}

/// Whether it is the exit that the record has.
pub(super) fn is_noted(record: &Record, exit: &ExitRecord) -> bool {
    let state = &record.state;
    !state.status.is_alive() && finished_at(exit).is_some_and(|at| state.finished_at == Some(at))
}

fn finished_at(exit: &ExitRecord) -> Option<Timestamp> {
    Timestamp::try_from(exit.finished_at).ok()
}

fn async_socket(watch: Watch) -> std::io::Result<tokio::net::UnixStream> {
    watch.socket.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(watch.socket)
}
