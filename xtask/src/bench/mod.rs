//! `cargo xtask bench`: Gantry beside Docker Engine and Podman, on this machine.
//!
//! The engines take turns within each measure, so that what the machine does meanwhile falls on all alike.
//! Docker and Podman come from the tree that the peers script makes (`PEERS`, or its default folder), or
//! from the command line: `--engine docker=/usr/bin/docker`.

mod engine;
mod floor;
mod gantry;
mod images;
mod many;
mod material;
mod memory;
mod networks;
mod peers;
mod steps;
mod table;
mod traffic;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{binary, debian};
use engine::{Engine, IMAGE};
use table::{Samples, Table};

const USAGE: &str = "Usage: cargo xtask bench [OPTIONS]

  --runs N             runs of each measure for each engine (20)
  --containers N       idle containers for the memory of one (30)
  --crowd N            containers that Gantry runs at once for `ps` and the memory among many (500)
  --engine NAME=CMD    measure the engine that this client command talks to (repeatable)
  --alone              Gantry alone
  --images             instead: pull and load of images, with the floor of this machine (5 runs)
  --networks           instead: attaching, publishing and traffic (20 runs, among --crowd containers, 200)
  --many               instead: starts with 5,000 containers and 500 images on record
  --steps              instead: where the time of a start goes, step by step
  --binary FILE        measure this binary instead of building one";

struct Options {
    runs: Option<usize>,
    containers: usize,
    crowd: Option<usize>,
    engines: Vec<(String, String)>,
    alone: bool,
    steps: bool,
    images: bool,
    many: bool,
    networks: bool,
    binary: Option<PathBuf>,
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options {
        runs: None,
        containers: 30,
        crowd: None,
        engines: Vec::new(),
        alone: false,
        steps: false,
        images: false,
        many: false,
        networks: false,
        binary: None,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().context(format!("{arg} needs a value"));
        match arg.as_str() {
            "--runs" => options.runs = Some(value()?.parse::<usize>()?.max(1)),
            "--containers" => options.containers = value()?.parse::<usize>()?.max(1),
            "--crowd" => options.crowd = Some(value()?.parse::<usize>()?.max(1)),
            "--engine" => {
                let (name, command) = value()?
                    .split_once('=')
                    .context("--engine is NAME=COMMAND")?;
                options.engines.push((name.to_owned(), command.to_owned()));
            }
            "--alone" => options.alone = true,
            "--images" => options.images = true,
            "--networks" => options.networks = true,
            "--many" => options.many = true,
            "--steps" => options.steps = true,
            "--binary" => options.binary = Some(value()?.into()),
            _ => bail!("unknown option {arg}\n\n{USAGE}"),
        }
    }
    Ok(options)
}

impl Options {
    fn runs(&self) -> usize {
        self.runs.unwrap_or(if self.images { 5 } else { 20 })
    }

    fn crowd(&self) -> usize {
        self.crowd.unwrap_or(if self.networks { 200 } else { 500 })
    }
}

/// Measures and prints the table.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = options(args)?;
    debian::require_root("the bench")?;
    debian::need(&[("busybox", "busybox-static"), ("tar", "tar")])?;
    let binary = match &options.binary {
        Some(file) => file.clone(),
        None => binary::build()?,
    };
    let work = tempfile::Builder::new().prefix("gb-").tempdir()?;
    let rootfs = engine::busybox_tar(work.path())?;

    if options.steps {
        return print_steps(&binary, work.path(), &rootfs, options.runs());
    }
    if options.many {
        return many::run(&binary, work.path(), &rootfs, options.runs());
    }
    let peers = if options.alone {
        None
    } else {
        peers::Peers::find(if options.images {
            peers::NO_NETWORKS
        } else {
            &[]
        })?
    };
    let mut engines: Vec<Box<dyn Engine>> =
        vec![Box::new(gantry::Gantry::start(&binary, work.path(), &[])?)];
    for (name, command) in &options.engines {
        engines.push(Box::new(peers::Named::new(name, command)));
    }
    if let Some(peers) = &peers {
        engines.extend(peers.engines()?);
    }
    if options.images {
        debian::need(&[
            ("docker-registry", "docker-registry"),
            ("skopeo", "skopeo"),
            ("igzip", "isal"),
            ("openssl", "openssl"),
            ("debootstrap", "debootstrap"),
        ])?;
        return images::run(&engines, work.path(), options.runs());
    }
    for engine in &engines {
        engine
            .import(&rootfs)
            .with_context(|| format!("{} cannot import the image", engine.name()))?;
    }
    let result = match options.networks {
        true => {
            debian::need(&[("iperf3", "iperf3")])?;
            networks::run(&engines, options.runs(), options.crowd()).map(|()| None)
        }
        false => measure(&mut engines, &options).map(Some),
    };
    for engine in &engines {
        engine.client(&["rmi", IMAGE]).output().ok();
    }
    if let Some(table) = result? {
        println!("{table}");
    }
    Ok(())
}

const BRIDGE: &[&str] = &["run", "--rm", IMAGE, "true"];
const NO_NETWORK: &[&str] = &["run", "--rm", "--network", "none", IMAGE, "true"];

fn print_steps(
    binary: &std::path::Path,
    work: &std::path::Path,
    rootfs: &std::path::Path,
    runs: usize,
) -> Result<()> {
    let gantry = gantry::Gantry::start(binary, work, &["--trace-starts"])?;
    gantry.import(rootfs)?;
    let mut seen = 0;
    for (title, words) in [
        ("run --rm busybox true", BRIDGE),
        ("run --rm --network none busybox true", NO_NETWORK),
    ] {
        for _ in 0..runs {
            engine::timed(gantry.client(words))?;
        }
        let log = gantry.log();
        println!("{}", steps::table(title, log.get(seen..).unwrap_or("")));
        seen = log.len();
    }
    Ok(())
}

fn measure(engines: &mut [Box<dyn Engine>], options: &Options) -> Result<Table> {
    let names = engines.iter().map(|engine| engine.name()).collect();
    let mut table = Table::new(names);
    let commands: [(&str, &[&str]); 3] = [
        ("run --rm busybox true, bridge network", BRIDGE),
        ("run --rm --network none busybox true", NO_NETWORK),
        ("client alone (--version)", &["--version"]),
    ];
    for (title, words) in commands {
        eprintln!("{title} ...");
        table.times(title, alternate(engines, options.runs(), words)?);
    }
    eprintln!("exec, start and stop ...");
    table.times("exec of true", execs(engines, options.runs())?);
    table.times(
        "start, then stop by its STOPSIGNAL",
        starts_and_stops(engines, options.runs())?,
    );
    eprintln!("daemon at rest ...");
    let rest: Vec<Option<u64>> = engines
        .iter()
        .map(|engine| engine.memory())
        .collect::<Result<_>>()?;
    table.amounts("daemon at rest, PSS", "MB", scaled(&rest, 1e6));
    eprintln!("idle containers ...");
    let mut idle = Vec::new();
    for (engine, rest) in engines.iter().zip(&rest) {
        idle.push(per_container(engine.as_ref(), *rest, options.containers)?);
    }
    table.amounts("per idle container, PSS", "KB", scaled(&idle, 1e3));
    eprintln!("{} containers at once ...", options.crowd());
    // Gantry alone: the others take minutes and gigabytes for it.
    if let (Some(engine), Some(rest)) = (engines.first(), rest.first()) {
        let (ps, each) = crowd(engine.as_ref(), *rest, options)?;
        let count = options.crowd();
        let others = engines.len() - 1;
        let mut times = vec![Some(ps)];
        times.resize_with(1 + others, || None);
        table.times(&format!("ps with {count} containers running"), times);
        let mut memory = vec![each.map(|bytes| bytes as f64 / 1e3)];
        memory.resize(1 + others, None);
        table.amounts(&format!("each of {count} containers, PSS"), "KB", memory);
    }
    table.amounts(
        "programs on disk",
        "MB",
        engines
            .iter()
            .map(|engine| engine.size().map(|size| size as f64 / 1e6))
            .collect(),
    );
    eprintln!("daemon start to first ping ...");
    let mut starts = Vec::new();
    for engine in engines {
        starts.push(engine.restarts(options.runs())?.map(Samples::new));
    }
    table.times("daemon start to first ping", starts);
    Ok(table)
}

/// Times the command, the engines in turn; a first round warms up and is not counted.
fn alternate(
    engines: &[Box<dyn Engine>],
    runs: usize,
    words: &[&str],
) -> Result<Vec<Option<Samples>>> {
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); engines.len()];
    for round in 0..=runs {
        for (engine, times) in engines.iter().zip(&mut times) {
            let time = engine::timed(engine.client(words))
                .with_context(|| format!("{}: {}", engine.name(), words.join(" ")))?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    Ok(times
        .into_iter()
        .map(|times| Some(Samples::new(times)))
        .collect())
}

/// The container in which `exec` is measured.
const IDLE: &str = "gantry-bench-idle";
/// The container that is started and stopped.
const POLITE: &str = "gantry-bench-polite";

/// Times of `exec` in a running container of each engine.
fn execs(engines: &[Box<dyn Engine>], runs: usize) -> Result<Vec<Option<Samples>>> {
    let start = [
        "run",
        "-d",
        "--name",
        IDLE,
        "--network",
        "none",
        IMAGE,
        "sleep",
        "100000",
    ];
    for engine in engines {
        engine::output(engine.client(&start))?;
    }
    let times = alternate(engines, runs, &["exec", IDLE, "true"]);
    for engine in engines {
        engine::output(engine.client(&["rm", "-f", IDLE]))?;
    }
    times
}

/// Times of a start and a stop together. In between is the time that the program takes to be ready for its signal, which
/// does not count.
fn starts_and_stops(engines: &[Box<dyn Engine>], runs: usize) -> Result<Vec<Option<Samples>>> {
    let script = "trap 'exit 0' USR1; sleep 100000 & wait";
    let create = [
        "create",
        "--name",
        POLITE,
        "--network",
        "none",
        "--stop-signal",
        "USR1",
        IMAGE,
        "sh",
        "-c",
        script,
    ];
    for engine in engines {
        engine::output(engine.client(&create))?;
    }
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); engines.len()];
    for round in 0..=runs {
        for (engine, times) in engines.iter().zip(&mut times) {
            let start = engine::timed(engine.client(&["start", POLITE]))?;
            std::thread::sleep(Duration::from_millis(50));
            let stop = engine::timed(engine.client(&["stop", POLITE]))?;
            if round > 0 {
                times.push(start + stop);
            }
        }
    }
    for engine in engines {
        engine::output(engine.client(&["rm", "-f", POLITE]))?;
    }
    Ok(times.into_iter().map(|t| Some(Samples::new(t))).collect())
}

/// `ps` among many running containers, and what each of them costs.
fn crowd(
    engine: &dyn Engine,
    rest: Option<u64>,
    options: &Options,
) -> Result<(Samples, Option<u64>)> {
    let mut ids = Vec::new();
    let args = ["run", "-d", "--network", "none", IMAGE, "sleep", "100000"];
    let started: Result<()> = (0..options.crowd()).try_for_each(|_| {
        ids.push(engine::output(engine.client(&args))?);
        Ok(())
    });
    let measured = started.and_then(|()| {
        std::thread::sleep(Duration::from_secs(2));
        let memory = engine.memory()?;
        let times: Result<Vec<Duration>> = (0..options.runs())
            .map(|_| engine::timed(engine.client(&["ps"])))
            .collect();
        Ok((Samples::new(times?), memory))
    });
    remove(engine, &ids)?;
    let (ps, memory) = measured?;
    let each = memory
        .zip(rest)
        .map(|(with, rest)| with.saturating_sub(rest) / options.crowd() as u64);
    Ok((ps, each))
}

/// What one idle container costs in its supervision: all of the engine's processes, before and with containers.
fn per_container(engine: &dyn Engine, rest: Option<u64>, count: usize) -> Result<Option<u64>> {
    let Some(rest) = rest else { return Ok(None) };
    let mut ids = Vec::new();
    for _ in 0..count {
        let args = ["run", "-d", "--network", "none", IMAGE, "sleep", "1000"];
        match engine::output(engine.client(&args)) {
            Ok(id) => ids.push(id),
            Err(error) => {
                remove(engine, &ids)?;
                return Err(error);
            }
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    let with = engine.memory();
    remove(engine, &ids)?;
    Ok(with?.map(|with| with.saturating_sub(rest) / count as u64))
}

fn remove(engine: &dyn Engine, ids: &[String]) -> Result<()> {
    let mut args = vec!["rm", "-f"];
    args.extend(ids.iter().map(String::as_str));
    if !ids.is_empty() {
        engine::output(engine.client(&args))?;
    }
    Ok(())
}

fn scaled(values: &[Option<u64>], unit: f64) -> Vec<Option<f64>> {
    values
        .iter()
        .map(|value| value.map(|value| value as f64 / unit))
        .collect()
}
