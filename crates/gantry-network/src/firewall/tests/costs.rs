//! What publishing costs. `cargo test --release -p gantry-network costs -- --nocapture` shows figures.
use super::*;
use crate::endpoint::PortRequest;
use crate::ports::{Placement, Ports};

const SAMPLES: u16 = 300;

#[test]
fn a_port_costs_the_same_whether_none_or_ten_thousand_are_published() {
    on_a_host(|| {
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let targets = Targets {
            v4: Some("10.1.0.2".parse().unwrap()),
            v6: Some("fd00:1::2".parse().unwrap()),
        };
        let v4 = Targets {
            v6: None,
            ..targets
        };
        // The sockets are not what is looked at, and 10,000 of them are more than a process may have.
        let crowd = |numbers: std::ops::Range<u16>| {
            let ports: Vec<_> = numbers.map(|n| port("tcp", "0.0.0.0", n)).collect();
            firewall.publish("br1", &ports, v4).unwrap();
        };
        let ports = Ports::default();
        let measure = |targets: Targets, protocol: &str| {
            let request = PortRequest {
                container_port: 80,
                protocol: protocol.into(),
                host_ip: None,
                host_ports: (0, 0),
            };
            let placement = Placement {
                targets,
                ..Placement::default()
            };
            let mut opened = Vec::new();
            let mut closed = Vec::new();
            for _ in 0..SAMPLES {
                let start = Instant::now();
                let wanted = std::slice::from_ref(&request);
                let got = ports.reserve(wanted, &placement).unwrap();
                firewall.publish("br1", &got, targets).unwrap();
                opened.push(start.elapsed());
                let start = Instant::now();
                firewall.unpublish("br1", &got, targets).unwrap();
                ports.release(&got);
                closed.push(start.elapsed());
            }
            [opened, closed].map(|mut times| {
                times.sort();
                (times[times.len() / 2], times[times.len() * 99 / 100])
            })
        };
        let fixed = || nft("-t list ruleset");
        let before = fixed();
        for (published, more) in [(0, 0..0), (1000, 1000..2000), (10_000, 2000..11_000)] {
            crowd(more);
            for (name, targets, protocol) in [
                ("tcp", v4, "tcp"),
                ("udp", v4, "udp"),
                ("tcp v4+v6", targets, "tcp"),
            ] {
                let [opened, closed] = measure(targets, protocol);
                println!(
                    "{published:>6} published, one {name:9}: publish {opened:?}, unpublish {closed:?} (median, p99)"
                );
            }
            // That is why: nothing has come that a packet would have to pass, only elements of sets.
            assert_eq!(fixed(), before);
        }
        let start = Instant::now();
        nft("flush ruleset");
        assert!(firewall.reconcile().unwrap());
        println!("10,000 ports put back after a flush: {:?}", start.elapsed());
        let there = nft("list map ip gantry-test ports");
        assert_eq!(there.matches("tcp . ").count(), 10_000);
    });
}
