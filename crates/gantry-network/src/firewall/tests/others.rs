//! Other firewalls on the same machine.
use super::*;
use std::sync::Arc;

fn iptables(arguments: &str) -> String {
    run("iptables-nft", arguments)
}

fn hindrances(firewall: &Firewall) -> Vec<String> {
    let families = firewall.lock().families.clone();
    firewall.hindrances(&families).unwrap()
}

/// A host with a container that serves on 8080 and is behind somebody's firewall that drops by default.
fn behind(block: impl FnOnce(), unblock: impl FnOnce() -> String) {
    let outside = outsider();
    let one = bridge(1);
    let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
    let firewall = Arc::new(firewall);
    let web = container(&one, 2);
    serve(&web.sandbox, 80);
    serve(&outside, 80);
    publish(&firewall, &web, &everywhere("tcp", 8080));
    assert!(hindrances(&firewall).is_empty());
    let before = nft("list tables");
    block();
    let host = address(HOST[0]);
    refused_from(&outside, host, 8080);
    refused_from(&web.sandbox, address(OUTSIDER[0]), 80);
    assert!(firewall.reconcile().unwrap());
    assert!(hindrances(&firewall).is_empty());
    assert_eq!(ask_from(&outside, host, 8080), OUTSIDER[0]);
    assert_eq!(ask_from(&web.sandbox, address(OUTSIDER[0]), 80), HOST[0]);
    // What is not ours is as it was.
    route_directly(&outside);
    refused_from(&outside, web.address(0), 80);
    assert!(!firewall.reconcile().unwrap());
    firewall.remove().unwrap();
    let left = unblock();
    assert!(
        !left.contains("0x1000") && !left.contains("passed"),
        "{left}"
    );
    assert!(!nft("list tables").contains(TABLE), "{before}");
}

#[test]
fn a_forward_chain_that_drops_by_default_lets_ours_pass() {
    on_a_host(|| {
        behind(
            || {
                iptables("-P FORWARD DROP");
            },
            || iptables("-S FORWARD"),
        );
    });
}

#[test]
fn old_rules_let_ours_pass() {
    on_a_host(|| {
        let listed = std::process::Command::new("iptables-legacy")
            .arg("-S")
            .output()
            .unwrap();
        if !listed.status.success() {
            eprintln!("this kernel has no old rules: {listed:?}");
            return;
        }
        behind(
            || {
                for program in ["iptables-legacy", "ip6tables-legacy"] {
                    run(program, "-P FORWARD DROP");
                }
                // Of changes to old rules nobody is told: they are looked at with the next change of others.
                nft("add table inet stranger");
            },
            || run("iptables-legacy", "-S FORWARD"),
        );
    });
}

/// The table of IPv6 comes with the first network that has IPv6, and is late where somebody drops already.
#[test]
fn a_network_that_comes_later_passes_as_well() {
    on_a_host(|| {
        let outside = outsider();
        serve(&outside, 80);
        let one = bridge(1);
        let v4 = BridgeRules {
            subnets: one.subnets[..1].to_vec(),
            ..one
        };
        for program in ["iptables-nft", "ip6tables-nft"] {
            run(program, "-P FORWARD DROP");
        }
        let firewall = Firewall::open(options(), &[v4]).unwrap();
        assert!(hindrances(&firewall).is_empty());
        let two = bridge(2);
        firewall.add_bridge(&two).unwrap();
        let web = container(&two, 2);
        for (out, host) in OUTSIDER.into_iter().zip(HOST) {
            assert_eq!(ask_from(&web.sandbox, address(out), 80), host);
        }
        firewall.remove().unwrap();
    });
}

#[test]
fn rules_that_reject_all_let_ours_pass_and_iptables_still_lists_them() {
    on_a_host(|| {
        behind(
            || {
                iptables("-A FORWARD -j REJECT --reject-with icmp-host-prohibited");
            },
            || iptables("-S FORWARD"),
        );
        let one = bridge(2);
        let firewall = Firewall::open(options(), &[one]).unwrap();
        let listed = iptables("-S FORWARD");
        assert!(listed.contains("-m mark --mark 0x1000/0x1000"), "{listed}");
        assert!(listed.contains("-j ACCEPT"), "{listed}");
        assert!(listed.contains("REJECT"), "{listed}");
        iptables("-D FORWARD -j REJECT --reject-with icmp-host-prohibited");
        let saved = run("iptables-nft-save", "-t filter");
        assert!(saved.contains("0x1000"), "{saved}");
        firewall.remove().unwrap();
    });
}

#[test]
fn firewalld_lets_ours_pass() {
    on_a_host(|| {
        behind(
            || {
                nft("add table inet firewalld");
                nft(
                    "add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }",
                );
                nft("add rule inet firewalld filter_FORWARD ct state established,related accept");
                nft("add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited");
            },
            || nft("list table inet firewalld"),
        );
    });
}

#[test]
fn a_chain_that_nobody_told_us_of_is_named_as_a_hindrance() {
    on_a_host(|| {
        let one = bridge(1);
        let firewall = Firewall::open(options(), &[one]).unwrap();
        nft("add table inet mine");
        nft("add chain inet mine forward { type filter hook forward priority 0; policy accept; }");
        assert!(hindrances(&firewall).is_empty());
        nft("chain inet mine forward { policy drop; }");
        firewall.reconcile().unwrap();
        assert_eq!(hindrances(&firewall), ["mine forward"]);
        assert!(!nft("list table inet mine").contains("passed"));
    });
}

#[test]
fn a_watch_puts_back_what_others_delete_and_only_then() {
    on_a_host(|| {
        let outside = outsider();
        let one = bridge(1);
        let firewall = Firewall::open(options(), std::slice::from_ref(&one)).unwrap();
        let firewall = Arc::new(firewall);
        let web = container(&one, 2);
        serve(&web.sandbox, 80);
        let watch = firewall.watch().unwrap();
        publish(&firewall, &web, &everywhere("tcp", 8080));
        let rules = |chain: &str| nft(&format!("-a list chain ip gantry-test {chain}"));
        let before = rules("reach");
        for number in 1000..1100 {
            publish(&firewall, &web, &[port("tcp", "0.0.0.0", number)]);
        }
        nft("add table inet stranger");
        std::thread::sleep(Duration::from_millis(300));
        // Nothing was loaded again: the rules' handles are what they were.
        assert_eq!(rules("reach"), before);
        for deletion in [
            "flush ruleset",
            "flush chain ip gantry-test published",
            "flush map ip gantry-test ports",
        ] {
            nft(deletion);
            let start = Instant::now();
            let host = address(HOST[0]);
            let back = || {
                inside(&outside, || {
                    ask(host, 8080, Duration::from_millis(100)).is_ok()
                })
            };
            assert!(eventually(back), "{deletion}");
            let took = start.elapsed();
            assert!(took < Duration::from_millis(1500), "{deletion}: {took:?}");
        }
        iptables("-P FORWARD DROP");
        let listed = || iptables("-S FORWARD").contains("0x1000");
        assert!(eventually(listed));
        iptables("-F FORWARD");
        assert!(eventually(listed));
        drop(watch);
        nft("flush ruleset");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(nft("list ruleset"), "");
    });
}
