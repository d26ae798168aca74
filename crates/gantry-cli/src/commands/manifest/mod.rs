//! `gantry manifest ...`: lists of manifests, made here and pushed to a registry without the daemon.

pub(super) mod annotate;
pub(super) mod create;
pub(super) mod inspect;
mod list;
pub(super) mod push;
mod remote;
pub(super) mod rm;
mod store;

use gantry_oci::Reference;

use crate::cx::Cx;
use crate::failure::Failure;
use store::Store;

/// The group's description.
pub(crate) fn description(program: &str) -> String {
    format!(
        "The **{program} manifest** command has subcommands for managing image manifests and\n\
         manifest lists. A manifest list allows you to use one name to refer to the same image\n\
         built for multiple architectures.\n\n\
         To see help for a subcommand, use:\n\n    \
             {program} manifest CMD --help\n\n\
         For full details on using {program} manifest lists, see the registry v2 specification.\n\n{}",
        experimental(&format!("{program} manifest"))
    )
}

/// What the help of each of these commands says.
pub(crate) fn experimental(command: &str) -> String {
    format!(
        "EXPERIMENTAL:\n  \
           {command} is an experimental feature.\n  \
           Experimental features provide early access to product functionality. These\n  \
           features may change between releases without warning, or can be removed from a\n  \
           future release. Learn more about experimental features in our documentation:\n  \
           https://docs.docker.com/go/experimental/"
    )
}

/// A name with a tag or a digest.
fn named(text: &str) -> Result<Reference, Failure> {
    let name = Reference::parse(text).map_err(|error| Failure::new(error.to_string()))?;
    Ok(name.or_latest())
}

fn store(cx: &Cx) -> Store {
    Store::new(cx.config_dir().join("manifests"))
}
