use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

fn chosen(pools: &Pools, used: &[&str], near: &[&str], far: &[&str]) -> String {
    let host = Host {
        near: nets(near),
        far: nets(far),
    };
    match pools.choose(false, &nets(used), &host) {
        Ok(net) => net.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn pools_are_read_as_docker_reads_them() {
    let pool: Pool = "base=10.10.1.0/16,size=24".parse().unwrap();
    assert_eq!((pool.base, pool.size), (net("10.10.0.0/16"), 24));
    for (text, words) in [
        (
            "nonsense",
            "invalid field 'nonsense' must be a key=value pair",
        ),
        ("base=10.0.0.0/8,x=1", "unexpected key 'x' in 'x=1'"),
        (
            "base=10.0.0.0/24,size=16",
            "invalid pool 10.0.0.0/24: it has a smaller prefix (/24) than the target size of that pool (/16)",
        ),
        (
            "base=10.0.0.0/24,size=33",
            "invalid pool 10.0.0.0/24: /33 is no size of its subnets",
        ),
        (
            "size=16",
            "invalid pool \"size=16\": base=NETWORK,size=BITS is expected",
        ),
    ] {
        assert_eq!(text.parse::<Pool>().unwrap_err(), words);
    }
    for text in ["base=x,size=16", "base=10.0.0.0/8,size=x"] {
        assert!(text.parse::<Pool>().unwrap_err().starts_with("invalid "));
    }
}

#[test]
fn the_first_that_overlaps_nothing() {
    let pools = Pools::new(&[], "host");
    assert_eq!(chosen(&pools, &[], &[], &[]), "172.17.0.0/16");
    let two = ["172.17.0.0/16", "172.19.0.0/16"];
    assert_eq!(chosen(&pools, &two, &[], &[]), "172.18.0.0/16");
    // A small one takes its whole neighbourhood, and a large one several.
    let odd = ["172.17.5.0/24", "172.18.0.0/15"];
    assert_eq!(
        chosen(&pools, &odd, &["172.20.0.1/32"], &[]),
        "172.21.0.0/16"
    );
    assert_eq!(
        chosen(&pools, &["172.16.0.0/12"], &[], &[]),
        "192.168.0.0/20"
    );
    let home = ["192.168.1.0/24"];
    assert_eq!(
        chosen(&pools, &["172.16.0.0/12"], &home, &[]),
        "192.168.16.0/20"
    );
    // What is reached through others does not count here.
    assert_eq!(
        chosen(&pools, &[], &[], &["172.16.0.0/12"]),
        "172.17.0.0/16"
    );
}

#[test]
fn three_hundred_networks_and_more() {
    let pools = Pools::new(&[], "host");
    let host = Host {
        near: nets(&["192.0.2.0/24"]),
        far: nets(&["172.16.3.0/24"]),
    };
    let mut used = Vec::new();
    for _ in 0..2000 {
        let new = pools.choose(false, &used, &host).unwrap();
        assert!(
            used.iter()
                .chain(&host.near)
                .chain(&host.far)
                .all(|other| { !other.contains(&new) && !new.contains(other) })
        );
        used.push(new);
    }
    assert_eq!(used[30], net("192.168.240.0/20"));
    assert_eq!(used[31], net("172.16.0.0/24"));
    assert_eq!(used[34], net("172.16.4.0/24"));
    assert_eq!(used[31 + 255], net("10.0.0.0/24"));
}

#[test]
fn pools_that_are_given_are_all() {
    let given = ["base=10.9.0.0/30,size=31", "base=10.8.0.0/16,size=16"];
    let given: Vec<Pool> = given.iter().map(|text| text.parse().unwrap()).collect();
    let pools = Pools::new(&given, "host");
    let mut used = vec!["10.8.0.0/16"];
    assert_eq!(chosen(&pools, &[], &[], &[]), "10.8.0.0/16");
    assert_eq!(chosen(&pools, &used, &[], &[]), "10.9.0.0/31");
    used.extend(["10.9.0.0/31", "10.9.0.2/31"]);
    assert_eq!(
        chosen(&pools, &used, &[], &[]),
        "all predefined address pools have been fully subnetted"
    );
    let edge = Pools::new(&["base=255.255.255.0/24,size=24".parse().unwrap()], "host");
    assert_eq!(chosen(&edge, &[], &[], &[]), "255.255.255.0/24");
    assert!(
        edge.choose(false, &nets(&["255.255.255.255/32"]), &Host::default())
            .is_err()
    );
}

#[test]
fn every_host_has_its_own_ipv6_range() {
    let one = |host: &str, used: &[IpNet]| {
        let pools = Pools::new(&[], host);
        pools.choose(true, used, &Host::default()).unwrap()
    };
    let first = one("a", &[]);
    assert_eq!(first, one("a", &[]));
    assert_ne!(first, one("b", &[]));
    assert!(net("fd00::/8").contains(&first) && first.prefix_len() == 64);
    let second = one("a", &[first]);
    assert_eq!(number(second.network()) - number(first.network()), 1 << 64);
    let all: Pool = "base=::/0,size=1".parse().unwrap();
    let pools = Pools::new(&[all], "a");
    let upper = pools
        .choose(true, &[net("::/1")], &Host::default())
        .unwrap();
    assert_eq!(upper, net("8000::/1"));
}
