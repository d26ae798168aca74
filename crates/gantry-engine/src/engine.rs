//! The engine: the services and how they are opened.

use crate::containers::{Containers, recover};
use crate::context::{Context, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::images::Images;
use crate::networks::{NetworkOptions, NetworkService, Networks};
use gantry_network::endpoint::Endpoint;
use gantry_network::plane::{BridgeConfig, Plane, PlaneOptions};
use gantry_registry::RegistryOptions;
use gantry_runtime::spawn::Spawner;
use gantry_store::{Options as StoreOptions, Store};
use std::sync::Arc;

/// What the daemon opens an engine with.
#[derive(Debug)]
pub struct EngineConfig {
    pub settings: Settings,
    /// Launched before any thread, see `gantry_runtime::spawn`.
    pub spawner: Spawner,
    pub networks: NetworkOptions,
    pub registry: RegistryOptions,
    pub store: StoreOptions,
}

/// The services.
#[derive(Debug)]
pub struct Engine {
    pub containers: Arc<Containers>,
    pub images: Arc<Images>,
    pub networks: NetworkService,
    pub events: Arc<Events>,
    pub context: Arc<Context>,
}

impl Engine {
    /// Opens the store, brings the default bridge up and takes up the containers of an earlier daemon.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let EngineConfig {
            settings,
            spawner,
            networks,
            registry,
            store,
        } = config;
        let opened =
            crate::blocking(move || open_blocking(settings, spawner, networks, registry, &store));
        let (context, records, runs) = opened.await??;
        let containers = Arc::new(Containers::new(context.clone()));
        containers.recover(records, runs).await?;
        containers.recover_execs().await?;
        tokio::spawn(containers.clone().forget_old_execs());
        tokio::spawn(crate::containers::links::clear(context.clone()));
        Ok(Arc::new(Self {
            networks: NetworkService::new(context.clone(), containers.clone()),
            images: Images::new(context.clone(), containers.clone()),
            containers,
            events: context.events.clone(),
            context,
        }))
    }
}

type Opened = (
    Arc<Context>,
    Vec<crate::containers::record::Record>,
    recover::Runs,
);

fn open_blocking(
    settings: Settings,
    spawner: Spawner,
    network_options: NetworkOptions,
    registry: RegistryOptions,
    store: &StoreOptions,
) -> Result<Opened> {
    for dir in [
        settings.data_root.join("containers"),
        settings.exec_root.join("c"),
    ] {
        std::fs::create_dir_all(&dir)
            .map_err(|e| Error::caused(&format!("cannot make {}", dir.display()), e))?;
    }
    let policy = crate::images::policy::Policy::open(settings.image_policy.clone())?;
    let store = Arc::new(Store::open_with(&settings.data_root, store)?);
    let mut records = recover::read_records(&store)?;
    let runs = recover::find_runs(&records, &settings.exec_root);
    let host = crate::system::identity(&store)?;
    let NetworkOptions {
        bridge,
        plane: plane_options,
        ..
    } = network_options.clone();
    let networks = Networks::open(store.clone(), network_options, &host)?;
    let endpoints = recover::take_endpoints(&mut records, &runs, &networks, &settings.exec_root);
    let plane = open_plane(&networks, bridge, &plane_options, &endpoints)?;
    let unified_cgroup = !std::path::Path::new("/sys/fs/cgroup/memory").exists();
    let events = Arc::new(Events::new());
    let data_root = &settings.data_root;
    let volumes =
        crate::volumes::Volumes::open(data_root, store.clone(), events.clone(), &records)?;
    let context = Context {
        settings,
        store,
        spawner: Arc::new(spawner),
        plane: Arc::new(plane),
        events,
        networks,
        volumes,
        policy,
        unified_cgroup,
        registry: gantry_registry::Registry::new(registry),
        spare: crate::containers::spare::Spare::default(),
        served: crate::networks::served::Served::new(),
        released: crate::containers::links::Released::default(),
    };
    Ok((Arc::new(context), records, runs))
}

/// Brings all networks up. The default bridge has to be there; what is wrong with others is their users' to see.
fn open_plane(
    networks: &Networks,
    bridge: Option<BridgeConfig>,
    options: &PlaneOptions,
    endpoints: &[Endpoint],
) -> Result<Plane> {
    let before = networks.bridge()?;
    let not_up = |e| Error::caused("cannot bring the default bridge up", e);
    let runs = endpoints.iter().any(|e| e.network == before.id);
    networks.set_bridge(bridge.as_ref(), options, runs)?;
    let all: Vec<_> = networks
        .all()
        .iter()
        .filter_map(|record| record.network.clone())
        .collect();
    let (plane, fallen) = Plane::open(options, &all, endpoints)
        .map_err(|e| Error::caused("cannot bring the networks up", e))?;
    for (id, error) in fallen {
        if id == before.id {
            return Err(not_up(error));
        }
        tracing::error!(network = id, %error, "a network cannot be brought up");
    }
    Ok(plane)
}
