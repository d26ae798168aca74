//! Registries with TLS: whom the daemon trusts, and who it says it is (`certs.d`).

use gantry_testkit::{Certificates, Engine, Options, Registry};
use std::path::PathBuf;

struct Setting {
    engine: Engine,
    _registry: Registry,
    certificates: Certificates,
    /// The registry's folder in `certs.d`.
    own: PathBuf,
    image: String,
    _folder: tempfile::TempDir,
}

fn setting(clients: bool) -> Setting {
    let folder = tempfile::tempdir().unwrap();
    let started = Registry::start_with_authority(&folder.path().join("registry"), clients);
    let (registry, certificates) = started;
    // An address of this machine that is not insecure for being one: connecting to 0.0.0.0 reaches 127.0.0.1.
    let host = registry.address().replace("127.0.0.1", "0.0.0.0");
    let all = folder.path().join("certs.d");
    let engine = Engine::with(Options {
        flags: vec!["--registry-certificates".into(), all.display().to_string()],
        ..Options::default()
    });
    engine.import(&gantry_testkit::busybox_tar(), "busybox");
    let image = format!("{host}/box:1");
    engine.gantry(&["tag", "busybox", &image]).ok();
    let own = all.join(&host);
    std::fs::create_dir_all(&own).unwrap();
    Setting {
        engine,
        _registry: registry,
        certificates,
        own,
        image,
        _folder: folder,
    }
}

impl Setting {
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.own.join(name), text).unwrap();
    }

    fn goes_and_comes(&self) {
        self.engine.gantry(&["push", &self.image]).ok();
        self.engine.gantry(&["rmi", &self.image]).ok();
        self.engine.gantry(&["pull", &self.image]).ok();
        let said = self
            .engine
            .gantry(&["run", "--rm", &self.image, "echo", "tls"]);
        assert_eq!(said.ok(), "tls");
    }

    fn push_fails(&self) -> String {
        self.engine.gantry(&["push", &self.image]).fails_with(1)
    }
}

#[test]
fn an_authority_of_our_own() {
    let setting = setting(false);
    let host = setting.image.split('/').next().unwrap();
    let why = setting.push_fails();
    let unknown =
        "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(
        why.ends_with(&format!("Get \"https://{host}/v2/\": {unknown}")),
        "{why}"
    );
    // It counts as soon as it is there.
    setting.write("ca.crt", &setting.certificates.authority);
    setting.goes_and_comes();
}

#[test]
fn a_registry_that_knows_its_clients() {
    let setting = setting(true);
    let certificates = &setting.certificates;
    setting.write("ca.crt", &certificates.authority);
    let why = setting.push_fails();
    // Which of the two words it is, the registry chooses.
    let words = ["bad certificate", "certificate required"];
    let told = words
        .iter()
        .any(|word| why.ends_with(&format!("remote error: tls: {word}")));
    assert!(told, "{why}");
    setting.write("client.cert", &certificates.client);
    let why = setting.push_fails();
    let missing = "missing key client.key for client certificate client.cert. CA certificates must use the extension .crt";
    assert!(why.ends_with(missing), "{why}");
    setting.write("client.key", &certificates.client_key);
    setting.goes_and_comes();
}
