//! Networks: the records that say which there are. What has a record is there, or is made again by the next daemon.

mod create;
mod ipam;
pub(crate) mod names;
mod options;
mod predefined;
pub mod record;
pub(crate) mod served;
mod service;

#[cfg(test)]
mod tests;

use crate::context::Context;
use crate::error::{Error, Result};
use gantry_api::container::Map;
use gantry_network::network::Network;
use gantry_network::plane::{BridgeConfig, PlaneOptions};
use gantry_network::pools::{Pool, Pools};
use gantry_store::Store;
pub use record::NetworkRecord;
pub use service::{ListOptions, NetworkService};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The kind of records in the database.
const KIND: &str = "network";
/// Drivers that are known, whether or not the kernel has what they need.
pub(crate) const DRIVERS: [&str; 5] = ["bridge", "host", "ipvlan", "macvlan", "null"];
/// The engine's own networks and their drivers.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// Whether a name belongs to the engine's own networks, whatever there is under it.
pub(crate) fn is_predefined(name: &str) -> bool {
    name == "default" || PREDEFINED.iter().any(|(own, _)| *own == name)
}

/// Docker's words for a network that is not there.
pub(crate) fn missing(text: &str) -> Error {
    Error::not_found(format!("network {text} not found"))
}

/// Makes a network in the kernel.
fn plug(context: &Context, network: &Network) -> Result<()> {
    let name = &network.name;
    context
        .plane
        .add(network)
        .map_err(|e| Error::caused(&format!("cannot make network {name}"), e))
}

/// Takes a network out of the kernel.
fn unplug(context: &Context, id: &str) -> Result<()> {
    let done = context.plane.remove(id);
    done.map_err(|e| Error::caused("error while removing network", e))
}

/// The daemon's settings about networks.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// None: no default bridge (`--bridge none`).
    pub bridge: Option<BridgeConfig>,
    pub plane: PlaneOptions,
    /// `--default-address-pool`; none: Docker's.
    pub pools: Vec<Pool>,
    /// `--default-network-opt`: options for each driver.
    pub defaults: BTreeMap<String, Map>,
}

/// All networks on record.
#[derive(Debug)]
pub struct Networks {
    store: Arc<Store>,
    /// Where subnets come from.
    pools: Pools,
    /// `--default-address-pool`
    pub(crate) given_pools: Vec<Pool>,
    /// `--default-network-opt`: for each driver.
    default_options: BTreeMap<String, Map>,
    /// Held by who makes or removes a network: names and subnets are given once.
    changing: Mutex<()>,
    all: RwLock<BTreeMap<String, Arc<NetworkRecord>>>,
}

impl Networks {
    /// Reads the records, and makes those of the engine's own networks where they are missing. `host` is the engine's
    /// identity.
    pub(crate) fn open(store: Arc<Store>, options: NetworkOptions, host: &str) -> Result<Self> {
        let mut all = BTreeMap::new();
        // Earlier versions wrote the default bridge's name and no more.
        let mut bare = None;
        for (id, json) in store.database.all(KIND)? {
            match serde_json::from_str::<NetworkRecord>(&json) {
                Ok(record) => {
                    all.insert(id, Arc::new(record));
                }
                Err(_) if json == "{\"name\":\"bridge\"}" => bare = Some(id),
                Err(error) => {
                    tracing::error!(network = id, %error, "a network's record cannot be read");
                }
            }
        }
        let networks = Self {
            store,
            pools: Pools::new(&options.pools, host),
            given_pools: options.pools,
            default_options: options.defaults,
            changing: Mutex::default(),
            all: RwLock::new(all),
        };
        for (name, driver) in PREDEFINED {
            if networks.named(name).is_none() {
                let id = bare.take().filter(|_| name == "bridge");
                let id = id.unwrap_or_else(crate::containers::create::random_id);
                networks.insert(NetworkRecord::new(id, name, driver))?;
            }
        }
        Ok(networks)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<NetworkRecord>>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Arc<NetworkRecord>>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network of that full ID.
    pub fn get(&self, id: &str) -> Option<Arc<NetworkRecord>> {
        self.read().get(id).cloned()
    }

    /// The network of that name.
    pub fn named(&self, name: &str) -> Option<Arc<NetworkRecord>> {
        self.read().values().find(|one| one.name == name).cloned()
    }

    /// The default bridge; its `network` is none with `--bridge none`.
    pub fn bridge(&self) -> Result<Arc<NetworkRecord>> {
        self.named("bridge").ok_or_else(|| missing("bridge"))
    }

    /// Finds by full ID, by name, or by a prefix of the ID that is not ambiguous.
    pub fn find(&self, text: &str) -> Result<Arc<NetworkRecord>> {
        let all = self.read();
        if let Some(network) = all.get(text) {
            return Ok(network.clone());
        }
        if let Some(network) = all.values().find(|one| one.name == text) {
            return Ok(network.clone());
        }
        let starting: Vec<_> = all
            .range(text.to_owned()..)
            .take_while(|(id, _)| id.starts_with(text))
            .collect();
        match starting.as_slice() {
            [] => Err(missing(text)),
            [(_, one)] => Ok((*one).clone()),
            several => Err(Error::invalid(format!(
                "network {text} is ambiguous ({} matches found based on ID prefix)",
                several.len()
            ))),
        }
    }

    /// Every network, by ID.
    pub fn all(&self) -> Vec<Arc<NetworkRecord>> {
        self.read().values().cloned().collect()
    }

    /// Writes a record, new or changed.
    pub(crate) fn insert(&self, record: NetworkRecord) -> Result<()> {
        let json = serde_json::to_string(&record)
            .map_err(|e| Error::caused("cannot encode the network's record", e))?;
        self.store.database.put(KIND, &record.id, &json)?;
        self.write().insert(record.id.clone(), Arc::new(record));
        Ok(())
    }

    /// Takes a record away; fine when there is none.
    pub(crate) fn delete(&self, id: &str) -> Result<()> {
        self.store.database.delete(KIND, id)?;
        self.write().remove(id);
        Ok(())
    }
}
