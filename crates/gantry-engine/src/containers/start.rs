//! `start`: the record becomes an OCI spec, the spec becomes processes.
//!
//! The network and the root file system are made at the same time, each on a thread; the rest follows in order. What
//! was made is undone when a later step fails.

use super::record::{MountRecord, Record};
use super::transition::Operation;
use super::{Container, Containers, etc, lock, spec};
use crate::error::{Error, Result};
use gantry_network::bridge::{Endpoint, EndpointRequest, NetworkError, PublishedPort};
use gantry_runtime::spawn::{Attached, StartError, StartRequest, Started, Stdio};
use jiff::Timestamp;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The file of the run directory in which a start notes its endpoint.
pub(super) const ENDPOINT_NOTE: &str = "endpoint";
/// What Docker puts before runc's words.
pub(super) const RUNTIME_PREFIX: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ";
/// What Docker puts before what is wrong with a log.
const LOG_PREFIX: &str =
    "failed to create task for container: failed to initialize logging driver: ";

/// The network that was made for a start.
#[derive(Debug, Default)]
struct Connected {
    netns: Option<OwnedFd>,
    endpoint: Option<Endpoint>,
}

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
        if record.endpoint.is_some() {
            self.context.tell_network("connect", &container.id);
        }
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
            if let Err(std::sync::mpsc::SendError(Ok(Connected { endpoint, .. }))) =
                done.send(this.connect(&asked))
            {
                this.disconnect(&asked.id, endpoint.as_ref());
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
        record.endpoint.clone_from(&connected.endpoint);
        if let Err(error) = self.prepare_run_dir(&record) {
            self.disconnect(&record.id, connected.endpoint.as_ref());
            return Err(error.into());
        }
        record.endpoint_id = connected
            .endpoint
            .as_ref()
            .map(|_| super::create::random_id())
            .unwrap_or_default();
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
                self.disconnect(&record.id, connected.endpoint.as_ref());
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
        let files = etc::write(&context.run_dir(&record.id), record, &context.settings)?;
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

    /// Makes the container's network; what it took is released on failure.
    fn connect(&self, record: &Record) -> Result<Connected> {
        let mode = record.network_mode();
        if mode == "host" {
            return Ok(Connected::default());
        }
        if let Some(other) = mode.strip_prefix("container:") {
            return Ok(Connected {
                netns: Some(self.netns_of(other)?),
                endpoint: None,
            });
        }
        let sandbox = || {
            let taken = self.context.spare.take();
            taken.map_err(|e| Error::caused("cannot make a network namespace", e))
        };
        if mode == "none" || record.config.network_disabled {
            return Ok(Connected {
                netns: Some(sandbox()?.netns),
                endpoint: None,
            });
        }
        let bridge = match (mode, &self.context.bridge) {
            ("bridge", Some(bridge)) => bridge,
            _ => return Err(Error::not_found(format!("network {mode} not found"))),
        };
        let request = endpoint_request(record)?;
        let sandbox = sandbox()?;
        let endpoint = bridge
            .attach(&record.id, &sandbox, &request)
            .map_err(|error| not_attached(record, error))?;
        Ok(Connected {
            netns: Some(sandbox.netns),
            endpoint: Some(endpoint),
        })
    }

    fn netns_of(&self, other: &str) -> Result<OwnedFd> {
        let found = self.find(other).map_err(|e| {
            Error::system(format!(
                "joining network namespace of container: {}",
                e.message
            ))
        })?;
        let pid = found.record().state.pid;
        if pid == 0 {
            return Err(Error::conflict(format!(
                "cannot join network of a non running container: {}",
                found.id
            )));
        }
        let file = std::fs::File::open(format!("/proc/{pid}/ns/net"))
            .map_err(|e| Error::caused("cannot open the other container's network namespace", e))?;
        Ok(file.into())
    }

    /// An empty run directory, with a note of the endpoint: a daemon that dies between the start and its record has its
    /// successor find the address there.
    fn prepare_run_dir(&self, record: &Record) -> Result<()> {
        let run_dir = self.context.run_dir(&record.id);
        fresh_dir(&run_dir)?;
        let Some(endpoint) = &record.endpoint else {
            return Ok(());
        };
        let json = serde_json::to_vec(endpoint)
            .map_err(|e| Error::caused("cannot note the endpoint", e))?;
        let path = run_dir.join(ENDPOINT_NOTE);
        std::fs::write(&path, json)
            .map_err(|e| Error::caused(&format!("cannot write {}", path.display()), e))
    }

    /// Gives back what [`Self::connect`] took.
    pub(super) fn disconnect(&self, id: &str, endpoint: Option<&Endpoint>) {
        let (Some(bridge), Some(endpoint)) = (&self.context.bridge, endpoint) else {
            return;
        };
        if let Err(error) = bridge.release(endpoint) {
            tracing::warn!(container = id, %error, "cannot release the network endpoint");
        }
        self.context.released.note(&endpoint.host_link);
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

/// Docker's words for an endpoint that could not be made.
fn not_attached(record: &Record, error: NetworkError) -> Error {
    let what = match error {
        NetworkError::Port(_) => format!(
            "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({})",
            record.name, record.id
        ),
        _ => format!(
            "failed to set up container networking: failed to create endpoint {} on network bridge",
            record.name
        ),
    };
    Error::caused(&what, error)
}

/// The address, the MAC and the ports that the container asks for.
fn endpoint_request(record: &Record) -> Result<EndpointRequest> {
    let asked = record
        .networks
        .get("bridge")
        .or_else(|| record.networks.get("default"));
    let text = asked
        .and_then(|a| a.ipam_config.as_ref())
        .map_or("", |i| i.ipv4_address.as_str());
    if !text.is_empty() {
        return Err(Error::invalid(
            "invalid config for network bridge: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
        ));
    }
    let mac = asked
        .map(|a| a.mac_address.clone())
        .filter(|m| !m.is_empty());
    let mac = mac.or_else(|| Some(record.config.mac_address.clone()).filter(|m| !m.is_empty()));
    let mut ports = Vec::new();
    for (port, bindings) in record.host_config.port_bindings.iter().flatten() {
        for binding in bindings.iter().flatten() {
            ports.push(published(port, &binding.host_ip, &binding.host_port)?);
        }
    }
    if record.host_config.publish_all_ports {
        for port in record
            .config
            .exposed_ports
            .iter()
            .flatten()
            .map(|(port, _)| port)
        {
            let bound = record
                .host_config
                .port_bindings
                .as_ref()
                .is_some_and(|b| b.contains_key(port));
            if !bound {
                ports.push(published(port, "", "0")?);
            }
        }
    }
    Ok(EndpointRequest {
        address: None,
        mac,
        ports,
    })
}

fn published(port: &str, host_ip: &str, host_port: &str) -> Result<PublishedPort> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let refuse = || Error::invalid(format!("invalid port specification: \"{port}\""));
    let host_ip = match host_ip {
        "" => Ipv4Addr::UNSPECIFIED,
        text => text.parse().map_err(|_| {
            Error::invalid(format!(
                "invalid IP address in port binding: {text:?} (IPv4 is expected)"
            ))
        })?,
    };
    Ok(PublishedPort {
        container_port: number.parse().map_err(|_| refuse())?,
        protocol: protocol.to_owned(),
        host_ip,
        host_port: if host_port.is_empty() {
            0
        } else {
            host_port.parse().map_err(|_| refuse())?
        },
    })
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
