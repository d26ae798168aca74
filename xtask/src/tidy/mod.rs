//! The house's rules, where a machine can hold them.

mod files;
mod graph;
mod licences;
mod metadata;

use anyhow::{Result, bail};

/// Prints each broken rule; an error where there is one.
pub(crate) fn run(_args: &[String]) -> Result<()> {
    let metadata = metadata::read()?;
    let mut faults = graph::check(&metadata);
    faults.extend(licences::check(&metadata, &crate::binary::root())?);
    faults.extend(files::check(&crate::binary::root())?);
    for fault in &faults {
        println!("tidy: {fault}");
    }
    if !faults.is_empty() {
        bail!("{} faults", faults.len());
    }
    println!(
        "tidy: {} packages, nothing to complain about",
        metadata.packages.len()
    );
    Ok(())
}
