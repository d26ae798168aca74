use super::keys::Key;
use super::{Policy, judge, matches};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gantry_oci::{Digest, Reference};
use gantry_registry::Signature;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What comes before the key's own bytes in a SubjectPublicKeyInfo (RFC 5480, RFC 8410).
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const EDWARDS: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

fn pem(file: &Path, prefix: &[u8], key: &[u8]) {
    let text = STANDARD.encode([prefix, key].concat());
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    let text = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        lines.join("\n")
    );
    std::fs::write(file, text).unwrap();
}

/// A key pair of P-256, and the file of its public half.
fn ecdsa(dir: &Path, name: &str) -> (EcdsaKeyPair, PathBuf) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random);
    let (pair, file) = (pair.unwrap(), dir.join(name));
    pem(&file, P256, pair.public_key().as_ref());
    (pair, file)
}

fn payload(reference: &str, digest: &Digest) -> String {
    serde_json::json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
}

fn signed(pair: &EcdsaKeyPair, payload: &str) -> Signature {
    let signature = pair.sign(&SystemRandom::new(), payload.as_bytes()).unwrap();
    Signature {
        payload: Bytes::from(payload.to_owned()),
        signature: STANDARD.encode(signature),
    }
}

#[test]
fn a_signature_counts_for_its_image_by_its_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (pair, file) = ecdsa(dir.path(), "ours.pub");
    let (other, _) = ecdsa(dir.path(), "other.pub");
    let keys = [Key::read(&file).unwrap()];
    let reference = Reference::parse("reg.example/team/app:1").unwrap();
    let digest = Digest::of(b"manifest");
    let judged = |signature: &Signature| judge(signature, &keys, &reference, &digest);
    let good = payload("reg.example/team/app", &digest);
    let right = signed(&pair, &good);
    assert_eq!(judged(&right).unwrap(), file);

    let refused = |signature: &Signature, words: &str| {
        let why = judged(signature).unwrap_err();
        assert!(why.contains(words), "{why}");
    };
    refused(&signed(&other, &good), "by another key");
    let elsewhere = payload("reg.example/team/other", &digest);
    refused(&signed(&pair, &elsewhere), "for the repository");
    let another = payload("reg.example/team/app", &Digest::of(b"another"));
    refused(&signed(&pair, &another), "a signature for sha256:");
    refused(
        &signed(&pair, &good.replace("cosign container", "some")),
        "of the kind",
    );
    refused(&signed(&pair, "[1]"), "of what is no image");
    // A payload that was changed after it was signed, and a signature that was.
    let mut changed = right.clone();
    changed.payload = Bytes::from(good.replace("null", "{}  "));
    refused(&changed, "by another key");
    let mut changed = right.clone();
    changed.signature = changed.signature.replace(&right.signature[20..24], "AAAA");
    refused(&changed, "by another key");
    changed.signature = "%".to_owned();
    refused(&changed, "no base64");
}

#[test]
fn keys_of_other_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let file = dir.path().join("edwards.pub");
    pem(&file, EDWARDS, pair.public_key().as_ref());
    let key = Key::read(&file).unwrap();
    assert!(key.signed(b"text", pair.sign(b"text").as_ref()));
    assert!(!key.signed(b"texts", pair.sign(b"text").as_ref()));

    // As other programs write and use them.
    let run = |args: &[&str]| {
        let mut openssl = Command::new("openssl");
        let output = openssl.args(args).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    std::fs::write(dir.path().join("text"), "text").unwrap();
    for (name, kind) in [
        ("rsa", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("ec", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ] {
        run(&[&["genpkey", "-out", name, "-algorithm"], kind].concat());
        let public = format!("{name}.pub");
        run(&["pkey", "-in", name, "-pubout", "-out", &public]);
        run(&[
            "dgst",
            "-sha256",
            "-sign",
            name,
            "-out",
            "signature",
            "text",
        ]);
        let signature = std::fs::read(dir.path().join("signature")).unwrap();
        let key = Key::read(&dir.path().join(&public)).unwrap();
        assert!(key.signed(b"text", &signature), "{name}");
        assert!(!key.signed(b"texts", &signature), "{name}");
        // A private key is not asked for, and not taken.
        assert!(Key::read(&dir.path().join(name)).is_err());
    }
    let curve = ["-pkeyopt", "ec_paramgen_curve:P-521"];
    run(&[&["genpkey", "-out", "x", "-algorithm", "EC"], &curve[..]].concat());
    run(&["pkey", "-in", "x", "-pubout", "-out", "x.pub"]);
    assert!(Key::read(&dir.path().join("x.pub")).is_err());
    assert!(Key::read(&dir.path().join("text")).is_err());
    assert!(Key::read(&dir.path().join("nothing")).is_err());
}

#[test]
fn patterns() {
    let is = |pattern: &str, name: &str| matches(pattern, &Reference::parse(name).unwrap());
    assert!(is("reg.example/team/*", "reg.example/team/app:1"));
    assert!(!is("reg.example/team/*", "reg.example/team/app/more"));
    assert!(is("reg.example/team/**", "reg.example/team/app/more"));
    assert!(!is("reg.example/team/*", "reg.example/teams/app"));
    // A dot is a dot, and a pattern is for the whole name.
    assert!(!is("reg.example/a", "regxexample.io/a"));
    assert!(!is("reg.example/a", "evil.io/reg.example/a"));
    assert!(!is("reg.example/a", "reg.example/ab"));
    assert!(is("busybox", "busybox") && is("docker.io/library/*", "busybox"));
    assert!(is("**", "anything/at:all"));
}

fn policy(dir: &Path, text: &str) -> Result<Policy, String> {
    let file = dir.join("policy.json");
    std::fs::write(&file, text).unwrap();
    Policy::open(Some(file)).map_err(|error| error.message)
}

#[test]
fn a_policy_that_cannot_be_used_lets_nothing_in() {
    let dir = tempfile::tempdir().unwrap();
    let (_, key) = ecdsa(dir.path(), "ours.pub");
    for (bad, words) in [
        ("", "cannot be used"),
        ("{}", "default"),
        (r#"{"default": "maybe"}"#, "maybe"),
        (r#"{"default": "require-signatures"}"#, "need a rule"),
        (r#"{"default": "allow", "rule": []}"#, "rule"),
        (
            r#"{"default": "allow", "rules": [{"repositories": [], "action": "allow"}]}"#,
            "no \"repositories\"",
        ),
        (
            r#"{"default": "allow", "rules": [{"repositories": ["a"], "action": "require-signatures"}]}"#,
            "no \"keys\"",
        ),
        (
            r#"{"default": "allow", "rules": [{"repositories": ["a"], "action": "allow", "keys": ["/k"]}]}"#,
            "does not require",
        ),
        (
            r#"{"default": "allow", "rules": [{"repositories": ["a"], "action": "require-signatures", "keys": ["/no/key"]}]}"#,
            "/no/key",
        ),
    ] {
        let why = policy(dir.path(), bad).unwrap_err();
        assert!(why.contains(words), "{bad}: {why}");
    }
    let good = format!(
        r#"{{"default": "refuse", "rules": [
            {{"repositories": ["signed/*"], "action": "require-signatures", "keys": [{key:?}]}},
            {{"repositories": ["open/*"], "action": "allow"}}]}}"#
    );
    let policy = policy(dir.path(), &good).unwrap();
    let name = |text: &str| {
        let reference = Reference::parse(text).unwrap();
        let admitted = policy.admit_name(&reference, "a load");
        admitted.map_err(|error| error.message)
    };
    assert!(name("open/a").is_ok());
    let why = name("signed/a").unwrap_err();
    assert!(why.contains("rule 1, \"signed/*\","), "{why}");
    assert!(name("other").unwrap_err().contains("the default"));
    // It is read anew each time; broken or gone, it refuses.
    std::fs::write(dir.path().join("policy.json"), "{").unwrap();
    assert!(name("open/a").unwrap_err().contains("no image is let in"));
    std::fs::remove_file(dir.path().join("policy.json")).unwrap();
    assert!(name("open/a").is_err());
    assert!(
        Policy::default()
            .admit_name(&Reference::parse("a").unwrap(), "a load")
            .is_ok()
    );
}
