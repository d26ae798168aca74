//! The routes, a file for each noun: each parses its request, asks the engine, and writes the answer.

mod builds;
mod containers;
mod events;
mod exec;
mod files;
mod images;
mod networks;
mod processes;
mod registry;
mod streams;
mod swarm;
mod system;
mod volumes;

use crate::call;
use crate::router::Route;
use gantry_engine::Engine;

/// A request to the engine.
type Call = call::Call<Engine>;

/// Every route of the API.
pub(crate) fn all() -> Vec<Route<Engine>> {
    let mut routes = system::routes();
    routes.extend(containers::routes());
    routes.extend(streams::routes());
    routes.extend(exec::routes());
    routes.extend(processes::routes());
    routes.extend(files::routes());
    routes.extend(registry::routes());
    routes.extend(images::routes());
    routes.extend(events::routes());
    routes.extend(swarm::routes());
    routes.extend(volumes::routes());
    routes.extend(networks::routes());
    routes.extend(builds::routes());
    routes
}
