//! How long it takes to make a sandbox, attach it and release it: `cargo run --release --example attach_timing [ROUNDS]`,
//! as root. Everything happens in a network namespace of its own; the machine's network is not touched.
//!
//! First with a pause after each round, then without: there the kernel still clears away the namespaces of earlier
//! rounds, and holds its lock for network devices meanwhile.
#![expect(clippy::unwrap_used, reason = "a measurement that fails should stop")]

use gantry_network::endpoint::{Endpoint, EndpointRequest, Families, PortRequest};
use gantry_network::plane::{
    BridgeConfig, FirewallOptions, Neighbours, Plane, PlaneOptions, default_bridge,
};
use gantry_network::pools::Pools;
use gantry_network::sandbox::Sandbox;
use rustix::thread::UnshareFlags;
use std::time::{Duration, Instant};

const NETWORK: &str = "bridge";
const ROUNDS: usize = 100;
const CROWD: u16 = 200;
const PORTS_EACH: u16 = 5;
/// Longer than the kernel takes to clear away a namespace.
const PAUSE: Duration = Duration::from_millis(60);

#[derive(Debug, Default)]
struct Samples {
    name: &'static str,
    times: Vec<Duration>,
}

impl Samples {
    fn new(name: &'static str) -> Self {
        let times = Vec::new();
        Self { name, times }
    }

    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.times.push(start.elapsed());
        result
    }

    fn print(mut self) {
        self.times.sort();
        let at = |share: usize| self.times[(self.times.len() - 1) * share / 100].as_micros();
        println!("{:28} {:>8} {:>8} {:>8}", self.name, at(0), at(50), at(99));
    }
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(ROUNDS, |n| n.parse().unwrap());
    // SAFETY: the program has one thread, and only its network namespace changes.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    let options = PlaneOptions {
        firewall: FirewallOptions {
            table: "timing".into(),
            v4: true,
            v6: true,
            ..FirewallOptions::default()
        },
        forwarding: true,
        proxy: None,
    };
    let mut up = Samples::new("bridge up");
    let bridge = up.time(|| {
        let pools = Pools::new(&[], "timing");
        let neighbours = Neighbours {
            before: None,
            pools: &pools,
            others: &[],
        };
        let config = BridgeConfig::default();
        let network = default_bridge(&config, &options, NETWORK, &neighbours).unwrap();
        Plane::open(&options, &[network], &[]).unwrap().0
    });
    println!(
        "{:28} {:>8} {:>8} {:>8}",
        "microseconds", "least", "median", "p99"
    );
    let plain = EndpointRequest::default();
    let port = PortRequest {
        container_port: 80,
        protocol: "tcp".into(),
        host_ip: None,
        host_ports: (0, 0),
    };
    let published = EndpointRequest {
        ports: vec![port],
        ..EndpointRequest::default()
    };
    up.print();
    let compare = |pause: Duration, rounds| {
        println!("pause after each round: {pause:?}");
        measure(&bridge, pause, rounds, ["attach", "release"], &plain);
        let names = ["attach, one port", "release, one port"];
        measure(&bridge, pause, rounds, names, &published);
    };
    compare(PAUSE, rounds);
    compare(Duration::ZERO, 5 * rounds);
    let crowd: Vec<_> = (0..CROWD).map(|n| busy_container(&bridge, n)).collect();
    println!("{CROWD} containers with {PORTS_EACH} ports each stand by");
    compare(PAUSE, rounds);
    drop(crowd);
}

fn attach(plane: &Plane, id: &str, sandbox: &Sandbox, request: &EndpointRequest) -> Endpoint {
    let request = EndpointRequest {
        id: id.into(),
        container: id.into(),
        link: "eth0".into(),
        default_routes: Families { v4: true, v6: true },
        ..request.clone()
    };
    plane.attach(NETWORK, sandbox, &request).unwrap()
}

fn busy_container(bridge: &Plane, number: u16) -> Sandbox {
    let sandbox = Sandbox::new().unwrap();
    let port = |port| {
        let host_port = 1024 + number * PORTS_EACH + port;
        PortRequest {
            container_port: port,
            protocol: "tcp".into(),
            host_ip: None,
            host_ports: (host_port, host_port),
        }
    };
    let request = EndpointRequest {
        ports: (0..PORTS_EACH).map(port).collect(),
        ..EndpointRequest::default()
    };
    let id = format!("crowd{number:03}");
    attach(bridge, &id, &sandbox, &request);
    sandbox
}

fn measure(
    bridge: &Plane,
    pause: Duration,
    rounds: usize,
    [attaching, releasing]: [&'static str; 2],
    request: &EndpointRequest,
) {
    let mut made = Samples::new("sandbox");
    let mut attached = Samples::new(attaching);
    let mut released = Samples::new(releasing);
    let mut closed = Samples::new("sandbox closed");
    for round in 0..rounds {
        let id = format!("{round:08x}");
        let sandbox = made.time(|| Sandbox::new().unwrap());
        let endpoint = attached.time(|| attach(bridge, &id, &sandbox, request));
        released.time(|| bridge.release(&endpoint).unwrap());
        closed.time(|| drop(sandbox));
        std::thread::sleep(pause);
    }
    for samples in [made, attached, released, closed] {
        samples.print();
    }
}
