//! Which containers are served with names.

use super::names::Names;
use crate::error::{Error, Result};
use gantry_network::dns::{Handle, Resolver, Sockets};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

const CANNOT: &str = "cannot start the container's name server";

/// The book of names, and the name servers that answer from it, by container.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) names: Arc<Names>,
    resolver: Resolver,
    handles: Mutex<HashMap<String, Handle>>,
}

impl Served {
    pub(crate) fn new() -> Self {
        let names = Arc::<Names>::default();
        Self {
            resolver: Resolver::new(names.clone()),
            names,
            handles: Mutex::default(),
        }
    }

    /// Serves a container in that namespace from now on; one that is served already goes on as it is.
    pub(crate) fn begin(&self, container: &str, netns: OwnedFd) -> Result<()> {
        if self.serves(container) {
            return Ok(());
        }
        let sockets = Sockets::open(netns).map_err(|e| Error::caused(CANNOT, e))?;
        self.begin_at(container, sockets)
    }

    /// Serves a container at sockets that are open, on the runtime of the caller.
    pub(crate) fn begin_at(&self, container: &str, sockets: Sockets) -> Result<()> {
        let handle = self.resolver.serve(container, sockets);
        let handle = handle.map_err(|e| Error::caused(CANNOT, e))?;
        crate::containers::lock(&self.handles).insert(container.to_owned(), handle);
        Ok(())
    }

    /// Whether a container is served.
    pub(crate) fn serves(&self, container: &str) -> bool {
        crate::containers::lock(&self.handles).contains_key(container)
    }

    /// Serves it no more, and forgets its names.
    pub(crate) fn end(&self, container: &str) {
        self.names.forget(container);
        crate::containers::lock(&self.handles).remove(container);
    }
}
