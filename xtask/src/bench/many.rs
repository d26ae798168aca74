//! `cargo xtask bench --many`: a start with thousands of containers and hundreds of images on record.

use std::path::Path;

use anyhow::{Result, bail};

use super::engine::{self, Engine, IMAGE};
use super::gantry::Gantry;
use super::table::{Samples, Table};

const CONTAINERS: usize = 5000;
const IMAGES: usize = 500;

/// Makes them and prints how long starts and lists take.
pub(crate) fn run(binary: &Path, work: &Path, rootfs: &Path, runs: usize) -> Result<()> {
    let mut gantry = Gantry::start(binary, work, &[])?;
    let mut table = Table::new(vec![gantry.name()]);
    let empty = gantry.restarts(runs)?.map(Samples::new);
    table.times("daemon start to first ping, nothing on record", vec![empty]);
    gantry.import(rootfs)?;
    eprintln!("{IMAGES} images and {CONTAINERS} containers ...");
    engine::output(gantry.client(&["create", "--name", "maker", IMAGE, "true"]))?;
    for number in 1..IMAGES {
        let (label, name) = (format!("LABEL n={number}"), format!("many:{number}"));
        engine::output(gantry.client(&["commit", "--change", &label, "maker", &name]))?;
    }
    for number in 1..CONTAINERS {
        let image = format!("many:{}", 1 + number % (IMAGES - 1));
        engine::output(gantry.client(&["create", "--network", "none", &image, "true"]))?;
    }
    let count = |words: &[&str]| -> Result<usize> {
        Ok(engine::output(gantry.client(words))?.lines().count())
    };
    let there = (count(&["ps", "-aq"])?, count(&["images", "-q"])?);
    if there != (CONTAINERS, IMAGES) {
        bail!("{} containers and {} images are there", there.0, there.1);
    }
    let what = format!("{CONTAINERS} containers and {IMAGES} images on record");
    let starts = gantry.restarts(runs)?.map(Samples::new);
    table.times(&format!("daemon start to first ping, {what}"), vec![starts]);
    for words in [&["ps", "-aq"][..], &["images", "-q"]] {
        let times: Result<Vec<_>> = (0..runs)
            .map(|_| engine::timed(gantry.client(words)))
            .collect();
        let title = format!("{}, {what}", words.join(" "));
        table.times(&title, vec![Some(Samples::new(times?))]);
    }
    let memory = gantry.memory()?.map(|bytes| bytes as f64 / 1e6);
    table.amounts(&format!("daemon at rest, PSS, {what}"), "MB", vec![memory]);
    println!("{table}");
    Ok(())
}
