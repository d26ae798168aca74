//! Networks: the records that say which there are. What has a record is there, or is made again by the next daemon.

pub(crate) mod names;
pub mod record;
pub(crate) mod served;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use gantry_network::network::Network;
use gantry_store::Store;
pub use record::NetworkRecord;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The kind of records in the database.
const KIND: &str = "network";
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

/// All networks on record.
#[derive(Debug)]
pub struct Networks {
    store: Arc<Store>,
    all: RwLock<BTreeMap<String, Arc<NetworkRecord>>>,
}

impl Networks {
    /// Reads the records, and makes those of the engine's own networks where they are missing.
    pub(crate) fn open(store: Arc<Store>) -> Result<Self> {
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
    pub fn delete(&self, id: &str) -> Result<()> {
        self.store.database.delete(KIND, id)?;
        self.write().remove(id);
        Ok(())
    }

    /// Says what the default bridge is this time: the daemon's flags decide at each start.
    pub(crate) fn set_bridge(&self, network: Option<Network>) -> Result<()> {
        let mut record = (*self.bridge()?).clone();
        record.network = network;
        self.insert(record)
    }
}
