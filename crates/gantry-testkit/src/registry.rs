//! The distribution registry of Debian's package, on a port of its own.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::ran;
use crate::tokens::TokenServer;
use crate::until;

/// `me:secret`, as htpasswd (1) writes it with `-B`.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

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

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener
        .local_addr()
        .expect("a socket has an address")
        .to_string()
}
