use super::*;

#[test]
fn up_twice_is_up_once_and_remove_leaves_nothing() {
    on_a_host(|| {
        let first = bridge(config());
        let (_sandbox, endpoint) = attach(&first);
        let index = first.link.index;
        drop(first);
        let second = Bridge::up(config(), std::slice::from_ref(&endpoint)).unwrap();
        assert_eq!((second.link.index, second.name()), (index, "docker0"));
        assert_eq!(second.gateway().to_string(), "172.17.0.1");
        assert_eq!(veths(), [endpoint.host_link]);
        second.remove().unwrap();
        assert_eq!(veths(), [""; 0]);
        assert!(
            find(&Netlink::route().unwrap(), "docker0")
                .unwrap()
                .is_none()
        );
        assert_eq!(nft(&["list", "ruleset"]), "");
    });
}
