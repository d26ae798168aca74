use super::*;

#[test]
fn a_port_is_reached_from_everywhere() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let (web, endpoint) = attach_with(&bridge, &publish(Ipv4Addr::UNSPECIFIED, 8080, "tcp"));
        let (other, neighbour) = attach(&bridge);
        serve(&web, 80);
        assert_eq!(ask_from(&outside, HOST, 8080), OUTSIDER.to_string());
        assert_eq!(ask(HOST, 8080, PATIENCE).unwrap(), HOST.to_string());
        assert_eq!(ask(LOCALHOST, 8080, PATIENCE).unwrap(), "172.17.0.1");
        assert_eq!(ask_from(&other, bridge.gateway(), 8080), "172.17.0.1");
        assert_eq!(ask_from(&other, HOST, 8080), "172.17.0.1");
        assert_eq!(ask_from(&web, HOST, 8080), "172.17.0.1");
        assert_eq!(
            ask_from(&other, endpoint.address, 80),
            neighbour.address.to_string()
        );

        bridge.release(&endpoint).unwrap();
        refused_from(&outside, HOST, 8080);
        assert!(ask(LOCALHOST, 8080, REFUSAL_PATIENCE).is_err());
    });
}
