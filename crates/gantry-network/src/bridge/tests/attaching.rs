use super::*;

#[test]
fn containers_reach_each_other_the_gateway_and_the_outside() {
    on_a_host(|| {
        let outside = outsider();
        let bridge = bridge(config());
        let (one, first) = attach(&bridge);
        let (two, second) = attach(&bridge);
        assert_eq!(first.address.to_string(), "172.17.0.2");
        assert_eq!(first.gateway.to_string(), "172.17.0.1");
        assert_eq!(first.mac, "02:42:ac:11:00:02");
        assert_eq!(first.prefix_len, 16);
        assert_eq!(second.address.to_string(), "172.17.0.3");
        serve(&one, 80);
        serve(&outside, 80);
        let host = TcpListener::bind("0.0.0.0:81").unwrap();
        assert_eq!(ask_from(&two, first.address, 80), "172.17.0.3");
        assert_eq!(ask(first.address, 80, PATIENCE).unwrap(), "172.17.0.1");
        assert_eq!(ask_from(&two, OUTSIDER, 80), HOST.to_string());
        inside(&one, || TcpStream::connect((bridge.gateway(), 81)).unwrap());
        drop(host);
    });
}
