//! The engine: the services and how they are opened.

use crate::containers::{Containers, recover};
use crate::context::{Context, Settings};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::images::Images;
use crate::networks::Networks;
use gantry_network::bridge::{Bridge, BridgeConfig};
use gantry_network::network::{self, Driver, GatewayMode, Network, Subnet};
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
    /// None: no default bridge (`--bridge none`).
    pub bridge: Option<BridgeConfig>,
    pub registry: RegistryOptions,
    pub store: StoreOptions,
}

/// The services.
#[derive(Debug)]
pub struct Engine {
    pub containers: Arc<Containers>,
    pub images: Arc<Images>,
    pub events: Arc<Events>,
    pub context: Arc<Context>,
}

impl Engine {
    /// Opens the store, brings the default bridge up and takes up the containers of an earlier daemon.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let EngineConfig {
            settings,
            spawner,
            bridge,
            registry,
            store,
        } = config;
        let (context, records) =
            crate::blocking(move || open_blocking(settings, spawner, bridge, registry, &store))
                .await??;
        let containers = Arc::new(Containers::new(context.clone()));
        containers.recover(records).await?;
        containers.recover_execs().await?;
        tokio::spawn(containers.clone().forget_old_execs());
        tokio::spawn(crate::containers::links::clear(context.clone()));
        Ok(Arc::new(Self {
            images: Images::new(context.clone(), containers.clone()),
            containers,
            events: context.events.clone(),
            context,
        }))
    }
}

type Opened = (Arc<Context>, Vec<crate::containers::record::Record>);

fn open_blocking(
    settings: Settings,
    spawner: Spawner,
    bridge: Option<BridgeConfig>,
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
    let (records, endpoints) = recover::read_records(&store, &settings.exec_root)?;
    let ours = bridge.as_ref().is_some_and(|b| b.existing.is_none());
    let bridge = bridge
        .map(|config| Bridge::up(config, &endpoints))
        .transpose()
        .map_err(|e| Error::caused("cannot bring the default bridge up", e))?;
    let networks = Networks::open(store.clone())?;
    let bridge_id = networks.bridge()?.id.clone();
    networks.set_bridge(
        bridge
            .as_ref()
            .map(|up| default_network(&bridge_id, up, ours)),
    )?;
    let unified_cgroup = !std::path::Path::new("/sys/fs/cgroup/memory").exists();
    let events = Arc::new(Events::new());
    let data_root = &settings.data_root;
    let volumes =
        crate::volumes::Volumes::open(data_root, store.clone(), events.clone(), &records)?;
    let context = Context {
        settings,
        store,
        spawner: Arc::new(spawner),
        bridge: bridge.map(Arc::new),
        events,
        networks,
        volumes,
        policy,
        bridge_id,
        unified_cgroup,
        registry: gantry_registry::Registry::new(registry),
        spare: crate::containers::spare::Spare::default(),
        released: crate::containers::links::Released::default(),
    };
    Ok((Arc::new(context), records))
}

/// The default bridge as a network.
fn default_network(id: &str, bridge: &Bridge, ours: bool) -> Network {
    Network {
        id: id.to_owned(),
        name: "bridge".to_owned(),
        driver: Driver::Bridge(network::Bridge {
            link: bridge.name().to_owned(),
            ours,
            icc: true,
            masquerade: true,
            host_binding: None,
            inhibit_ipv4: false,
            source: Vec::new(),
            gateway_mode_v4: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            trusted_links: Vec::new(),
        }),
        subnets: vec![Subnet {
            net: bridge.subnet().into(),
            range: None,
            gateway: Some(bridge.gateway().into()),
            default_gateway: None,
            reserved: Vec::new(),
        }],
        internal: false,
        mtu: bridge.mtu(),
    }
}
