//! Leases: what a pull, load or build puts together is not collected before it has a name.
//!
//! Each lease notes when it began, each layer when it was last found or made. Garbage is what no record uses and what
//! was not touched since the oldest lease began: old garbage goes while pulls run.

use super::Layers;
use gantry_oci::Digest;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Who holds a lease, and what was touched meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    now: u64,
    began: BTreeSet<u64>,
    touched: HashMap<Digest, u64>,
}

impl Leases {
    /// Notes that somebody was shown a layer.
    pub(crate) fn touch(&mut self, diff_id: &Digest) {
        if !self.began.is_empty() {
            self.touched.insert(diff_id.clone(), self.now);
        }
    }

    /// Whether some lease protects a layer.
    pub(crate) fn protect(&self, diff_id: &Digest) -> bool {
        let Some(oldest) = self.began.first() else {
            return false;
        };
        self.touched.get(diff_id).is_some_and(|at| at >= oldest)
    }
}

/// Keeps the layers that are found or made from its beginning on from being collected.
#[derive(Debug)]
pub struct Lease {
    layers: Arc<Layers>,
    began: u64,
}

impl Lease {
    pub(super) fn new(layers: Arc<Layers>) -> Self {
        let mut held = layers.hold();
        held.now += 1;
        let began = held.now;
        held.began.insert(began);
        drop(held);
        Self { layers, began }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.layers.hold();
        held.began.remove(&self.began);
        if held.began.is_empty() {
            held.touched.clear();
            drop(held);
            self.layers.settle();
        }
    }
}
