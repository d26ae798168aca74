use super::*;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

fn exists(name: &str) -> bool {
    find(&Netlink::route().unwrap(), name).unwrap().is_some()
}

#[test]
fn up_twice_is_up_once_and_remove_leaves_nothing() {
    on_a_host(|| {
        let first = bridge(config());
        let (_sandbox, endpoint) = attach(&first);
        let index = first.segment().link.index;
        drop(first);
        let second = Bridge::up(&config(), std::slice::from_ref(&endpoint)).unwrap();
        assert_eq!(
            (second.segment().link.index, second.name()),
            (index, "docker0".to_owned())
        );
        assert_eq!(second.gateway().to_string(), "172.17.0.1");
        assert_eq!(veths(), [endpoint.host_link]);
        second.remove().unwrap();
        assert_eq!(veths(), [""; 0]);
        assert!(!exists("docker0"));
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn somebody_elses_docker0_is_left_alone() {
    on_a_host(|| {
        ip("link add docker0 type bridge");
        ip("address add 172.17.0.1/16 dev docker0");
        let ours = bridge(config());
        assert_eq!(ours.name(), "gantry0");
        assert_eq!(ours.subnet().to_string(), "172.18.0.0/16");
        let (sandbox, endpoint) = attach(&ours);
        assert_eq!(address(&endpoint).to_string(), "172.18.0.2");
        assert!(inside(&sandbox, || ping(ours.gateway())));
        assert_eq!(bridge(config()).name(), "gantry0");
        ours.remove().unwrap();
        assert!(exists("docker0") && !exists("gantry0"));

        // Another engine's mark is another's bridge.
        bridge(config());
        let error = Bridge::up_again(&config(), "other", None, &[]);
        let error = error.err().unwrap().to_string();
        assert!(
            error.contains("docker0 and gantry0 belong to someone else"),
            "{error}"
        );
    });
}

#[test]
fn used_subnets_are_avoided() {
    on_a_host(|| {
        ip("link add here type bridge");
        ip("link set here up");
        ip("address add 172.17.200.9/24 dev here");
        ip("route add 172.18.7.0/24 dev here");
        ip("route add blackhole 172.19.0.0/16");
        ip("route add default dev here");
        ip("route add 128.0.0.0/1 dev here");
        assert_eq!(bridge(config()).gateway().to_string(), "172.20.0.1");
        // It stays there when the others are gone.
        ip("link del here");
        assert_eq!(bridge(config()).gateway().to_string(), "172.20.0.1");
    });
    on_a_host(|| {
        ip("route add blackhole 172.16.0.0/12");
        assert_eq!(bridge(config()).subnet().to_string(), "192.168.0.0/20");
    });
    on_a_host(|| {
        ip("route add blackhole 172.16.0.0/12");
        ip("route add blackhole 192.168.0.0/16");
        // Docker's pools are used up; there are more.
        let bridge = bridge(config());
        assert_eq!(bridge.subnet().to_string(), "10.0.0.0/24");
        bridge.remove().unwrap();
        ip("route add blackhole 10.0.0.0/8");
        let error = Bridge::up(&config(), &[]).err().unwrap();
        assert!(error.to_string().contains("address pools"), "{error}");
    });
}

#[test]
fn a_given_address_replaces_the_old_one() {
    on_a_host(|| {
        bridge(config());
        let with_address = BridgeConfig {
            bip: Some("10.1.2.254/24".parse().unwrap()),
            name: Some("docker0".into()),
            mtu: 1400,
            ..config()
        };
        let bridge = bridge(with_address);
        assert_eq!(bridge.gateway().to_string(), "10.1.2.254");
        let (_sandbox, endpoint) = attach(&bridge);
        assert_eq!(address(&endpoint).to_string(), "10.1.2.1");
        let shown = ip("-4 address show docker0");
        assert_eq!(shown.matches("inet ").count(), 1, "{shown}");
        assert!(
            shown.contains("10.1.2.254/24") && shown.contains("mtu 1400"),
            "{shown}"
        );
    });
}

#[test]
fn the_users_bridge_is_used_and_stays() {
    on_a_host(|| {
        let existing = |name: &str| BridgeConfig {
            existing: Some(name.into()),
            ..config()
        };
        assert!(Bridge::up(&existing("br7"), &[]).is_err());
        assert!(Bridge::up(&existing("lo"), &[]).is_err());
        ip("link add br7 type bridge");
        ip("address add 10.7.0.1/24 dev br7");
        let bridge = bridge(existing("br7"));
        assert_eq!(bridge.subnet().to_string(), "10.7.0.0/24");
        let (sandbox, _) = attach(&bridge);
        assert!(inside(&sandbox, || ping(bridge.gateway())));
        assert!(!exists("docker0"));
        bridge.remove().unwrap();
        assert!(exists("br7"));
    });
}

#[test]
fn the_bridges_mac_does_not_follow_its_ports() {
    on_a_host(|| {
        let bridge = bridge(config());
        let mac = || ip("link show docker0").split("ether ").nth(1).unwrap()[..17].to_owned();
        let before = mac();
        let low = EndpointRequest {
            mac: Some("02:00:00:00:00:01".into()),
            ..EndpointRequest::default()
        };
        let _attached = [attach(&bridge), attach_with(&bridge, &low)];
        assert_eq!(mac(), before);
    });
}

#[test]
fn forwarding_is_switched_on() {
    on_a_host(|| {
        let read = || std::fs::read_to_string(FORWARDING).unwrap();
        std::fs::write(FORWARDING, "0").unwrap();
        bridge(config());
        assert_eq!(read(), "1\n");
        bridge(config());
        assert_eq!(read(), "1\n");
    });
}

#[test]
fn a_later_daemon_takes_up_what_runs_and_clears_the_rest() {
    on_a_host(|| {
        let outside = outsider();
        let first = bridge(config());
        let (web, running) = attach_with(&first, &publish(Ipv4Addr::UNSPECIFIED, 8080, "tcp"));
        let (_gone, stale) = attach_with(&first, &publish(Ipv4Addr::UNSPECIFIED, 8081, "tcp"));
        serve(&web, 80);
        ip("link add vethofanother type veth peer name p");
        ip("link set vethofanother master docker0");
        drop(first);

        let second = Bridge::up(&config(), std::slice::from_ref(&running)).unwrap();
        let mut left = veths();
        left.sort();
        assert_eq!(left, [running.host_link.clone(), "vethofanother".into()]);
        assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
        assert_eq!(ask(LOCALHOST, 8080, PATIENCE).unwrap(), "172.17.0.1");
        let table = nft("list table ip gantry-test");
        assert!(table.contains("8080") && !table.contains("8081"), "{table}");

        // The stale endpoint's address and port are free, the running one's are not.
        let request = EndpointRequest {
            v4: Some(address(&stale)),
            ..publish(Ipv4Addr::UNSPECIFIED, 8081, "tcp")
        };
        let (_next, next) = attach_with(&second, &request);
        assert_eq!(address(&next), address(&stale));
        let sandbox = Sandbox::new().unwrap();
        let taken = EndpointRequest {
            v4: Some(address(&running)),
            ..EndpointRequest::default()
        };
        assert!(second.attach(ID, &sandbox, &taken).is_err());
        let taken = publish(LOCALHOST, 8080, "tcp");
        assert!(second.attach(ID, &sandbox, &taken).is_err());

        second.release(&running).unwrap();
        refused_from(&outside, HOST, 8080);
        let again = EndpointRequest {
            v4: Some(address(&running)),
            ..publish(Ipv4Addr::UNSPECIFIED, 8080, "tcp")
        };
        attach_with(&second, &again);
    });
}

#[test]
fn a_bridge_that_somebody_deleted_comes_back_around_its_containers() {
    on_a_host(|| {
        let outside = outsider();
        let first = bridge(BridgeConfig {
            bip: Some("10.4.0.1/24".parse().unwrap()),
            ..config()
        });
        let (web, running) = attach_with(&first, &publish(Ipv4Addr::UNSPECIFIED, 8080, "tcp"));
        serve(&web, 80);
        ip("link del docker0");
        let before = first.network.clone();
        drop(first);
        let in_use = std::slice::from_ref(&running);
        let second = Bridge::up_again(&config(), TABLE, Some(&before), in_use).unwrap();
        assert_eq!(second.subnet().to_string(), "10.4.0.0/24");
        assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
        assert_eq!(ask_from(&web, HOST, 8080), "10.4.0.1");
        assert!(inside(&web, || ping(OUTSIDER)));
    });
}
