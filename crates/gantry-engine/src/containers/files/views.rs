//! Looking into a container, running or not, while clients take their time: nobody waits for them.
//!
//! A running container is seen as it sees itself. Of one that does not run, the layers are mounted for as long as somebody
//! looks, once for all who do: two mounts of one writable layer would not see each other's files. For that reason a start
//! waits a moment for those who look, and then shuts them out.

use crate::containers::record::{MountKind, Record, Status};
use crate::containers::{Container, Containers, lock};
use crate::error::{Error, Result};
use gantry_runtime::view::{self, Mount, Source, View};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// How long a start waits for those who look into the container.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
/// How often a running container is looked into that ends, or starts, in this moment.
const TRIES: usize = 200;

/// A view in use.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) view: View,
    running: bool,
    closed: AtomicBool,
}

impl Look {
    /// An error once the container is started or removed: what is seen here is not its file system any more.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(io::Error::other(
                "the container was started or removed meanwhile",
            ));
        }
        Ok(())
    }
}

/// Those who look into a container.
#[derive(Debug, Default)]
pub(in crate::containers) struct Views(Mutex<Vec<Weak<Look>>>);

impl Views {
    fn all(&self) -> Vec<Arc<Look>> {
        let mut views = lock(&self.0);
        views.retain(|view| view.strong_count() > 0);
        views.iter().filter_map(Weak::upgrade).collect()
    }

    fn add(&self, view: View, running: bool) -> Arc<Look> {
        let look = Arc::new(Look {
            view,
            running,
            closed: AtomicBool::new(false),
        });
        lock(&self.0).push(Arc::downgrade(&look));
        look
    }

    /// Shuts everybody out.
    pub(in crate::containers) fn close(&self) {
        for look in self.all() {
            look.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Gives those who look a moment to finish, then shuts them out. For a start.
    pub(in crate::containers) async fn settle(&self) {
        let settled = async {
            // Those of the last run see what is over.
            while self.all().iter().any(|look| !look.running) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(PATIENCE, settled).await.is_err() {
            tracing::info!("a start does not wait for those who still copy files");
        }
        self.close();
    }
}

impl Containers {
    /// Looks into a container. Not for long: the kernel keeps its mounts as long as somebody looks.
    pub(super) async fn look(self: &Arc<Self>, container: &Arc<Container>) -> Result<Arc<Look>> {
        for _ in 0..TRIES {
            if let Some(look) = self.look_at_running(container).await? {
                return Ok(look);
            }
            let turn = container.turn.lock().await;
            let record = container.snapshot();
            match record.state.status {
                status if status.is_alive() => {
                    // It is about to end, or has been started in between.
                    drop(turn);
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Status::Removing | Status::Dead => {
                    return Err(Error::conflict(format!(
                        "container {} is marked for removal",
                        container.id
                    )));
                }
                _ => {}
            }
            container.supervisor_ended().await;
            if let Some(look) = container.views.all().into_iter().find(|l| !l.running) {
                return Ok(look);
            }
            let this = self.clone();
            let view = crate::blocking(move || {
                let view = this.of_record(&record);
                // The view holds what it has mounted.
                this.context.volumes.unuse(&record.id);
                view
            })
            .await??;
            return Ok(container.views.add(view, false));
        }
        Err(Error::system(format!(
            "container {} neither runs nor ends: its files cannot be seen",
            container.id
        )))
    }

    /// The view of a running container; none when it does not run.
    async fn look_at_running(&self, container: &Arc<Container>) -> Result<Option<Arc<Look>>> {
        let pid = {
            let record = container.record();
            match record.state.status.is_alive() {
                true => record.state.pid,
                false => return Ok(None),
            }
        };
        let view = match crate::blocking(move || view::of_process(pid)).await? {
            Ok(view) => view,
            // It has ended, as a rule.
            Err(error) => {
                tracing::debug!(container = %container.id, %error, "cannot look into the process");
                return Ok(None);
            }
        };
        // While its descriptor says that it is there, no other process has its number.
        let same = {
            let live = lock(&container.live);
            let there = |fd: &std::os::fd::OwnedFd| gantry_runtime::signal::send(fd.as_fd(), 0);
            live.pidfd.as_ref().is_some_and(|fd| there(fd).is_ok())
        };
        let same = same && container.record().state.pid == pid;
        Ok(same.then(|| container.views.add(view, true)))
    }

    fn of_record(&self, record: &Record) -> Result<View> {
        let (sources, _held) = self.with_volumes(&record.mounts, &record.id)?;
        let rootfs = self.context.store.snapshots.mount(&record.id, false)?;
        let mut mounts: Vec<Mount> = sources
            .iter()
            .map(|mount| Mount {
                source: match mount.kind {
                    MountKind::Tmpfs => Source::Tmpfs,
                    _ => Source::Path {
                        path: mount.source.clone().into(),
                        recursive: mount.recursive,
                        read_only: mount.read_only,
                    },
                },
                destination: mount.destination.clone(),
            })
            .collect();
        // A mount below another one's destination comes after it.
        mounts.sort_by_key(|m| m.destination.split('/').count());
        view::of_layers(rootfs, &mounts)
            .map_err(|e| Error::caused("cannot mount the container's file system", e))
    }
}
