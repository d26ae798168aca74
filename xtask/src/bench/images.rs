//! `cargo xtask bench --images`: pull of twelve layers and load of one, beside the peers and the floor.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::engine::Engine;
use super::floor::Floor;
use super::material::{self, LOADED, Material};
use super::memory::peak_while;
use super::table::{Samples, Table};

/// One run: how long, and the most memory.
type Run = (Duration, u64);

/// Measures both and prints the tables.
pub(crate) fn run(engines: &[Box<dyn Engine>], work: &Path, runs: usize) -> Result<()> {
    eprintln!("making the images ...");
    let material = Material::make(work)?;
    eprintln!("the floor ...");
    let floors = [
        Floor::of_pull(
            material.address(),
            material::PULLED,
            &material.blobs,
            &material.layers,
            work,
        )?,
        Floor::of_load(&material.debian, work)?,
    ];
    let mut table = Table::new(engines.iter().map(|engine| engine.name()).collect());
    let name = material.pulled();
    let mebi = |bytes: u64| bytes / 1_000_000;
    let pull = format!(
        "pull of {} layers, {} MB ({} MB compressed)",
        material.layers.len(),
        mebi(floors[0].plain),
        mebi(floors[0].compressed)
    );
    let load = format!("load of one layer, {} MB", mebi(floors[1].plain));
    let mut pulls: Vec<Vec<Run>> = vec![Vec::new(); engines.len()];
    let mut loads = pulls.clone();
    for round in 1..=runs {
        for (number, engine) in engines.iter().enumerate() {
            eprintln!("{}, round {round} ...", engine.name());
            let mut words = vec!["pull"];
            words.extend(engine.plain_http());
            words.push(&name);
            pulls[number].push(one(engine.as_ref(), &words, None, &name)?);
            let archive = Some(material.archive.as_path());
            loads[number].push(one(engine.as_ref(), &["load"], archive, LOADED)?);
        }
    }
    for (title, runs, floor) in [(&pull, pulls, &floors[0]), (&load, loads, &floors[1])] {
        let medians: Vec<f64> = runs.iter().map(|runs| median(runs)).collect();
        let floor = floor.shared().as_secs_f64();
        let samples = runs.iter().map(|runs| {
            let times = runs.iter().map(|(time, _)| *time);
            Some(Samples::new(times.collect()))
        });
        table.times(title, samples.collect());
        let ratio = |to: f64| medians.iter().map(|m| Some(m / to)).collect();
        table.amounts("  of Gantry's time", "times", ratio(medians[0]));
        table.amounts("  of the floor", "times", ratio(floor));
        let most = runs
            .iter()
            .map(|runs| runs.iter().map(|(_, peak)| *peak).max());
        let most = most.map(|peak| peak.filter(|p| *p > 0).map(|p| p as f64 / 1e6));
        table.amounts("  peak memory", "MB", most.collect());
    }
    println!("{table}");
    for (title, floor) in [pull, load].iter().zip(&floors) {
        println!("floor of the {title}:");
        for (step, time) in &floor.steps {
            println!("  {step:<34} {:>8.1} ms", time.as_secs_f64() * 1e3);
        }
        println!(
            "  {:<34} {:>8.1} ms",
            "all",
            floor.sum().as_secs_f64() * 1e3
        );
        let shared = floor.shared().as_secs_f64() * 1e3;
        println!("  {:<34} {shared:>8.1} ms\n", "all, on all processors");
    }
    Ok(())
}

fn median(runs: &[Run]) -> f64 {
    let mut times: Vec<Duration> = runs.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    let middle = times.get(times.len().saturating_sub(1) / 2);
    middle.copied().unwrap_or_default().as_secs_f64()
}

/// One pull or load from nothing, and the image's removal.
fn one(engine: &dyn Engine, words: &[&str], input: Option<&Path>, image: &str) -> Result<Run> {
    engine.client(&["rmi", "-f", image]).output().ok();
    // What others have written is not to be waited for in this one's time.
    rustix::fs::sync();
    let client = AtomicU64::new(0);
    let belongs = |program: &Path| engine.owns(program);
    let (time, peak) = peak_while(&belongs, &client, || -> Result<Duration> {
        let mut command: Command = engine.client(words);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        match input {
            Some(file) => command.stdin(File::open(file)?),
            None => command.stdin(Stdio::null()),
        };
        let start = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {command:?}"))?;
        if engine.has_daemon() {
            client.store(child.id().into(), Ordering::Relaxed);
        }
        let output = child.wait_with_output()?;
        let time = start.elapsed();
        if !output.status.success() {
            bail!(
                "{}: {}",
                engine.name(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(time)
    });
    let time = time?;
    let removed = engine.client(&["rmi", "-f", image]).output()?;
    if !removed.status.success() {
        bail!(
            "{} has no {image} after {}: {}",
            engine.name(),
            words.join(" "),
            String::from_utf8_lossy(&removed.stderr).trim()
        );
    }
    Ok((time, peak))
}
