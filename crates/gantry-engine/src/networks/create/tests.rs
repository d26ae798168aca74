use super::*;
use crate::networks::{NetworkOptions, Networks};
use gantry_api::container::Map;
use gantry_api::network::{ConfigReference, IpamConfig};
use gantry_store::Store;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Bench {
    networks: Networks,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let defaults = map(&[(options::MTU, "1450")]);
        let defaults = BTreeMap::from([("bridge".to_owned(), defaults)]);
        let options = NetworkOptions {
            defaults,
            ..NetworkOptions::default()
        };
        let networks = Networks::open(store, options, "host").unwrap();
        Self {
            networks,
            _dir: dir,
        }
    }

    fn make(&self, request: CreateNetwork) -> Result<NetworkRecord> {
        let record = prepare(&self.networks, request)?;
        self.networks.insert(record.clone())?;
        Ok(record)
    }

    fn refused(&self, request: CreateNetwork) -> (ErrorKind, String) {
        let error = self.make(request).unwrap_err();
        (error.kind, error.message)
    }
}

fn map(pairs: &[(&str, &str)]) -> Map {
    let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(own).collect()
}

fn request(name: &str) -> CreateNetwork {
    CreateNetwork {
        name: name.to_owned(),
        ..CreateNetwork::default()
    }
}

fn with_subnets(name: &str, subnets: &[&str]) -> CreateNetwork {
    let configs = subnets.iter().map(|subnet| IpamConfig {
        subnet: (*subnet).to_owned(),
        ..IpamConfig::default()
    });
    CreateNetwork {
        ipam: Some(Ipam {
            config: Some(configs.collect()),
            ..Ipam::default()
        }),
        ..request(name)
    }
}

#[test]
fn a_plain_network_gets_a_subnet_and_the_daemons_options() {
    let bench = Bench::new();
    let one = bench.make(request("one")).unwrap();
    let two = bench.make(request("two")).unwrap();
    let net = |record: &NetworkRecord| record.network.as_ref().unwrap().subnets[0].net;
    assert_ne!(net(&one), net(&two));
    assert_eq!(one.network.as_ref().unwrap().mtu, 1450);
    let shown = one.show();
    assert_eq!(shown.options, map(&[(options::MTU, "1450")]));
    assert_eq!(shown.driver, "bridge");
    let config = &shown.ipam.config.unwrap()[0];
    assert_eq!(config.subnet, net(&one).to_string());
    assert!(!config.gateway.is_empty());
}

#[test]
fn a_network_of_both_families() {
    let bench = Bench::new();
    let made = bench
        .make(CreateNetwork {
            enable_ipv6: Some(true),
            ..request("six")
        })
        .unwrap();
    let subnets = &made.network.as_ref().unwrap().subnets;
    assert_eq!(subnets.len(), 2);
    assert!(made.show().ipam.config.unwrap()[1].subnet.starts_with("fd"));
    let only = CreateNetwork {
        enable_ipv4: Some(false),
        enable_ipv6: Some(true),
        ..with_subnets("only", &["2001:db8::/64"])
    };
    let made = bench.make(only).unwrap();
    assert_eq!(made.network.unwrap().subnets.len(), 1);
    let none = CreateNetwork {
        enable_ipv4: Some(false),
        ..request("none-at-all")
    };
    assert_eq!(bench.refused(none).1, "IPv4 or IPv6 must be enabled");
    let odd = CreateNetwork {
        options: Some(map(&[("com.docker.network.enable_ipv6", "x")])),
        ..request("odd")
    };
    assert_eq!(
        bench.refused(odd).1,
        "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool"
    );
}

#[test]
fn what_is_refused_and_how() {
    use ErrorKind::{Conflict, Forbidden, InvalidParameter, NotFound};
    let bench = Bench::new();
    bench.make(with_subnets("one", &["10.199.0.0/24"])).unwrap();
    let driver = |driver: &str| CreateNetwork {
        driver: driver.to_owned(),
        ..request("new")
    };
    let scope = |scope: &str| CreateNetwork {
        scope: scope.to_owned(),
        ..request("new")
    };
    for (request, kind, words) in [
        (request(""), InvalidParameter, "invalid name: name is empty"),
        (
            request(" "),
            InvalidParameter,
            "invalid name: name is empty",
        ),
        (
            request("one"),
            Conflict,
            "network with name one already exists",
        ),
        (
            request("host"),
            Forbidden,
            "operation is not permitted on predefined host network ",
        ),
        (
            with_subnets("new", &["10.199.0.0/25"]),
            Forbidden,
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (
            with_subnets("new", &["10.1.0.0/24", "10.2.0.0/24"]),
            Forbidden,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            driver("nonsense"),
            NotFound,
            "plugin \"nonsense\" not found",
        ),
        (
            driver("host"),
            Forbidden,
            "only one instance of \"host\" network is allowed",
        ),
        (
            scope("swarm"),
            Forbidden,
            "cannot create a swarm scoped network when swarm is not active",
        ),
        (
            scope("moon"),
            InvalidParameter,
            "invalid scope \"moon\": networks here are of scope \"local\"",
        ),
    ] {
        assert_eq!(bench.refused(request), (kind, words.to_owned()));
    }
    assert!(
        bench
            .refused(driver("overlay"))
            .1
            .starts_with("This node is not a swarm manager.")
    );
}

#[test]
fn configurations_are_taken_over() {
    let bench = Bench::new();
    let configuration = CreateNetwork {
        config_only: true,
        labels: Some(map(&[("a", "b")])),
        ..with_subnets("base", &["10.198.0.0/24"])
    };
    let kept = bench.make(configuration.clone()).unwrap();
    assert_eq!((kept.driver.as_str(), &kept.network), ("null", &None));
    let from = |name: &str| CreateNetwork {
        config_from: Some(ConfigReference {
            network: name.to_owned(),
        }),
        ..request("made")
    };
    let made = bench.make(from("base")).unwrap();
    assert_eq!(made.labels, map(&[("a", "b")]));
    assert_eq!(made.show().config_from.network, "base");
    let net = made.network.unwrap().subnets[0].net;
    assert_eq!(net.to_string(), "10.198.0.0/24");
    let again = |change: fn(&mut CreateNetwork)| {
        let mut request = CreateNetwork {
            name: "again".to_owned(),
            ..from("base")
        };
        change(&mut request);
        bench.refused(request).1
    };
    assert_eq!(
        again(|r| r.config_from.as_mut().unwrap().network = "nosuch".to_owned()),
        "configuration network \"nosuch\" does not exist"
    );
    assert_eq!(
        again(|r| r.config_only = true),
        "a configuration network cannot depend on another configuration network"
    );
    assert_eq!(
        again(|r| r.enable_ipv6 = Some(true)),
        "user specified configurations are not supported if the network depends on a configuration network"
    );
    assert_eq!(
        again(|r| r.options = Some(Map::from([("a".to_owned(), "b".to_owned())]))),
        "network driver options are not supported if the network depends on a configuration network"
    );
    let operated = CreateNetwork {
        internal: true,
        name: "other".to_owned(),
        ..configuration
    };
    assert!(
        bench
            .refused(operated)
            .1
            .starts_with("configuration network can only contain")
    );
}

#[test]
fn two_bridges_share_neither_name_nor_addresses() {
    let bench = Bench::new();
    let named = |name: &str, link: &str| CreateNetwork {
        options: Some(map(&[(options::BRIDGE_NAME, link)])),
        ..request(name)
    };
    bench.make(named("one", "gl-test0")).unwrap();
    let (kind, words) = bench.refused(named("two", "gl-test0"));
    assert_eq!(kind, ErrorKind::Forbidden);
    assert!(
        words.ends_with("(gl-test0): networks have same bridge name"),
        "{words}"
    );
    bench
        .make(with_subnets("three", &["10.197.0.0/16"]))
        .unwrap();
    let mut ranged = with_subnets("four", &["10.197.0.0/16"]);
    let configs = ranged.ipam.as_mut().unwrap().config.as_mut().unwrap();
    configs[0].ip_range = "10.197.5.0/24".to_owned();
    assert!(
        bench
            .refused(ranged)
            .1
            .ends_with("networks have overlapping IPv4")
    );
}

#[test]
fn subnets_that_no_bridge_can_have() {
    let bench = Bench::new();
    let v6 = |subnet: &str| CreateNetwork {
        enable_ipv6: Some(true),
        ..with_subnets("six", &[subnet])
    };
    assert_eq!(
        bench.refused(v6("fe80::/80")).1,
        "'fe80::/80' clashes with the Link-Local prefix 'fe80::/64'"
    );
    assert_eq!(
        bench.refused(v6("ff02::/64")).1,
        "multicast subnet 'ff02::/64' is not allowed"
    );
    assert_eq!(
        bench.refused(with_subnets("all", &["0.0.0.0/0"])).1,
        "ipv4 pool is empty"
    );
    let null = |config: Option<Vec<IpamConfig>>| CreateNetwork {
        ipam: Some(Ipam {
            driver: "null".to_owned(),
            config,
            ..Ipam::default()
        }),
        ..request("null")
    };
    assert_eq!(bench.refused(null(None)).1, "ipv4 pool is empty");
}
