use super::live_ports::PortChange;
use super::*;
use gantry_api::container::{EndpointIpam, PortBinding, PortMap};
use gantry_api::network::IpamConfig;
use gantry_network::endpoint::PortRequest;

fn candidate(name: &str, priority: i64) -> Candidate<'_> {
    Candidate {
        name,
        priority,
        internal: false,
        v4: true,
        v6: false,
    }
}

#[test]
fn default_routes_go_by_priority_then_name() {
    let v4 = |candidates: &[Candidate<'_>]| gateways(candidates).v4;
    assert_eq!(v4(&[]), None);
    assert_eq!(v4(&[candidate("b", 0), candidate("a", 0)]), Some(1));
    assert_eq!(v4(&[candidate("b", 1), candidate("a", 0)]), Some(0));
    assert_eq!(v4(&[candidate("b", 0), candidate("a", -1)]), Some(0));
    let internal = |name| Candidate {
        internal: true,
        ..candidate(name, 5)
    };
    assert_eq!(v4(&[internal("a"), candidate("b", 0)]), Some(1));
    assert_eq!(v4(&[internal("a")]), None);
    let only_v6 = Candidate {
        v4: false,
        v6: true,
        ..candidate("a", 9)
    };
    let both = gateways(&[candidate("b", 0), only_v6]);
    assert_eq!((both.v4, both.v6), (Some(0), Some(1)));
    assert!(both.publishes(0) && !both.publishes(1));
}

#[test]
fn ports_as_they_are_written() {
    let parse = |port: &str, ip: &str, host: &str| {
        let binding = PortBinding {
            host_ip: ip.into(),
            host_port: host.into(),
        };
        ports::request(port, &binding)
    };
    let want = |protocol: &str, ip: Option<&str>, host_ports| PortRequest {
        container_port: 80,
        protocol: protocol.into(),
        host_ip: ip.map(|ip| ip.parse().unwrap()),
        host_ports,
    };
    assert_eq!(parse("80", "", "").unwrap(), want("tcp", None, (0, 0)));
    assert_eq!(
        parse("80/udp", "::1", "8080").unwrap(),
        want("udp", Some("::1"), (8080, 8080))
    );
    assert_eq!(
        parse("80/sctp", "127.0.0.1", "8000-8010").unwrap(),
        want("sctp", Some("127.0.0.1"), (8000, 8010))
    );
    for (port, ip, host) in [
        ("x", "", ""),
        ("80", "a", ""),
        ("80", "", "b"),
        ("80", "", "9-8"),
        ("80", "", "70000"),
    ] {
        assert!(parse(port, ip, host).is_err(), "{port} {ip} {host}");
    }
}

fn endpoint(link: &str) -> Endpoint {
    Endpoint {
        id: String::new(),
        network: String::new(),
        host_link: String::new(),
        link: link.into(),
        v4: None,
        v6: None,
        gateway_v4: None,
        gateway_v6: None,
        mac: String::new(),
        ports: Vec::new(),
    }
}

fn network(name: &str, subnets: &[&str]) -> Arc<NetworkRecord> {
    let mut record = NetworkRecord::new("f".repeat(64), name, "bridge");
    let config = |subnet: &&str| IpamConfig {
        subnet: (*subnet).to_owned(),
        ..IpamConfig::default()
    };
    record.ipam.config = Some(subnets.iter().map(config).collect());
    Arc::new(record)
}

#[test]
fn what_is_asked_for_on_a_network() {
    let asking = |v4: &str, aliases: &[&str]| EndpointSettings {
        ipam_config: Some(EndpointIpam {
            ipv4_address: v4.into(),
            ..EndpointIpam::default()
        }),
        aliases: Some(aliases.iter().map(|a| (*a).to_owned()).collect()),
        ..EndpointSettings::default()
    };
    let words = |network: &NetworkRecord, settings: &EndpointSettings| {
        let refused = validate::against(network, settings).err();
        refused.map(|error| error.message).unwrap_or_default()
    };
    let own = network("mine", &["10.1.0.0/24"]);
    assert_eq!(words(&own, &asking("10.1.0.7", &["a"])), "");
    let foreign = words(&own, &asking("10.2.0.7", &[]));
    assert_eq!(
        foreign,
        "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.2.0.7"
    );
    let chosen = words(&network("mine", &[]), &asking("10.1.0.7", &[]));
    assert!(chosen.ends_with("only when connecting to networks with user configured subnets"));
    let bad = words(&own, &asking("10.1.0", &[]));
    let none = "no configured subnet or ip-range contain the IP address 10.1.0";
    let lines = ["invalid IPv4 address: 10.1.0", none].map(|line| format!("* {line}"));
    assert!(bad.ends_with(&lines.join("\n")), "{bad}");
    let bridge = words(&network("bridge", &[]), &asking("10.1.0.7", &["a"]));
    assert_eq!(bridge.lines().count(), 4, "{bridge}");
    let mac = |text: &str| EndpointSettings {
        mac_address: text.into(),
        ..EndpointSettings::default()
    };
    assert_eq!(words(&own, &mac("02:42:ac-11:00:02")), "");
    assert_eq!(
        words(&own, &mac("02:42:zz")),
        "invalid MAC address 02:42:zz"
    );
    let mut configuration = (*own).clone();
    configuration.config_only = true;
    assert_eq!(
        words(&configuration, &asking("", &[])),
        "cannot create endpoint on configuration-only network"
    );
    let at_create = validate::at_create("mine", Some(&own), &asking("x", &[])).unwrap_err();
    let prefix = "invalid config for network mine: invalid endpoint settings:\n* ";
    assert!(at_create.message.starts_with(prefix), "{at_create}");
}

#[test]
fn which_ports_go_and_come() {
    let published = |host_ip: &str, host_port| gantry_network::endpoint::PublishedPort {
        container_port: 80,
        protocol: "tcp".into(),
        host_ip: host_ip.parse().unwrap(),
        host_port,
    };
    let map = |hosts: &[&str]| -> PortMap {
        let bindings = hosts.iter().map(|host| PortBinding {
            host_ip: String::new(),
            host_port: (*host).to_owned(),
        });
        [("80/tcp".to_owned(), Some(bindings.collect()))].into()
    };
    let record = |hosts: &[&str]| {
        let mut record = crate::containers::record::tests::record();
        record.host_config.port_bindings = Some(map(hosts));
        let both = |port| [published("0.0.0.0", port), published("::", port)];
        record.endpoints = vec![Endpoint {
            ports: [both(8080), both(49153), both(49154), both(8101)].concat(),
            ..endpoint("eth0")
        }];
        record
    };
    let numbers = |after: &[&str], asked: &[&str]| {
        let before = record(&["8080", "", "", "8100-8110"]);
        let change = PortChange::between(&before, &record(after), &map(asked)).unwrap();
        let going: Vec<u16> = change.going.iter().map(|port| port.host_port).collect();
        let coming: Vec<_> = change.coming.iter().map(|port| port.host_ports).collect();
        (going, coming)
    };
    let all = &["8080", "", "", "8100-8110"];
    assert_eq!(numbers(all, &[]), (vec![], vec![]));
    let went = (vec![8080, 8080], vec![]);
    assert_eq!(numbers(&["", "", "8100-8110"], &["8080"]), went);
    let went = (vec![49154, 49154], vec![]);
    assert_eq!(numbers(&["8080", "", "8100-8110"], &["49154"]), went);
    let went = (vec![8101, 8101], vec![(9000, 9000)]);
    assert_eq!(numbers(&["8080", "", "", "9000"], &["8101"]), went);
}

#[test]
fn links_get_the_first_free_name() {
    let wanted = |option: Option<&str>| Wanted {
        network: network("mine", &[]),
        settings: EndpointSettings {
            driver_opts: option.map(|name| {
                [(
                    "com.docker.network.endpoint.ifname".to_owned(),
                    name.to_owned(),
                )]
                .into()
            }),
            ..EndpointSettings::default()
        },
    };
    assert_eq!(request::link_name(&wanted(None), &[]), "eth0");
    let there = [endpoint("eth0"), endpoint("eth2")];
    assert_eq!(request::link_name(&wanted(None), &there), "eth1");
    assert_eq!(request::link_name(&wanted(Some("lan0")), &there), "lan0");
}
