use super::*;

fn open(dir: &std::path::Path) -> Networks {
    let store = Arc::new(Store::open(dir).unwrap());
    Networks::open(store, NetworkOptions::default(), "host").unwrap()
}

#[test]
fn the_engines_own_networks_keep_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let ids = |networks: &Networks| -> Vec<(String, String)> {
        let all = networks.all();
        all.iter().map(|n| (n.id.clone(), n.name.clone())).collect()
    };
    let first = ids(&open(dir.path()));
    assert_eq!(first.len(), 3);
    assert_eq!(first, ids(&open(dir.path())));
}

#[test]
fn the_bridge_of_an_earlier_version_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let bare = "{\"name\":\"bridge\"}";
    store.database.put(KIND, "abc", bare).unwrap();
    let networks = Networks::open(store, NetworkOptions::default(), "host").unwrap();
    assert_eq!(networks.bridge().unwrap().id, "abc");
    assert_ne!(networks.find("host").unwrap().id, "abc");
}

#[test]
fn found_by_id_then_name_then_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let networks = open(dir.path());
    let ids = [
        "e".repeat(64),
        format!("{}f", "e".repeat(63)),
        "9".repeat(64),
    ];
    for (id, name) in ids.iter().zip(["one", "two", "eeee"]) {
        networks
            .insert(NetworkRecord::new(id.clone(), name, "bridge"))
            .unwrap();
    }
    assert_eq!(networks.find(&ids[0]).unwrap().name, "one");
    assert_eq!(networks.find("eeee").unwrap().id, ids[2]);
    assert_eq!(networks.find("99").unwrap().name, "eeee");
    let words = |text: &str| networks.find(text).unwrap_err().message;
    assert_eq!(
        words("eeeeee"),
        "network eeeeee is ambiguous (2 matches found based on ID prefix)"
    );
    assert_eq!(words("nothing"), "network nothing not found");
    networks.delete(&ids[0]).unwrap();
    assert_eq!(networks.find("eeeeee").unwrap().name, "two");
}

#[test]
fn the_default_bridge_stays_while_containers_run_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let networks = open(dir.path());
    let config = |bip: &str| BridgeConfig {
        name: Some("gl-nosuch0".to_owned()),
        bip: Some(bip.parse().unwrap()),
        ..BridgeConfig::default()
    };
    let set = |bip: Option<&str>, runs: bool| {
        let config = bip.map(config);
        networks
            .set_bridge(config.as_ref(), &PlaneOptions::default(), runs)
            .unwrap();
        let shown = networks.bridge().unwrap().show().ipam.config;
        shown.map(|all| format!("{} {}", all[0].subnet, all[0].gateway))
    };
    let first = Some("10.77.0.0/24 10.77.0.1".to_owned());
    // Nothing was known of it, so nobody runs on it as it was.
    assert_eq!(set(Some("10.77.0.1/24"), true), first);
    assert_eq!(set(Some("10.78.0.1/24"), true), first);
    assert_eq!(set(None, true), first);
    let second = Some("10.78.0.0/24 10.78.0.9".to_owned());
    assert_eq!(set(Some("10.78.0.9/24"), false), second);
    assert_eq!(set(None, false), None);
}
