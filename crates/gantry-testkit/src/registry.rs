//! The distribution registry of Debian's package, on a port of its own.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::ran;
use crate::tokens::TokenServer;
use crate::until;

/// `me:secret`, as htpasswd (1) writes it with `-B`.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// What belongs to a registry with TLS.
#[derive(Debug)]
pub struct Certificates {
    /// The authority that signed all of them, PEM.
    pub authority: String,
    /// A client's certificate and key, PEM.
    pub client: String,
    pub client_key: String,
}

/// A registry that serves until it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: String,
    folder: PathBuf,
    server: Child,
}

impl Registry {
    /// Starts one without TLS that keeps its data in `folder`.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, "", "")
    }

    /// Starts one with TLS; gives it and its certificate.
    pub fn start_tls(folder: &Path) -> (Self, PathBuf) {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=127.0.0.1",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        ran(openssl, b"", Duration::from_secs(60)).ok();
        let tls = format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            certificate.display(),
            key.display()
        );
        (Self::start_with(folder, &tls, ""), certificate)
    }

    /// Starts one with a certificate of an authority of its own, for 127.0.0.1 and 0.0.0.0; `clients`: it asks its clients
    /// for theirs.
    pub fn start_with_authority(folder: &Path, clients: bool) -> (Self, Certificates) {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let key = KeyPair::generate().expect("a key can be made");
        let mut authority = params(&[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = authority.self_signed(&key).expect("it signs itself").pem();
        let issuer = Issuer::new(authority, key);
        let signed = |names: &[&str]| {
            let key = KeyPair::generate().expect("a key can be made");
            let certificate = params(names).signed_by(&key, &issuer);
            let certificate = certificate.expect("the authority signs").pem();
            (certificate, key.serialize_pem())
        };
        let (certificate, key) = signed(&["127.0.0.1", "0.0.0.0"]);
        let (client, client_key) = signed(&["client.test"]);
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file can be written");
            path.display().to_string()
        };
        let mut tls = format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            write("certificate.pem", &certificate),
            write("key.pem", &key)
        );
        if clients {
            let authority = write("authority.pem", &pem);
            tls.push_str(&format!("    clientcas:\n      - {authority}\n"));
        }
        let certificates = Certificates {
            authority: pem,
            client,
            client_key,
        };
        (Self::start_with(folder, &tls, ""), certificates)
    }

    /// Starts one with further settings: `http` is put into the section of that name, `more` behind all.
    pub fn start_with(folder: &Path, http: &str, more: &str) -> Self {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let address = free_address();
        let config = folder.join("config.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{http}{more}",
                folder.join("data").display()
            ),
        )
        .expect("a file can be written");
        let log = std::fs::File::create(folder.join("log")).expect("a file can be made");
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be cloned"))
            .stderr(log)
            .spawn()
            .expect("docker-registry is needed: Debian's package of that name");
        let registry = Self {
            address,
            folder: folder.to_owned(),
            server,
        };
        until("the registry listens", Duration::from_secs(20), || {
            TcpStream::connect(&registry.address).is_ok()
        });
        registry
    }

    /// Starts one that lets in `me` with the password `secret`, and nobody else.
    pub fn start_private(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let file = folder.join("htpasswd");
        std::fs::write(&file, HTPASSWD).expect("a file can be written");
        let auth = format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            file.display()
        );
        Self::start_with(folder, "", &auth)
    }

    /// Starts one that lets in whom a token server lets in.
    pub fn start_with_tokens(folder: &Path) -> (Self, TokenServer) {
        let tokens = TokenServer::start(folder);
        let registry = Self::start_with(folder, "", &tokens.settings());
        (registry, tokens)
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Pushes an image by skopeo; `from` in skopeo's spelling (`docker-archive:FILE`, `oci-archive:FILE`).
    pub fn push(&self, from: &str, name: &str, more: &[&str]) {
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .args(more)
            .arg(from)
            .arg(format!("docker://{}/{name}", self.address))
            .env("TMPDIR", &self.folder);
        ran(skopeo, b"", Duration::from_secs(120)).ok();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("the names are some")
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener
        .local_addr()
        .expect("a socket has an address")
        .to_string()
}
