use super::*;
use gantry_api::container::Map;

fn config(subnet: &str, range: &str, gateway: &str, aux: &[(&str, &str)]) -> IpamConfig {
    IpamConfig {
        subnet: subnet.to_owned(),
        ip_range: range.to_owned(),
        gateway: gateway.to_owned(),
        auxiliary_addresses: aux
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<Map>(),
    }
}

fn refused(configs: Vec<IpamConfig>, v6: bool) -> String {
    let ipam = Ipam {
        config: Some(configs),
        ..Ipam::default()
    };
    match validate(&ipam, v6) {
        Ok(()) => String::new(),
        Err(error) => error.message,
    }
}

#[test]
fn all_that_is_wrong_is_told() {
    assert_eq!(
        refused(vec![config("nonsense", "", "", &[])], false),
        "invalid network config:\ninvalid subnet nonsense: invalid CIDR block notation"
    );
    assert_eq!(
        refused(vec![config("10.198.0.0/24", "", "1.2.3.4", &[])], false),
        "invalid network config:\ninvalid gateway 1.2.3.4: parent subnet 10.198.0.0/24 doesn't contain this address"
    );
    let bad = config(
        "10.0.0.1/24",
        "10.1.0.1/16",
        "fd00::1",
        &[("a", "x"), ("b", "10.0.0.9")],
    );
    assert_eq!(
        refused(vec![bad], false),
        "invalid network config:\n\
         * invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24\n\
         * invalid ip-range 10.1.0.1/16: CIDR block is bigger than its parent subnet 10.0.0.1/24\n\
         * invalid ip-range 10.1.0.1/16: it should be 10.1.0.0/16\n\
         * invalid ip-range 10.1.0.1/16: parent subnet 10.0.0.1/24 doesn't contain ip-range\n\
         * invalid gateway fd00::1: parent subnet is an IPv4 block\n\
         * invalid auxiliary address a: invalid address"
    );
    // A subnet of a family that the network does not have is passed over.
    let v6 = || vec![config("fd00::1/64", "10.0.0.0/8", "", &[])];
    assert_eq!(refused(v6(), false), "");
    assert_eq!(
        refused(v6(), true),
        "invalid network config:\n\
         * invalid subnet fd00::1/64: it should be fd00::/64\n\
         * invalid ip-range 10.0.0.0/8: parent subnet is an IPv6 block"
    );
}

fn allocated(configs: &[IpamConfig], others: &[Subnet], v6: bool) -> Result<Vec<Subnet>> {
    let wanted = Wanted {
        v6,
        configs: configs.iter().collect(),
        without_gateway: false,
    };
    allocate(&wanted, others, &Pools::new(&[], "host"), &Host::default())
}

fn gateway(config: IpamConfig) -> String {
    let v6 = config.subnet.contains(':');
    match allocated(&[config], &[], v6) {
        Ok(subnets) => subnets[0].gateway.unwrap().to_string(),
        Err(error) => error.message,
    }
}

#[test]
fn gateways_are_the_first_usable_address_unless_given() {
    assert_eq!(gateway(config("10.0.0.0/24", "", "", &[])), "10.0.0.1");
    let ranged = config("10.0.0.0/24", "10.0.0.128/25", "", &[]);
    assert_eq!(gateway(ranged), "10.0.0.128");
    let low = config("10.0.0.0/24", "10.0.0.0/25", "", &[]);
    assert_eq!(gateway(low), "10.0.0.1");
    assert_eq!(gateway(config("10.0.0.0/31", "", "", &[])), "10.0.0.0");
    assert_eq!(
        gateway(config("10.0.0.0/24", "", "10.0.0.9", &[])),
        "10.0.0.9"
    );
    assert_eq!(gateway(config("fd00::/64", "", "", &[])), "fd00::1");
    assert_eq!(
        gateway(config("10.0.0.0/24", "", "10.0.0.255", &[])),
        "failed to allocate gateway (10.0.0.255): Address already in use"
    );
    assert_eq!(
        gateway(config("fd00::1/128", "", "", &[])),
        "failed to allocate gateway (): no available addresses on this pool"
    );
    assert_eq!(
        gateway(config("10.0.0.0/24", "", "", &[("mine", "10.0.0.1")])),
        "failed to allocate secondary ip address (mine:10.0.0.1): Address already in use"
    );
}

#[test]
fn auxiliary_addresses_are_kept_and_one_is_the_way_out() {
    let aux = [("DefaultGatewayIPv4", "10.0.0.254"), ("other", "10.0.0.7")];
    let subnets = allocated(&[config("10.0.0.0/24", "", "", &aux)], &[], false).unwrap();
    assert_eq!(
        subnets[0].default_gateway.unwrap().to_string(),
        "10.0.0.254"
    );
    assert_eq!(subnets[0].reserved, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
}

#[test]
fn overlaps_are_refused_unless_there_is_a_range() {
    let first = allocated(&[config("10.0.0.0/16", "", "", &[])], &[], false).unwrap();
    let clash = allocated(&[config("10.0.3.0/24", "", "", &[])], &first, false).unwrap_err();
    assert_eq!(clash.kind, ErrorKind::Forbidden);
    assert_eq!(
        clash.message,
        "invalid pool request: Pool overlaps with other one on this address space"
    );
    let ranged = || config("10.0.0.0/16", "10.0.3.0/24", "", &[]);
    let second = allocated(&[ranged()], &first, false).unwrap();
    assert!(allocated(&[ranged()], &second, false).is_err());
    let twice = [
        config("10.0.0.0/16", "", "", &[]),
        config("10.0.0.0/24", "", "", &[]),
    ];
    assert!(allocated(&twice, &[], false).is_err());
    let chosen = allocated(&[], &[], false).unwrap();
    assert_eq!(chosen[0].net.to_string(), "172.17.0.0/16");
    assert_eq!(chosen[0].gateway.unwrap().to_string(), "172.17.0.1");
}
