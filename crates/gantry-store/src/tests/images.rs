//! Images and their names: platforms, parents, what goes with a deletion.

use super::*;
use crate::images::chain_ids;
use crate::usage;

/// An image for an architecture; it gets no name.
fn image(store: &Store, architecture: &str, content: &[u8]) -> Digest {
    let config = ImageConfig {
        os: "linux".into(),
        architecture: architecture.into(),
        ..ImageConfig::default()
    };
    let tar = Tar::new().file("f", content).done();
    archive::import(store, &mut &tar[..], config).unwrap()
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

#[test]
fn a_name_has_an_image_for_each_platform_and_a_restart_changes_nothing() {
    let (dir, store) = store();
    let own = gantry_oci::platform::machine_architecture();
    let (s390, riscv) = (image(&store, "s390x", b"1"), image(&store, "riscv64", b"2"));
    let (machine, newer) = (image(&store, own, b"3"), image(&store, "s390x", b"4"));
    let meant = |store: &Store| {
        let all = store.images.find_all("a:1").unwrap();
        all.iter().map(|image| image.id.clone()).collect::<Vec<_>>()
    };
    let a = name("a:1");
    for (id, expected) in [
        (&s390, vec![&s390]),
        (&riscv, vec![&riscv, &s390]),
        (&machine, vec![&machine, &riscv, &s390]),
        (&newer, vec![&machine, &newer, &riscv]),
    ] {
        store.images.tag_platform(&a, id).unwrap();
        assert_eq!(meant(&store).iter().collect::<Vec<_>>(), expected);
    }
    let manifest = br#"{"schemaVersion":2}"#;
    store.images.add_digest(&a, &machine, manifest).unwrap();
    store.images.add_digest(&a, &newer, manifest).unwrap();
    let by_digest = format!("a@{}", Digest::of(manifest));
    assert_eq!(store.images.find_all(&by_digest).unwrap().len(), 2);
    assert!(store.images.get(&s390).unwrap().unwrap().tags.is_empty());
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(
        meant(&store),
        [machine.clone(), newer.clone(), riscv.clone()]
    );
    assert_eq!(store.images.find_all(&by_digest).unwrap().len(), 2);
    // One of them goes: the others keep the name.
    let gone = store.images.delete(&machine).unwrap();
    assert_eq!(gone.untagged.len(), 2);
    assert_eq!(meant(&store), [newer.clone(), riscv.clone()]);
    // A plain tag is for one image alone.
    store.images.tag(&a, &s390).unwrap();
    assert_eq!(meant(&store), [s390]);
    assert!(store.images.get(&riscv).unwrap().unwrap().tags.is_empty());
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(meant(&store).len(), 1);
    store.images.untag(&a).unwrap();
    assert!(store.images.find("a:1").unwrap().is_none());
}

#[test]
fn a_store_of_before_platforms_opens() {
    let (dir, store) = store();
    let id = import(&store, "a", b"1");
    drop(store);
    let database = rusqlite::Connection::open(dir.path().join("gantry.db")).unwrap();
    database.execute_batch("DROP TABLE sibling").unwrap();
    drop(database);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.images.find("a").unwrap().unwrap().id, id);
}

#[test]
fn chain_ids_are_dockers() {
    let layer = |n: u8| Digest::of(&[n]);
    assert_eq!(chain_ids(&[]), []);
    let chain = chain_ids(&[layer(1), layer(2), layer(3)]);
    assert_eq!(chain[0], layer(1));
    let second = Digest::of(format!("{} {}", layer(1), layer(2)).as_bytes());
    assert_eq!(chain[1], second);
    assert_eq!(
        chain[2],
        Digest::of(format!("{second} {}", layer(3)).as_bytes())
    );
}

/// An image with the layers of another one and one more.
fn above(store: &Store, below: &Digest, content: &[u8]) -> Digest {
    let below = store.images.get(below).unwrap().unwrap();
    let tar = Tar::new().file("g", content).done();
    let lease = store.layers.lease();
    let layer = unpack(store, &tar).unwrap();
    let mut config = below.config.clone();
    config.rootfs.diff_ids.push(layer.diff_id);
    let id = store
        .images
        .put(&serde_json::to_vec(&config).unwrap())
        .unwrap();
    store.images.set_parent(&id, &below.id).unwrap();
    drop(lease);
    id
}

#[test]
fn what_no_other_stands_on_goes_with_an_image_and_is_counted() {
    let (dir, store) = store();
    let base = image(&store, "amd64", &[1; 100_000]);
    let (one, two) = (
        above(&store, &base, &[2; 200_000]),
        above(&store, &base, &[3; 300_000]),
    );
    let chain = |id: &Digest| chain_ids(&store.images.get(id).unwrap().unwrap().diff_ids);
    let (base_chain, one_chain, two_chain) = (chain(&base), chain(&one), chain(&two));
    let du = || {
        let parts = ["layers", "image"].map(|part| usage::of_tree(&dir.path().join(part)));
        parts.into_iter().map(Result::unwrap).sum::<u64>()
    };
    let mut before = du();
    let mut freed = |id: &Digest| {
        let gone = store.images.delete(id).unwrap();
        let after = du();
        assert_eq!(gone.freed, before - after);
        before = after;
        gone.chains
    };
    assert_eq!(freed(&one), one_chain[1..]);
    // A container holds what it stands on.
    let layers = store.images.get(&two).unwrap().unwrap().diff_ids.clone();
    store.snapshots.prepare("c", &Base::Layers(layers)).unwrap();
    before = du();
    let mut freed = |id: &Digest| {
        let gone = store.images.delete(id).unwrap();
        let after = du();
        assert_eq!(gone.freed, before - after);
        before = after;
        gone.chains
    };
    assert_eq!(freed(&two), []);
    assert_eq!(freed(&base), []);
    store.snapshots.remove("c").unwrap();
    store.images.collect_layers().unwrap();
    let again = image(&store, "amd64", &[1; 100_000]);
    assert_eq!(chain(&again), base_chain);
    let both = above(&store, &again, &[3; 300_000]);
    store.images.delete(&again).unwrap();
    assert!(store.images.get(&both).unwrap().unwrap().parent.is_none());
    let gone = store.images.delete(&both).unwrap();
    assert_eq!(gone.chains, [two_chain[1].clone(), base_chain[0].clone()]);
}
