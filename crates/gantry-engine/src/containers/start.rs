//! `start`: the record becomes an OCI spec, the spec becomes processes.
//!
//! The network and the root file system are made at the same time, each on a thread; the rest follows in order. What
//! was made is undone when a later step fails.

use super::networking::{self, Connected};
use super::record::{MountRecord, Record};
use super::transition::Operation;
use super::{Container, Containers, lock, spec};
use crate::error::{Error, Result};
use gantry_runtime::spawn::{Attached, StartError, StartRequest, Started, Stdio};
use jiff::Timestamp;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What Docker puts before runc's words.
pub(super) const RUNTIME_PREFIX: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ";
/// What Docker puts before what is wrong with a log.
const LOG_PREFIX: &str =
    "failed to create task for container: failed to initialize logging driver: ";

impl Containers {
    /// Starts a container; `NotModified` when it is running.
    pub async fn start(self: &Arc<Self>, name: &str) -> Result<()> {
        let container = self.find(name)?;
        let this = self.clone();
        crate::to_the_end(async move {
            let _turn = container.turn.lock().await;
            this.start_in_turn(&container, Operation::Start).await
        })
        .await?
    }

    /// Starts a container; the caller holds its turn. `operation` is one of those that lead to `running`.
    pub(super) async fn start_in_turn(
        self: &Arc<Self>,
        container: &Arc<Container>,
        operation: Operation,
    ) -> Result<()> {
        let asked = container.record().state.ask(operation, &container.id, "");
        asked?;
        if operation != Operation::StartAgain {
            let mut live = lock(&container.live);
            live.back_off = super::restart::BackOff::default();
            live.restarts_cancelled = false;
            let mut record = container.record();
            record.restart_count = 0;
            record.state.stopped_by_user = false;
        }
        container.supervisor_ended().await;
        container.views.settle().await;
        let gate = container.gate.lock().await;
        let record = container.snapshot();
        let attached = std::mem::take(&mut lock(&container.live).waiting);
        let this = self.clone();
        let launched = {
            let record = record.clone();
            crate::blocking(move || this.launch(record, attached)).await?
        };
        match launched {
            Ok((record, started)) => {
                if record.network_mode() != "host" {
                    let context = self.context.clone();
                    tokio::task::spawn_blocking(move || context.spare.fill());
                }
                self.running(container, record, started, operation)
            }
            Err(error) => {
                drop(gate);
                Err(self.failed(container, error).await)
            }
        }
    }

    /// Notes that the container runs and watches over it from now on.
    fn running(
        self: &Arc<Self>,
        container: &Arc<Container>,
        started_as: Record,
        started: Started,
        operation: Operation,
    ) -> Result<()> {
        {
            let mut live = lock(&container.live);
            live.pidfd = Some(started.pidfd);
            live.killed = false;
        }
        let record = {
            let mut record = container.record();
            record.take_up(started_as.changing());
            record.state.enter(operation);
            record.clone()
        };
        container.phase.send_modify(|phase| phase.alive = true);
        let saved = self.save_state(container);
        self.tell_volumes(&record, "mount");
        self.tell_networks("connect", &container.id, &record.endpoints);
        self.tell_linking(&record);
        self.context.tell(&record, "start", &[]);
        self.supervise(container, started.watch);
        self.watch_health(container);
        saved
    }

    /// Notes why a start failed and wakes those who wait; a container with `--rm` goes.
    async fn failed(self: &Arc<Self>, container: &Arc<Container>, failure: Failure) -> Error {
        let record = {
            let mut record = container.record();
            record.state.exit_code = failure.exit_code;
            record.state.error.clone_from(&failure.error.message);
            record.clone()
        };
        if let Err(error) = self.save_state(container) {
            tracing::error!(container = %container.id, %error, "cannot record a failed start");
        }
        container.phase.send_modify(|phase| {
            phase.exits += 1;
            phase.code = failure.exit_code;
        });
        if record.host_config.auto_remove
            && let Err(error) = self.remove_in_turn(container, true).await
        {
            tracing::warn!(container = %container.id, %error, "cannot remove after a failed start");
        }
        failure.error
    }

    /// All the work of a start that blocks. On failure nothing of it is left.
    fn launch(self: &Arc<Self>, mut record: Record, attached: Vec<Attached>) -> Launched {
        let mut steps = Steps::new(self.context.settings.trace_starts);
        // The network on another thread of the pool, while this one mounts.
        let (done, network) = std::sync::mpsc::sync_channel(1);
        let (this, asked) = (self.clone(), record.clone());
        tokio::runtime::Handle::current().spawn_blocking(move || {
            let joined = this.join(&asked);
            let named = joined.and_then(|connected| this.named(&asked, connected));
            if let Err(std::sync::mpsc::SendError(Ok(Connected { endpoints, .. }))) =
                done.send(named)
            {
                this.give_back(&asked, &endpoints);
            }
        });
        let rootfs = self
            .context
            .store
            .snapshots
            .mount(&record.id, record.host_config.auto_remove);
        let connected = network
            .recv()
            .unwrap_or_else(|_| Err(Error::system("the network thread panicked")));
        steps.done("network and root file system");
        let connected = connected.map_err(Failure::from)?;
        record.endpoints.clone_from(&connected.endpoints);
        if let Err(error) = self.prepare_run_dir(&record) {
            self.give_back(&record, &connected.endpoints);
            return Err(error.into());
        }
        let launched = rootfs
            .map_err(|e| Failure::from(Error::from(e)))
            .and_then(|rootfs| {
                self.spawn(&mut record, rootfs, connected.netns, attached, &mut steps)
            });
        match launched {
            Ok(started) => {
                steps.report(&record.id, &started);
                Ok((record, started))
            }
            Err(failure) => {
                self.context.volumes.unuse(&record.id);
                self.give_back(&record, &connected.endpoints);
                let _ = std::fs::remove_dir_all(self.context.run_dir(&record.id));
                Err(failure)
            }
        }
    }

    fn spawn(
        &self,
        record: &mut Record,
        rootfs: OwnedFd,
        netns: Option<OwnedFd>,
        attached: Vec<Attached>,
        steps: &mut Steps,
    ) -> std::result::Result<Started, Failure> {
        let context = &self.context;
        // In the run directory, which is in memory on most machines: they are written anew at each start.
        let files = self.etc_files(record)?;
        make_sources(&record.mounts)?;
        steps.done("files in /etc");
        let (mounts, held) = self.with_volumes(&record.mounts, &record.id)?;
        let mut input = self.spec_input(record, rootfs.as_fd(), &files, netns.is_some())?;
        input.mounts = &mounts;
        let spec = spec::build(&input)?;
        steps.done("spec");
        let run_dir = context.run_dir(&record.id);
        let config = &record.config;
        let rows_columns = record.host_config.console_size;
        let log = crate::logs::drivers::request(context, record)
            .map_err(|why| Error::system(format!("{LOG_PREFIX}{why}")))?;
        steps.done("log");
        let started = context.spawner.start(StartRequest {
            id: &record.id,
            spec: &spec,
            rootfs,
            netns,
            run_dir: &run_dir,
            log,
            stdio: Stdio {
                tty: config.tty,
                open_stdin: config.open_stdin,
                stdin_once: config.stdin_once,
                console_size: (rows_columns != [0, 0]).then(|| {
                    (
                        rows_columns[0].min(65535) as u16,
                        rows_columns[1].min(65535) as u16,
                    )
                }),
            },
            attached,
            trace: context.settings.trace_starts,
        });
        drop(held);
        steps.done("spawner");
        let started = started.map_err(Failure::from)?;
        let state = &mut record.state;
        state.pid = started.pid;
        state.exit_code = 0;
        state.error.clear();
        state.oom_killed = false;
        super::health::begin(record);
        let state = &mut record.state;
        state.started_at =
            Some(Timestamp::try_from(started.started_at).unwrap_or_else(|_| Timestamp::now()));
        Ok(started)
    }

    /// The mounts with their volumes' files made ready. A folder below a volume is held by a descriptor, so that no link
    /// leads out of it.
    pub(super) fn with_volumes(
        &self,
        mounts: &[MountRecord],
        id: &str,
    ) -> Result<(Vec<MountRecord>, Vec<OwnedFd>)> {
        use std::os::fd::AsRawFd as _;
        let (mut mounts, mut held) = (mounts.to_vec(), Vec::new());
        for mount in &mut mounts {
            let Some(volume) = &mount.volume else {
                continue;
            };
            let folder = self.context.volumes.use_for(&volume.name, id)?;
            mount.source = if volume.subpath.is_empty() {
                folder.display().to_string()
            } else {
                let below = crate::volumes::populate::below(&folder, &volume.subpath)?;
                let path = format!("/proc/self/fd/{}", below.as_raw_fd());
                held.push(below);
                path
            };
        }
        Ok((mounts, held))
    }

    /// An empty run directory, with a note of the endpoints.
    fn prepare_run_dir(&self, record: &Record) -> Result<()> {
        let run_dir = self.context.run_dir(&record.id);
        fresh_dir(&run_dir)?;
        networking::note(&run_dir, &record.endpoints)
    }
}

/// Makes the folders of `-v` that are not there.
pub(super) fn make_sources(mounts: &[MountRecord]) -> Result<()> {
    for mount in mounts.iter().filter(|m| m.create_source) {
        match std::fs::create_dir_all(&mount.source) {
            Err(error) if !std::path::Path::new(&mount.source).exists() => {
                let what = format!("error while creating mount source path '{}'", mount.source);
                return Err(Error::caused(&what, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An empty directory, whatever an earlier start left there.
fn fresh_dir(path: &std::path::Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::remove_dir_all(path).and_then(|()| std::fs::create_dir(path))
        }
        other => other,
    }
    .map_err(|e| Error::caused(&format!("cannot make {}", path.display()), e))
}

type Launched = std::result::Result<(Record, Started), Failure>;

/// A start that failed: what the container's record shows and what the caller is told.
#[derive(Debug)]
pub(super) struct Failure {
    exit_code: i32,
    error: Error,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            exit_code: 128,
            error,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            // COMPAT: clients derive 126 and 127 from these words.
            StartError::Exec { exit_code, message } => Self {
                exit_code,
                error: Error::invalid(format!(
                    "{RUNTIME_PREFIX}unable to start container process: error during container init: {message}"
                )),
            },
            StartError::Setup { step, message } if step.is_empty() => {
                Self::from(Error::system(format!("{RUNTIME_PREFIX}{message}")))
            }
            other => Self::from(Error::system(format!("{RUNTIME_PREFIX}{other}"))),
        }
    }
}

/// The measured steps of a start (`--trace-starts`).
#[derive(Debug)]
struct Steps {
    last: std::time::Instant,
    taken: Option<Vec<(&'static str, std::time::Duration)>>,
}

impl Steps {
    fn new(wanted: bool) -> Self {
        Self {
            last: std::time::Instant::now(),
            taken: wanted.then(Vec::new),
        }
    }

    fn done(&mut self, step: &'static str) {
        if let Some(taken) = &mut self.taken {
            let now = std::time::Instant::now();
            taken.push((step, now - self.last));
            self.last = now;
        }
    }

    fn report(&self, id: &str, started: &Started) {
        if let Some(taken) = &self.taken {
            let word = |step: &str, micros: u128| format!("{step} {micros} us");
            let steps: Vec<String> = taken.iter().map(|(s, d)| word(s, d.as_micros())).collect();
            let shim: Vec<String> = started
                .timings
                .iter()
                .map(|(s, us)| word(s, u128::from(*us)))
                .collect();
            tracing::info!(
                container = id,
                steps = steps.join(", "),
                in_the_shim = shim.join(", "),
                "start"
            );
        }
    }
}
