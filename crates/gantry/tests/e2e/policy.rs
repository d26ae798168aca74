//! The image policy: images that must be signed, from a real registry, by keys made here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_testkit::{Engine, Options, Registry, busybox_tar, ran};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING as P256, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// What comes before the point of a P-256 key in a SubjectPublicKeyInfo (RFC 5480).
const INFO: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key pair, and the file of its public half as cosign writes it.
fn key(folder: &Path, name: &str) -> (EcdsaKeyPair, PathBuf) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&P256, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&P256, pkcs8.as_ref(), &random).unwrap();
    let text = STANDARD.encode([INFO, pair.public_key().as_ref()].concat());
    let (first, rest) = text.split_at(64);
    let file = folder.join(name);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{rest}\n-----END PUBLIC KEY-----\n");
    std::fs::write(&file, pem).unwrap();
    (pair, file)
}

fn sha256(bytes: &[u8]) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Puts a signature of `signed` beside the image whose digest is `beside`, as `cosign sign --key` does.
fn sign(registry: &Registry, folder: &Path, pair: &EcdsaKeyPair, signed: &str, beside: &str) {
    let layout = folder.join("signature");
    std::fs::remove_dir_all(&layout).ok();
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, bytes: &[u8]| -> Value {
        let hex = sha256(bytes);
        std::fs::write(blobs.join(&hex), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": format!("{}/team/app", registry.address())},
            "image": {"docker-manifest-digest": signed},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string();
    let signature = pair.sign(&SystemRandom::new(), payload.as_bytes()).unwrap();
    let mut layer = blob(
        "application/vnd.dev.cosign.simplesigning.v1+json",
        payload.as_bytes(),
    );
    layer["annotations"] =
        json!({"dev.cosignproject.cosign/signature": STANDARD.encode(signature)});
    let config = json!({
        "architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    })
    .to_string();
    let config = blob(
        "application/vnd.oci.image.config.v1+json",
        config.as_bytes(),
    );
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let mut entry = blob(kind, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "s"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    std::fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let name = format!("team/app:{}.sig", beside.replace(':', "-"));
    registry.push(&format!("oci:{}:s", layout.display()), &name, &[]);
}

/// Imports an image, pushes it as a tag of `team/app`, and says by which digest the registry has it.
fn pushed(engine: &Engine, registry: &Registry, tag: &str) -> String {
    let tar = busybox_tar();
    let change = format!("LABEL tag={tag}");
    let (tar, name) = (tar.to_string_lossy(), format!("local/{tag}"));
    engine
        .gantry(&["import", "--change", &change, &tar, &name])
        .ok();
    let file = engine.folder().join("image.tar");
    engine
        .gantry(&["save", "-o", &file.to_string_lossy(), &name])
        .ok();
    let to = format!("team/app:{tag}");
    registry.push(&format!("docker-archive:{}", file.display()), &to, &[]);
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    skopeo.arg(format!("docker://{}/{to}", registry.address()));
    ran(skopeo, b"", Duration::from_secs(60)).ok()
}

struct Bench {
    policy: PathBuf,
    _folder: tempfile::TempDir,
    engine: Engine,
    registry: Registry,
    ours: EcdsaKeyPair,
    others: EcdsaKeyPair,
}

impl Bench {
    /// A daemon whose policy requires a signature by `ours` for `team/*`.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("daemon.json");
        let policy = folder.path().join("policy.json");
        std::fs::write(&policy, r#"{"default": "allow"}"#).unwrap();
        std::fs::write(&config, json!({"image-policy": policy}).to_string()).unwrap();
        let engine = Engine::with(Options {
            flags: vec![
                "--config-file".into(),
                config.to_string_lossy().into_owned(),
            ],
            ..Options::default()
        });
        let registry = Registry::start(&engine.folder().join("registry"));
        let (ours, file) = key(engine.folder(), "ours.pub");
        let (others, _) = key(engine.folder(), "others.pub");
        let pattern = format!("{}/team/*", registry.address());
        let rules = json!({"default": "allow", "rules": [
            {"repositories": [pattern], "action": "require-signatures", "keys": [file]},
            {"repositories": ["unwanted/*"], "action": "refuse"},
        ]});
        std::fs::write(&policy, rules.to_string()).unwrap();
        Self {
            policy,
            _folder: folder,
            engine,
            registry,
            ours,
            others,
        }
    }

    fn refused(&self, tag: &str, words: &str) {
        let name = format!("{}/team/app:{tag}", self.registry.address());
        let told = self.engine.gantry(&["pull", &name]).fails_with(1);
        assert!(
            told.contains("is refused by the image policy (rule 1, "),
            "{told}"
        );
        assert!(told.contains(words), "{told}");
        assert!(told.contains("ours.pub"), "{told}");
        self.engine
            .gantry(&["image", "inspect", &name])
            .fails_with(1);
    }
}

#[test]
fn images_that_must_be_signed_come_by_the_right_signature_alone() {
    let bench = Bench::new();
    let Bench {
        engine,
        registry,
        ours,
        others,
        ..
    } = &bench;
    let unsigned = pushed(engine, registry, "unsigned");
    bench.refused("unsigned", "the registry has none for sha256:");

    let wrong = pushed(engine, registry, "wrong");
    sign(registry, engine.folder(), others, &wrong, &wrong);
    bench.refused("wrong", "found: a signature by another key");

    let moved = pushed(engine, registry, "moved");
    sign(registry, engine.folder(), ours, &unsigned, &moved);
    bench.refused(
        "moved",
        &format!("a signature for {unsigned}, not for {moved}"),
    );

    let right = pushed(engine, registry, "right");
    sign(registry, engine.folder(), ours, &right, &right);
    let name = format!("{}/team/app:right", registry.address());
    engine.gantry(&["pull", &name]).ok();
    engine.gantry(&["run", "--rm", &name, "true"]).ok();
    let by_digest = format!("{}/team/app@{right}", registry.address());
    engine.gantry(&["pull", &by_digest]).ok();
    // `run` and `create` pull by the same way.
    let name = format!("{}/team/app:unsigned", registry.address());
    let told = engine
        .gantry(&["run", "--rm", &name, "true"])
        .fails_with(125);
    assert!(told.contains("refused by the image policy"), "{told}");
    // What is here already is judged at a pull, too.
    std::fs::write(&bench.policy, r#"{"default": "refuse"}"#).unwrap();
    let name = format!("{}/team/app:right", registry.address());
    let told = engine.gantry(&["pull", &name]).fails_with(1);
    assert!(told.contains("refused by the image policy"), "{told}");
}

#[test]
fn a_load_or_an_import_brings_no_signature() {
    let bench = Bench::new();
    let (engine, registry) = (&bench.engine, &bench.registry);
    let tar = busybox_tar();
    let tar = tar.to_string_lossy();
    let signed = format!("{}/team/app:1", registry.address());
    engine.gantry(&["import", &tar, "free:1"]).ok();
    for name in [signed.as_str(), "unwanted/app:1"] {
        let told = engine.gantry(&["import", &tar, name]).fails_with(1);
        assert!(told.contains("refused by the image policy"), "{told}");
        // By hand it can be named so: that is the user's own word.
        engine.gantry(&["tag", "free:1", name]).ok();
        let file = engine.folder().join("saved.tar");
        let file = file.to_string_lossy();
        engine.gantry(&["save", "-o", &file, "free:1", name]).ok();
        engine.gantry(&["rmi", name]).ok();
        let told = engine.gantry(&["load", "-i", &file]).fails_with(1);
        assert!(told.contains("refused by the image policy"), "{told}");
        engine.gantry(&["image", "inspect", name]).fails_with(1);
    }
    // A policy that cannot be read lets nothing in, and says so.
    std::fs::write(&bench.policy, "{").unwrap();
    let told = engine.gantry(&["import", &tar, "free:2"]).fails_with(1);
    assert!(told.contains("no image is let in"), "{told}");
}
