use super::*;

fn open(dir: &Path) -> Volumes {
    let store = Arc::new(Store::open(dir).unwrap());
    Volumes::open(dir, store, Arc::new(Events::new()), &[]).unwrap()
}

fn named(name: &str) -> CreateVolume {
    CreateVolume {
        name: name.into(),
        ..CreateVolume::default()
    }
}

#[test]
fn used_volumes_stay_and_anonymous_ones_go_with_their_container() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = open(dir.path());
    let (name, folder) = volumes.take(named("data"), "c1").unwrap();
    assert!(folder.is_dir());
    let (anonymous, hidden) = volumes.take(named(""), "c1").unwrap();
    volumes.take(named(&anonymous), "c2").unwrap();
    let refused = volumes.remove(&name, true).unwrap_err();
    assert_eq!(refused.message, "remove data: volume is in use - [c1]");
    volumes.release("c1", true);
    assert!(hidden.is_dir(), "another container has it");
    volumes.release("c2", true);
    assert!(!hidden.exists());
    assert!(folder.is_dir(), "a named volume stays");
    volumes.remove(&name, false).unwrap();
    assert!(!folder.exists());
    let again = volumes.remove(&name, false).unwrap_err();
    assert_eq!(again.message, "get data: no such volume");
    volumes.remove(&name, true).unwrap();
}

#[test]
fn a_container_that_has_others_than_before() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = open(dir.path());
    let take = |name: &str| volumes.take(named(name), "c1").unwrap().0;
    let (old, new, tried, stays) = (take("old"), take("new"), take(""), take(""));
    volumes.keep_some_without("c1", |name| name == stays);
    volumes.settle("c1", &BTreeSet::from([new.clone()]));
    volumes.remove(&old, false).unwrap();
    assert!(volumes.remove(&new, false).is_err(), "it is in use");
    assert!(volumes.inspect(&tried).is_err(), "nobody ever had it");
    assert!(volumes.inspect(&stays).is_ok(), "somebody's data");
    volumes.release("c1", true);
    assert!(volumes.inspect(&stays).is_ok());
    drop(volumes);
    assert!(open(dir.path()).inspect(&stays).is_ok());
}

#[test]
fn the_next_daemon_knows_them_and_clears_up() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = open(dir.path());
    volumes.create(named("kept")).unwrap();
    // Its container was never recorded.
    let (orphan, folder) = volumes.take(named(""), "never").unwrap();
    let (stays, _) = volumes.take(named(""), "gone").unwrap();
    volumes.keep_without("gone");
    // A removal that was cut off, and a creation.
    volumes.create(named("half")).unwrap();
    std::fs::remove_dir_all(dir.path().join("volumes/half")).unwrap();
    // Somebody's data.
    std::fs::create_dir_all(dir.path().join("volumes/foreign/_data")).unwrap();
    drop(volumes);
    let volumes = open(dir.path());
    let names: Vec<String> = volumes
        .list(&Filters::default())
        .unwrap()
        .volumes
        .into_iter()
        .map(|v| v.name)
        .collect();
    let mut expected = vec!["foreign".to_owned(), "kept".to_owned(), stays];
    expected.sort();
    assert_eq!(names, expected);
    assert!(!folder.exists(), "{orphan} is nobody's");
}

#[test]
fn a_file_system_that_hangs_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = open(dir.path());
    let options = [("type", "tmpfs"), ("device", "tmpfs")];
    let hanging = CreateVolume {
        driver_opts: Some(options.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        ..named("hanging")
    };
    volumes.take(hanging, "c1").unwrap();
    let mounting = volumes.lock()["hanging"].mounting.clone();
    let server = mounting.lock().unwrap();
    std::thread::scope(|scope| {
        let user = scope.spawn(|| volumes.use_for("hanging", "c1"));
        while volumes.lock()["hanging"].running.is_empty() {
            std::thread::yield_now();
        }
        volumes.take(named("other"), "c2").unwrap();
        volumes.use_for("other", "c2").unwrap();
        assert_eq!(volumes.list(&Filters::default()).unwrap().volumes.len(), 2);
        volumes.inspect("hanging").unwrap();
        assert!(!user.is_finished());
        drop(server);
        let folder = user.join().unwrap().unwrap();
        assert!(is_mount(&folder));
        volumes.unuse("c1");
        assert!(!is_mount(&folder));
    });
}

#[test]
fn names() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = open(dir.path());
    for (name, words) in [
        (
            "x",
            "create x: volume name is too short, names should be at least two alphanumeric characters",
        ),
        (
            "../../etc",
            "includes invalid characters for a local volume name",
        ),
        ("a/b", "includes invalid characters for a local volume name"),
    ] {
        let refused = volumes.create(named(name)).unwrap_err();
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    let other = CreateVolume {
        driver: "nonsense".into(),
        ..named("ok")
    };
    assert_eq!(
        volumes.create(other).unwrap_err().message,
        "create ok: error looking up volume plugin nonsense: plugin \"nonsense\" not found"
    );
}
