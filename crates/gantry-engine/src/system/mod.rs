//! What the engine says of itself: `version`, `info` and `system df`.

mod machine;

use crate::containers::list::ListOptions;
use crate::containers::record::Status;
use crate::error::Result;
use crate::{Engine, blocking, images};
use gantry_api::container::Map;
use gantry_api::system::{
    AddressPool, Commit, Component, ContainerdInfo, DiskUsage, FirewallBackend, IndexConfig, Info,
    PlatformName, PluginNames, RegistryConfig, Runtime, Swarm, Version,
};
use gantry_api::version;
use gantry_registry::{Insecure, RegistryOptions};
use gantry_store::Store;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Docker's name of the machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The commit that the program was built from, where the build says so.
fn commit() -> &'static str {
    option_env!("GANTRY_COMMIT").unwrap_or_default()
}

/// Versions of the engine and its parts.
pub fn version() -> Version {
    let kernel = machine::kernel();
    let built = option_env!("GANTRY_BUILD_TIME").unwrap_or_default();
    // COMPAT: there is no Go here; the field must be.
    let language = "none (Rust)";
    let details = [
        ("ApiVersion", version::CURRENT.to_string()),
        ("Arch", architecture().to_owned()),
        ("BuildTime", built.to_owned()),
        ("Experimental", "false".to_owned()),
        ("GitCommit", commit().to_owned()),
        ("GoVersion", language.to_owned()),
        ("KernelVersion", kernel.clone()),
        ("MinAPIVersion", version::MINIMUM.to_string()),
        ("Os", "linux".to_owned()),
    ];
    let component = |name: &str, version: String, details: Map| Component {
        name: name.to_owned(),
        version,
        details,
    };
    let details = details.map(|(key, value)| (key.to_owned(), value));
    Version {
        platform: PlatformName {
            name: format!("Gantry {}", version::GANTRY),
        },
        components: vec![
            component("Engine", version::server_version(), Map::from(details)),
            component(
                "gantry",
                version::GANTRY.to_owned(),
                Map::from([("GitCommit".to_owned(), commit().to_owned())]),
            ),
        ],
        version: version::server_version(),
        api_version: version::CURRENT.to_string(),
        min_api_version: version::MINIMUM.to_string(),
        git_commit: commit().to_owned(),
        go_version: language.to_owned(),
        os: "linux".to_owned(),
        arch: architecture().to_owned(),
        kernel_version: kernel,
        experimental: false,
        build_time: built.to_owned(),
    }
}

/// What `system df` is to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsageParts {
    pub containers: bool,
    pub images: bool,
    pub volumes: bool,
    pub build_cache: bool,
}

impl DiskUsageParts {
    /// Everything.
    pub fn all() -> Self {
        Self {
            containers: true,
            images: true,
            volumes: true,
            build_cache: true,
        }
    }
}

impl Engine {
    /// The engine's settings, what it holds, and the machine.
    pub async fn info(self: &Arc<Self>) -> Result<Info> {
        let this = self.clone();
        blocking(move || this.info_blocking()).await?
    }

    fn info_blocking(&self) -> Result<Info> {
        let context = &self.context;
        let mut info = machine::info(context.store.snapshots.name(), &context.settings.data_root);
        let mut counts = [0_i64; 3];
        for container in self.containers.all() {
            let kind = match container.record().state.status {
                Status::Running | Status::Restarting => 0,
                Status::Paused => 1,
                _ => 2,
            };
            counts[kind] += 1;
        }
        [
            info.containers_running,
            info.containers_paused,
            info.containers_stopped,
        ] = counts;
        info.containers = counts.iter().sum();
        info.images = context.store.images.all()?.len() as i64;
        info.id = identity(&context.store)?;
        info.driver = context.store.snapshots.name().to_owned();
        info.n_events_listener = self.events.listeners() as i64;
        info.docker_root_dir = context.settings.data_root.display().to_string();
        info.plugins = PluginNames {
            volume: vec!["local".to_owned()],
            network: crate::networks::DRIVERS.map(str::to_owned).to_vec(),
            authorization: None,
            log: crate::logs::DRIVERS.map(str::to_owned).to_vec(),
        };
        let pools = context.networks.given_pools.iter();
        info.default_address_pools = pools
            .map(|pool| AddressPool {
                base: pool.base.to_string(),
                size: pool.size,
            })
            .collect();
        info.logging_driver.clone_from(&context.settings.log_driver);
        info.runtimes = runtimes(&context.settings.program.display().to_string());
        "runc".clone_into(&mut info.default_runtime);
        describe_engine(&mut info);
        describe_registries(&mut info, &context.registry.options());
        Ok(info)
    }

    /// What images, containers, volumes and build caches take on the disk.
    pub async fn disk_usage(self: &Arc<Self>, parts: DiskUsageParts) -> Result<DiskUsage> {
        let mut usage = DiskUsage::default();
        if parts.containers {
            let options = ListOptions {
                all: true,
                size: true,
                ..ListOptions::default()
            };
            let mut list = self.containers.list(options).await?;
            let context = self.context.clone();
            let counted = blocking(move || -> Result<_> {
                for container in &mut list {
                    // COMPAT: Docker tells the lengths of the files that the container has written.
                    container.size_rw = Some(context.container_disk(&container.id)? as i64);
                }
                Ok(list)
            });
            usage.containers = Some(counted.await??);
        }
        if parts.images {
            let context = self.context.clone();
            let size = blocking(move || {
                gantry_store::usage::of_images(&context.store, &context.settings.data_root)
            });
            usage.layers_size = size.await?? as i64;
            let options = images::ListOptions {
                shared_size: true,
                ..images::ListOptions::default()
            };
            usage.images = Some(self.images.list(options).await?);
        }
        if parts.volumes {
            let context = self.context.clone();
            usage.volumes = Some(blocking(move || context.volumes.usage()).await?);
        }
        if parts.build_cache {
            usage.build_cache = Some(Vec::new());
        }
        Ok(usage)
    }
}

/// The built-in runtime under the names that clients ask for.
fn runtimes(program: &str) -> BTreeMap<String, Runtime> {
    let features = r#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0"}"#;
    let status = Map::from([(
        "org.opencontainers.runtime-spec.features".to_owned(),
        features.to_owned(),
    )]);
    ["io.containerd.runc.v2", "runc"]
        .map(|name| {
            let runtime = Runtime {
                path: program.to_owned(),
                status: status.clone(),
            };
            (name.to_owned(), runtime)
        })
        .into()
}

/// How registries are reached.
fn describe_registries(info: &mut Info, options: &RegistryOptions) {
    let index = |name: &str, mirrors: &[String], official| IndexConfig {
        name: name.to_owned(),
        mirrors: mirrors.to_vec(),
        secure: official,
        official,
    };
    let hub = "docker.io";
    let mut indexes = BTreeMap::new();
    let mut networks = Vec::new();
    for entry in &options.insecure {
        match entry {
            Insecure::Host(host) => {
                indexes.insert(host.clone(), index(host, &[], false));
            }
            Insecure::Network(network) => networks.push(network.to_string()),
        }
    }
    for own in ["::1/128", "127.0.0.0/8"] {
        if !networks.iter().any(|network| network == own) {
            networks.push(own.to_owned());
        }
    }
    // Docker Hub is never insecure, whatever is named.
    indexes.insert(hub.to_owned(), index(hub, &options.mirrors, true));
    info.registry_config = RegistryConfig {
        insecure_registry_cidrs: networks,
        index_configs: indexes,
        mirrors: Some(options.mirrors.clone()).filter(|mirrors| !mirrors.is_empty()),
    };
    info.http_proxy = gantry_registry::masked(&options.proxies.http);
    info.https_proxy = gantry_registry::masked(&options.proxies.https);
    info.no_proxy = options.proxies.none.clone();
}

/// The parts that are the same on every machine.
/// This engine's identity: made once for a data root.
pub(crate) fn identity(store: &Store) -> Result<String> {
    let database = &store.database;
    if let Some((id, _)) = database.all("engine")?.into_iter().next() {
        return Ok(id);
    }
    let hex = crate::containers::create::random_id();
    let id = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32],
    ]
    .join("-");
    database.put("engine", &id, "{}")?;
    Ok(id)
}

fn describe_engine(info: &mut Info) {
    let ours = || Commit {
        id: format!("gantry {}", version::GANTRY),
    };
    info.system_time = Timestamp::now().to_string();
    info.server_version = version::server_version();
    info.index_server_address = "https://index.docker.io/v1/".to_owned();
    info.swarm = Swarm {
        local_node_state: "inactive".to_owned(),
        ..Swarm::default()
    };
    // COMPAT: an option of Docker's; here the shims always keep the containers when the daemon ends.
    info.live_restore_enabled = true;
    info.init_binary = "docker-init".to_owned();
    info.runc_commit = ours();
    info.init_commit = ours();
    info.containerd = ContainerdInfo::default();
    info.firewall_backend = FirewallBackend {
        driver: "nftables".to_owned(),
    };
    info.os_type = "linux".to_owned();
    info.cgroup_driver = "cgroupfs".to_owned();
    info.security_options
        .insert(0, "name=seccomp,profile=builtin".to_owned());
}
