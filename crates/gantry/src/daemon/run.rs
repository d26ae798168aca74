//! The daemon's life: spawner, engine, listeners, ready, serve, stop.

use super::flags::Flags;
use super::settings::Settings;
use anyhow::{Context, Result, bail};
use gantry_engine::context::Settings as EngineSettings;
use gantry_engine::networks::NetworkOptions;
use gantry_engine::{Engine, EngineConfig};
use gantry_network::proxy::ProxyOptions;
use gantry_runtime::spawn::{Spawner, SpawnerOptions};
use gantry_server::{Listener, TlsOptions};
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload;

/// This very binary, also after it has been replaced on disk.
const PROGRAM: &str = "/proc/self/exe";

/// Runs until a signal.
pub(crate) fn run(flags: Flags) -> Result<()> {
    let settings = Settings::resolve(flags.clone())?;
    if !rustix::process::geteuid().is_root() {
        bail!("the daemon needs to be started with root privileges");
    }
    if settings.ready_fd.is_some() {
        // A daemon that a client has started lives on without it.
        let _ = rustix::process::setsid();
    }
    let reload = log_to_stderr(&settings)?;
    std::fs::create_dir_all(&settings.exec_root)
        .with_context(|| format!("cannot make the exec root {}", settings.exec_root.display()))?;
    let pidfile = PidFile::write(&settings.pidfile)?;
    // Before any thread is there: the spawner is a copy of nothing but this.
    let program = std::fs::read_link(PROGRAM).context("cannot find the daemon's own binary")?;
    let spawner = Spawner::launch(SpawnerOptions {
        program: PROGRAM.into(),
        exec_root: settings.exec_root.clone(),
    })
    .context("cannot start the spawner")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(
            std::thread::available_parallelism()
                .map_or(2, usize::from)
                .clamp(2, 8),
        )
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(settings, flags, spawner, program, reload));
    // Threads that still block (a pull's disk writes) are not waited for without end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    drop(pidfile);
    result
}

async fn serve(
    settings: Settings,
    flags: Flags,
    spawner: Spawner,
    program: PathBuf,
    reload: Reload,
) -> Result<()> {
    let engine = Engine::open(EngineConfig {
        settings: engine_settings(&settings, program),
        spawner,
        networks: network_options(&settings),
        store: store_options(&settings),
        registry: settings.registries.options.clone(),
    })
    .await?;
    let mut listeners = Vec::new();
    for host in &settings.hosts {
        listeners.extend(
            listen(host, &settings)
                .await
                .with_context(|| format!("cannot listen on {host}"))?,
        );
    }
    let stop = CancellationToken::new();
    on_signals(&stop, reload, flags, engine.clone())?;
    tracing::info!(hosts = settings.hosts.join(" "), "API listen");
    if let Some(number) = settings.ready_fd {
        tell_ready(number);
    }
    gantry_server::serve(engine, listeners, stop).await;
    tracing::info!("the daemon ends; containers go on");
    Ok(())
}

fn network_options(settings: &Settings) -> NetworkOptions {
    let mut options = settings.networks.options.clone();
    options.plane.proxy = Some(ProxyOptions {
        program: PROGRAM.into(),
        socket: settings.exec_root.join("proxy.sock"),
        is_on: settings.networks.userland_proxy,
    });
    options
}

fn store_options(settings: &Settings) -> gantry_engine::StoreOptions {
    let mut options = gantry_engine::StoreOptions {
        storage_driver: settings.storage_driver.clone(),
        keep_blobs: settings.keep_blobs,
        dedupe: settings.dedupe,
        ..gantry_engine::StoreOptions::default()
    };
    if let Some(ratio) = settings.max_unpack_ratio {
        options.swelling.ratio = ratio;
    }
    options
}

fn engine_settings(settings: &Settings, program: PathBuf) -> EngineSettings {
    EngineSettings {
        data_root: settings.data_root.clone(),
        exec_root: settings.exec_root.clone(),
        cgroup_parent: settings.cgroup_parent.clone(),
        log_driver: settings.log_driver.clone(),
        log_options: settings.log_opts.clone(),
        program,
        dns: settings.dns.clone(),
        dns_options: settings.dns_opts.clone(),
        dns_search: settings.dns_search.clone(),
        host_gateways: settings.networks.host_gateways.clone(),
        shm_size: settings.shm_size,
        transfers: settings.registries.transfers,
        image_policy: settings.image_policy.clone(),
        trace_starts: settings.trace_starts,
    }
}

async fn listen(host: &str, settings: &Settings) -> Result<Vec<Listener>> {
    if let Some(path) = host.strip_prefix("unix://") {
        return Ok(vec![Listener::unix(
            Path::new(path),
            settings.group.as_deref(),
        )?]);
    }
    if let Some(address) = host.strip_prefix("tcp://") {
        let tls = settings.tls.as_ref().map(|tls| TlsOptions {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_authorities: tls.client_authorities.clone(),
        });
        if tls.is_none() {
            tracing::warn!(
                address,
                "the API is served over TCP without TLS: whoever reaches it is root on this machine"
            );
        }
        return Ok(vec![Listener::tcp(address, tls.as_ref()).await?]);
    }
    if host.starts_with("fd://") {
        return Ok(gantry_server::listener::from_environment()?);
    }
    bail!("unix://, tcp:// or fd:// is expected")
}

fn tell_ready(number: i32) {
    // SAFETY: whoever gives the number has passed this descriptor for us to use up; nothing else here owns it.
    let mut ready = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let _ = ready.write_all(b"1");
}

/// SIGTERM and SIGINT stop; SIGHUP reads the settings again, and changes those that can change.
fn on_signals(
    stop: &CancellationToken,
    reload: Reload,
    flags: Flags,
    engine: Arc<Engine>,
) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => reload_settings(&reload, flags.clone(), &engine),
            }
        }
        stop.cancel();
    });
    Ok(())
}

type Reload = reload::Handle<EnvFilter, tracing_subscriber::Registry>;

fn filter(level: &str) -> Result<EnvFilter> {
    let level = match level {
        "fatal" | "panic" => "error",
        "debug" | "info" | "warn" | "error" => level,
        other => bail!("log level {other:?}: debug, info, warn, error or fatal is expected"),
    };
    Ok(EnvFilter::new(format!(
        "warn,gantry={level},gantry_engine={level},gantry_server={level},gantry_store={level},gantry_network={level},gantry_registry={level},gantry_runtime={level}"
    )))
}

fn log_to_stderr(settings: &Settings) -> Result<Reload> {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let (filter, handle) = reload::Layer::new(filter(&settings.log_level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    if settings.log_json {
        registry.with(layer.json()).init();
    } else {
        registry.with(layer).init();
    }
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "a thread panicked"),
    ));
    Ok(handle)
}

// COMPAT: what Docker's daemon takes over, too; the rest waits for the next start.
fn reload_settings(reload: &Reload, flags: Flags, engine: &Engine) {
    let settings = match Settings::resolve(flags) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("cannot read the settings again: {error:#}");
            return;
        }
    };
    let level = &settings.log_level;
    if let Err(error) = filter(level).and_then(|filter| Ok(reload.reload(filter)?)) {
        tracing::error!(%error, "cannot change the log level");
    }
    engine
        .context
        .registry
        .configure(settings.registries.options);
    engine.images.limit_transfers(settings.registries.transfers);
    tracing::info!(level, "the settings have been read again");
}

/// The daemon's PID in a file, which goes with the daemon.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self> {
        if let Ok(text) = std::fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && same_program(pid)
        {
            bail!(
                "process with PID {pid} is still running: {} is its PID file",
                path.display()
            );
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot make {}", dir.display()))?;
        }
        std::fs::write(path, format!("{}\n", std::process::id()))
            .with_context(|| format!("cannot write the PID file {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a PID is a daemon's: a number that somebody else's process has by now does not count.
fn same_program(pid: u32) -> bool {
    let name = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let other = name(&pid.to_string());
    // One that was killed and that nobody has waited for has its name, but holds nothing any more.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ended = state
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    !other.is_empty() && other == name("self") && !ended
}
