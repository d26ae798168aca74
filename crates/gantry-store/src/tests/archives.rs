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
