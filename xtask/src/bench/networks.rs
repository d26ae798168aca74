//! `cargo xtask bench --networks`: what a network costs a start, what a published port costs, and what goes through both.
//!
//! Traffic is made by programs of the machine within containers' network namespaces (iperf3, and a loop of our own that
//! asks and answers), so that it is the same for all engines; the outside is a namespace with a link to the machine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::engine::{self, Engine, IMAGE};
use super::table::{Samples, Table};
use super::traffic::{Place, latency, throughput};

/// The network that each engine makes.
const NETWORK: &str = "gantry-bench-net";
/// Containers that others are reached in, and by.
const SERVER: &str = "gantry-bench-server";
const CLIENT: &str = "gantry-bench-client";
/// Ports of one start, for what one of them costs.
const PORTS: usize = 50;
/// Ports that are published all the time in the second round.
const CROWD_OF_PORTS: usize = 1000;

/// Measures and prints the table.
pub(super) fn run(engines: &[Box<dyn Engine>], runs: usize, crowd: usize) -> Result<()> {
    let mut table = Table::new(engines.iter().map(|engine| engine.name()).collect());
    let made: Result<()> = engines
        .iter()
        .try_for_each(|of| engine::output(of.client(&["network", "create", NETWORK])).map(drop));
    let measured = made.and_then(|()| {
        eprintln!("starts ...");
        starts(&mut table, engines, runs, "")?;
        eprintln!("traffic ...");
        traffic(&mut table, engines)?;
        eprintln!("{crowd} containers ...");
        crowded(&mut table, engines, runs, crowd)?;
        eprintln!("{CROWD_OF_PORTS} ports ...");
        many_ports(&mut table, engines, runs)
    });
    for of in engines {
        for name in [SERVER, CLIENT] {
            of.client(&["rm", "-f", name]).output().ok();
        }
        of.client(&["network", "rm", NETWORK]).output().ok();
    }
    measured?;
    println!("{table}");
    Ok(())
}

/// `run --rm` on each kind of network, and with ports; the engines in turn.
fn starts(table: &mut Table, engines: &[Box<dyn Engine>], runs: usize, among: &str) -> Result<()> {
    let kinds: [(&str, Vec<String>); 4] = [
        ("no network", flags(&["--network", "none"])),
        ("the default bridge", Vec::new()),
        ("a user's network", flags(&["--network", NETWORK])),
        ("the default bridge, 50 ports", ports(20_000, PORTS)),
    ];
    let mut all = Vec::new();
    for (_, flags) in &kinds {
        let mut words = vec!["run", "--rm"];
        words.extend(flags.iter().map(String::as_str));
        words.extend([IMAGE, "true"]);
        all.push(
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        );
    }
    // Kinds in turn, too: what is told is their difference.
    let mut times = vec![vec![Vec::new(); engines.len()]; kinds.len()];
    for round in 0..=runs {
        for (words, times) in all.iter().zip(&mut times) {
            for (engine, times) in engines.iter().zip(times) {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let time = engine::timed(engine.client(&words)).with_context(|| engine.name())?;
                if round > 0 {
                    times.push(time);
                }
            }
        }
    }
    // Of one round's two, so that what the machine does meanwhile falls on both.
    let less = |more: usize, less: usize, parts: f64| -> Vec<Option<f64>> {
        times[more]
            .iter()
            .zip(&times[less])
            .map(|(more, less)| Some(difference(more, less) / parts))
            .collect()
    };
    let (bridge, users) = (less(1, 0, 1.0), less(2, 0, 1.0));
    let each = less(3, 1, PORTS as f64);
    for ((kind, _), times) in kinds.iter().zip(times) {
        let samples = times.into_iter().map(|times| Some(Samples::new(times)));
        table.times(&format!("run --rm, {kind}{among}"), samples.collect());
    }
    table.fine(&format!("  of it the bridge{among}"), "ms", bridge);
    table.fine(&format!("  of it a user's network{among}"), "ms", users);
    table.fine(&format!("  of it each port{among}"), "ms", each);
    Ok(())
}

/// How much more the one takes, ms: the median over the rounds.
fn difference(more: &[Duration], less: &[Duration]) -> f64 {
    let pairs = more.iter().zip(less);
    let mut all: Vec<f64> = pairs
        .map(|(more, less)| (more.as_secs_f64() - less.as_secs_f64()) * 1e3)
        .collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

fn flags(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn ports(first: usize, count: usize) -> Vec<String> {
    let (last, inside) = (first + count - 1, 1000 + count);
    flags(&["-p", &format!("{first}-{last}:1001-{inside}")])
}

/// The same starts among many running containers on the network.
fn crowded(
    table: &mut Table,
    engines: &[Box<dyn Engine>],
    runs: usize,
    crowd: usize,
) -> Result<()> {
    let args = ["run", "-d", "--network", NETWORK, IMAGE, "sleep", "100000"];
    let mut ids = vec![Vec::new(); engines.len()];
    let started = engines.iter().zip(&mut ids).try_for_each(|(engine, ids)| {
        (0..crowd).try_for_each(|_| {
            ids.push(engine::output(engine.client(&args))?);
            Ok(())
        })
    });
    let among = format!(", among {crowd} containers");
    let measured = started.and_then(|()| starts(table, engines, runs, &among));
    for (engine, ids) in engines.iter().zip(&ids) {
        super::remove(engine.as_ref(), ids)?;
    }
    measured
}

/// The same starts while very many ports are published: Gantry alone, as others start a process or two for each.
fn many_ports(table: &mut Table, engines: &[Box<dyn Engine>], runs: usize) -> Result<()> {
    let Some(gantry) = engines.first() else {
        return Ok(());
    };
    let published = ports(21_000, CROWD_OF_PORTS);
    let mut words = vec!["run", "-d", "--name", SERVER];
    words.extend(published.iter().map(String::as_str));
    words.extend([IMAGE, "sleep", "100000"]);
    engine::output(gantry.client(&words))?;
    let mut alone = Table::new(vec![gantry.name()]);
    let among = format!(", with {CROWD_OF_PORTS} ports published");
    let measured = starts(&mut alone, &engines[..1], runs, &among);
    engine::output(gantry.client(&["rm", "-f", SERVER]))?;
    measured?;
    table.extend(alone);
    Ok(())
}

/// A namespace that plays the outside, with a link to the machine.
struct Outside(Child);

impl Outside {
    const MACHINE: &str = "198.18.251.1";

    fn new() -> Result<Self> {
        let holder = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot make a network namespace")?;
        let outside = Self(holder);
        std::thread::sleep(Duration::from_millis(200));
        let pid = outside.0.id();
        let script = format!(
            "ip link add gtybenchout type veth peer name eth0 netns {pid} && ip addr add {}/30 dev gtybenchout && \
             ip link set gtybenchout up && nsenter --net -t {pid} -- sh -c \
             'ip addr add 198.18.251.2/30 dev eth0 && ip link set eth0 up && ip link set lo up'",
            Self::MACHINE
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        engine::output(shell)?;
        Ok(outside)
    }

    fn place(&self) -> Place {
        Place::of_process(self.0.id())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What goes from container to container, and through a published port.
fn traffic(table: &mut Table, engines: &[Box<dyn Engine>]) -> Result<()> {
    const ROUNDS: usize = 9;
    let outside = Outside::new()?;
    for (number, engine) in engines.iter().enumerate() {
        let port = |base: usize| (base + number * 10).to_string();
        let publish = [
            format!("{}:5201", port(25_201)),
            format!("{}:5007", port(25_007)),
        ];
        let server = [
            "run",
            "-d",
            "--name",
            SERVER,
            "-p",
            &publish[0],
            "-p",
            &publish[1],
            IMAGE,
            "sleep",
            "100000",
        ];
        engine::output(engine.client(&server))?;
        let client = ["run", "-d", "--name", CLIENT, IMAGE, "sleep", "100000"];
        engine::output(engine.client(&client))?;
    }
    let mut speeds = vec![vec![Vec::new(); engines.len()]; 3];
    let mut times = speeds.clone();
    let mut shares = speeds.clone();
    for round in 0..ROUNDS {
        // Who comes first in a round is not always the same: the machine may get slower or faster meanwhile.
        for turn in 0..engines.len() {
            let number = (round + turn) % engines.len();
            let engine = &engines[number];
            let (server, address) = container(engine.as_ref(), SERVER)?;
            let (client, _) = container(engine.as_ref(), CLIENT)?;
            let port = |base: u16| base + number as u16 * 10;
            let ways = [
                (&client, address.as_str(), 5201, 5007),
                (
                    &outside.place(),
                    Outside::MACHINE,
                    port(25_201),
                    port(25_007),
                ),
                (&Place::machine(), "127.0.0.1", port(25_201), port(25_007)),
            ];
            for (way, (from, to, bulk, echo)) in ways.into_iter().enumerate() {
                let speed = throughput(&server, from, to, bulk)
                    .with_context(|| format!("{}: iperf3 to {to}:{bulk}", engine.name()))?;
                speeds[way][number].push(speed);
                let (median, p99) = latency(&server, from, to, echo)
                    .with_context(|| format!("{}: asking {to}:{echo}", engine.name()))?;
                times[way][number].push(median);
                shares[way][number].push(p99);
            }
        }
    }
    let names = [
        "container to container",
        "outside to a published port",
        "the machine to a port by localhost",
    ];
    let middle = |values: &Vec<Vec<f64>>| -> Vec<Option<f64>> {
        let one = |values: &Vec<f64>| {
            let mut values = values.clone();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        values.iter().map(one).collect()
    };
    for (way, name) in names.iter().enumerate() {
        table.amounts(&format!("TCP, {name}"), "Gbit/s", middle(&speeds[way]));
        let title = format!("request and response, {name}");
        table.amounts(&format!("{title}, median"), "us", middle(&times[way]));
        table.amounts(&format!("{title}, p99"), "us", middle(&shares[way]));
    }
    for engine in engines {
        engine::output(engine.client(&["rm", "-f", SERVER, CLIENT]))?;
    }
    Ok(())
}

/// Where a container is, and its address on the default bridge.
fn container(engine: &dyn Engine, name: &str) -> Result<(Place, String)> {
    let format = "{{.State.Pid}} {{.NetworkSettings.IPAddress}}";
    let said = engine::output(engine.client(&["inspect", "-f", format, name]))?;
    let (pid, address) = said.split_once(' ').context("inspect says two words")?;
    let netns = format!("/proc/{pid}/ns/net");
    Ok((Place::at(Path::new(&netns)), address.to_owned()))
}
