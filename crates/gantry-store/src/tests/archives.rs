//! Archives: what is saved, loaded, and left out.

use super::*;

#[test]
fn what_is_saved_loads_the_same() {
    let (_dir, one) = store();
    let id = import(&one, "127.0.0.1:5000/x/y:t", b"content");
    let mut bytes = Vec::new();
    let tags = one.images.get(&id).unwrap().unwrap().tags.clone();
    archive::save(&one, &[(id.clone(), tags)], &mut bytes).unwrap();
    let (_dir, two) = store();
    let loaded = archive::load(&two, &mut &bytes[..], &|_, _| {}).unwrap();
    assert_eq!((loaded.len(), &loaded[0].id), (1, &id));
    assert_eq!(
        two.images.find("127.0.0.1:5000/x/y:t").unwrap().unwrap().id,
        id
    );
    // The layout alone, compressed, without Docker's manifest.
    let mut layout = Builder::new(Vec::new());
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if path != Path::new("manifest.json") {
            layout
                .append_data(&mut entry.header().clone(), path, &content[..])
                .unwrap();
        }
    }
    let (dir, three) = store();
    let compressed = zstd::encode_all(&layout.into_inner().unwrap()[..], 1).unwrap();
    assert_eq!(
        archive::load(&three, &mut &compressed[..], &|_, _| {}).unwrap()[0].id,
        id
    );
    assert!(archive::load(&three, &mut &b"this is not a tar"[..], &|_, _| {}).is_err());
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
}

/// Files by name, as a plain archive.
pub(super) fn archived(files: &[(&str, &[u8])]) -> Vec<u8> {
    let tar = files
        .iter()
        .fold(Tar::new(), |tar, (name, data)| tar.file(name, data));
    tar.done()
}

#[test]
fn attestations_and_other_machines_images_in_a_layout_are_left_out() {
    let layer = Tar::new().file("f", b"1").done();
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let (config, layer_id) = (
        format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(&layer)
        ),
        Digest::of(&layer),
    );
    let manifest = |config: &str, layer: &Digest| {
        format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":1}},"layers":[{{"digest":"{layer}","size":1}}]}}"#,
            Digest::of(config.as_bytes())
        )
    };
    let image = manifest(&config, &layer_id);
    let statement = r#"{"_type":"https://in-toto.io/Statement/v0.1"}"#;
    let attestation = manifest("{}", &Digest::of(statement.as_bytes()));
    let entry = |of: &str, os: &str, architecture: &str| {
        let digest = Digest::of(of.as_bytes());
        format!(
            r#"{{"digest":"{digest}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
        )
    };
    let load = |entries: &[String]| {
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        );
        let bytes = archived(&[
            ("index.json", index.as_bytes()),
            (&blob(&Digest::of(image.as_bytes())), image.as_bytes()),
            (
                &blob(&Digest::of(attestation.as_bytes())),
                attestation.as_bytes(),
            ),
            (&blob(&Digest::of(config.as_bytes())), config.as_bytes()),
            (&blob(&Digest::of(b"{}")), b"{}"),
            (
                &blob(&Digest::of(statement.as_bytes())),
                statement.as_bytes(),
            ),
            (&blob(&layer_id), &layer),
        ]);
        let (_dir, store) = store();
        archive::load(&store, &mut &bytes[..], &|_, _| {}).map(|loaded| loaded.len())
    };
    let ours = entry(&image, "linux", archive::architecture());
    let unknown = entry(&attestation, "unknown", "unknown");
    assert_eq!(load(&[ours, unknown.clone()]).unwrap(), 1);
    assert!(matches!(load(&[unknown]), Err(StoreError::Invalid(_))));
}

#[test]
fn an_archive_of_nothing_but_documents_does_not_fill_the_memory() {
    let (dir, store) = store();
    let large = vec![b' '; 8 << 20];
    let names: Vec<String> = (0..9).map(|n| format!("f{n}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &large[..])).collect();
    let compressed = zstd::encode_all(&archived(&files)[..], 1).unwrap();
    let error = archive::load(&store, &mut &compressed[..], &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("belong to no image"), "{error}");
    assert_eq!(left_in(&dir.path().join("tmp")), 0);
}

fn piped(program: &str, bytes: &[u8]) -> Vec<u8> {
    use std::process::{Command, Stdio};
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn archives_and_layers_come_compressed_by_any_usual_program() {
    let (_dir, one) = store();
    let id = import(&one, "a:1", &vec![b'x'; 300_000]);
    let mut saved = Vec::new();
    archive::save(
        &one,
        &[(id.clone(), vec![Reference::parse("a:1").unwrap()])],
        &mut saved,
    )
    .unwrap();
    let tar = Tar::new().file("f", &vec![b'y'; 300_000]).done();
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let (_dir, two) = store();
        let packed = piped(program, &saved);
        assert!(packed.len() < saved.len() / 10, "{program}");
        let loaded = archive::load(&two, &mut &packed[..], &|_, _| {}).unwrap();
        assert_eq!(loaded[0].id, id, "{program}");
        let layer = unpack(&two, &piped(program, &tar)).unwrap();
        assert_eq!(layer.diff_id, Digest::of(&tar), "{program}");
        // Two members, one behind the other, are one.
        let half = tar.len() / 2;
        let members = [piped(program, &tar[..half]), piped(program, &tar[half..])].concat();
        assert_eq!(
            unpack(&two, &members).unwrap().diff_id,
            Digest::of(&tar),
            "{program}"
        );
        // What is cut off is told.
        let packed = piped(program, &saved);
        assert!(archive::load(&two, &mut &packed[..packed.len() / 2], &|_, _| {}).is_err());
    }
}

#[test]
fn an_xz_stream_that_wants_a_gigabyte_is_refused() {
    let (_dir, store) = store();
    let tar = Tar::new().file("f", b"1").done();
    let child = std::process::Command::new("sh")
        .args(["-c", "head -c 2000 /dev/zero | xz --lzma2=dict=1GiB -c"])
        .output()
        .unwrap();
    let error = unpack(&store, &child.stdout).unwrap_err();
    assert!(
        error.to_string().contains("cannot be decompressed"),
        "{error}"
    );
    assert!(unpack(&store, &piped("xz", &tar)).is_ok());
}

/// An image for an architecture, without a name.
fn image_for(store: &Store, architecture: &str) -> Digest {
    let config = ImageConfig {
        os: "linux".into(),
        architecture: architecture.into(),
        ..ImageConfig::default()
    };
    let tar = Tar::new().file("f", architecture.as_bytes()).done();
    archive::import(store, &mut &tar[..], config).unwrap()
}

/// The files of an archive, in another order: what comes first decides nothing.
fn reordered(archive: &[u8], order: impl Fn(&str) -> usize) -> Vec<u8> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.push((path, content));
    }
    files.sort_by_key(|(path, _)| order(path));
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .filter(|(path, _)| !path.ends_with('/'))
        .map(|(path, content)| (path.as_str(), &content[..]))
        .collect();
    archived(&files)
}

#[test]
fn all_platforms_of_a_name_are_saved_and_loaded_in_any_order() {
    let (_dir, one) = store();
    let own = image_for(&one, archive::architecture());
    let (other, third) = (image_for(&one, "s390x"), image_for(&one, "riscv64"));
    let name = Reference::parse("a:1").unwrap();
    let images = [&own, &other].map(|id| (id.clone(), vec![name.clone()]));
    let alone = (third.clone(), vec![Reference::parse("b/c:2").unwrap()]);
    let mut saved = Vec::new();
    archive::save(&one, &[&images[..], &[alone]].concat(), &mut saved).unwrap();
    let orders: [&dyn Fn(&str) -> usize; 3] = [
        &|path: &str| usize::from(path.starts_with("blobs")),
        &|path: &str| usize::from(!path.starts_with("blobs")),
        &|path: &str| path.bytes().map(usize::from).sum::<usize>() % 7,
    ];
    for order in orders {
        let (_dir, two) = store();
        // What had the name goes without it.
        let before = import(&two, "a:1", b"before");
        let archive = reordered(&saved, order);
        let loaded = archive::load(&two, &mut &archive[..], &|_, _| {}).unwrap();
        let taken: Vec<_> = loaded.iter().flat_map(|one| &one.taken).collect();
        assert_eq!(taken, [&(name.clone(), before.clone())]);
        assert_eq!(two.images.named(&name), [own.clone(), other.clone()]);
        assert_eq!(two.images.find("b/c:2").unwrap().unwrap().id, third);
        assert!(two.images.get(&before).unwrap().unwrap().tags.is_empty());
    }
    let (_dir, two) = store();
    let load = |platform: &str| {
        let platform = gantry_oci::manifest::Platform::parse(platform).unwrap();
        let options = archive::LoadOptions {
            platform: Some(&platform),
            progress: &|_, _, _| {},
            admit: &|_| Ok(()),
        };
        archive::load_with(&two, &mut &saved[..], &options)
    };
    let loaded = load("linux/s390x").unwrap();
    assert_eq!((loaded.len(), &loaded[0].id), (1, &other));
    assert_eq!(two.images.named(&name), [other]);
    let error = load("linux/arm64").unwrap_err();
    assert_eq!(
        error.to_string(),
        "no images providing the requested platform(s) found: [linux/arm64]"
    );
}

#[test]
fn an_archive_has_dockers_files() {
    let (_dir, one) = store();
    let id = import(&one, "some/box:1", b"content");
    let layer = one.images.get(&id).unwrap().unwrap().diff_ids[0].clone();
    let mut saved = Vec::new();
    archive::save(
        &one,
        &[(id.clone(), vec![Reference::parse("some/box:1").unwrap()])],
        &mut saved,
    )
    .unwrap();
    let mut documents = std::collections::HashMap::new();
    for entry in tar::Archive::new(&saved[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        documents.insert(path, String::from_utf8_lossy(&text).into_owned());
    }
    let parsed = |name: &str| serde_json::from_str::<serde_json::Value>(&documents[name]).unwrap();
    assert_eq!(
        parsed("repositories"),
        serde_json::json!({"some/box": {"1": layer.hex()}})
    );
    let list = parsed("manifest.json");
    assert_eq!(list[0]["Config"], format!("blobs/sha256/{}", id.hex()));
    assert_eq!(list[0]["RepoTags"], serde_json::json!(["some/box:1"]));
    assert_eq!(
        list[0]["LayerSources"][layer.as_str()]["digest"],
        layer.as_str()
    );
    let index = parsed("index.json");
    let annotations = &index["manifests"][0]["annotations"];
    assert_eq!(
        annotations["io.containerd.image.name"],
        "docker.io/some/box:1"
    );
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
    assert!(documents.contains_key("oci-layout") && documents.contains_key("blobs/sha256/"));
    assert_eq!(
        Digest::of(documents[&format!("blobs/sha256/{}", id.hex())].as_bytes()),
        id
    );
}

#[test]
fn progress_is_told_while_a_layer_passes() {
    let (_dir, one) = store();
    let id = import(&one, "a:1", &vec![b'x'; 3 << 20]);
    let layer = one.images.get(&id).unwrap().unwrap().diff_ids[0].clone();
    let mut saved = Vec::new();
    archive::save(
        &one,
        &[(id, vec![Reference::parse("a:1").unwrap()])],
        &mut saved,
    )
    .unwrap();
    let (_dir, two) = store();
    let told = std::cell::RefCell::new(Vec::new());
    let options = archive::LoadOptions {
        platform: None,
        progress: &|name, current, total| told.borrow_mut().push((name.to_owned(), current, total)),
        admit: &|_| Ok(()),
    };
    archive::load_with(&two, &mut &saved[..], &options).unwrap();
    let told_first = told.take();
    assert!((4..9).contains(&told_first.len()), "{told_first:?}");
    assert!(
        told_first
            .iter()
            .all(|(name, _, _)| name == &layer.hex()[..12])
    );
    let (_, current, total) = told_first.last().unwrap();
    assert_eq!(current, total);
    // What is there does not pass again.
    archive::load_with(&two, &mut &saved[..], &options).unwrap();
    assert!(told.take().is_empty());
}
