//! Pulls from a small registry on loopback that can be told to misbehave.

use super::Puller;
use crate::images::PullRequest;
use crate::images::policy::Policy;
use crate::images::transfers::{TransferLimits, Transfers};
use gantry_api::progress::Progress;
use gantry_oci::{Digest, Reference};
use gantry_registry::{Registry, RegistryOptions};
use gantry_store::Store;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// What a blob does instead of coming whole.
#[derive(Clone, Copy, PartialEq)]
enum Trick {
    None,
    /// Half of it, then the connection ends.
    Break,
    /// Half of it, then silence.
    Hang,
    /// Other bytes of the same length.
    Lie,
    /// The right bytes, slowly.
    Slow,
}

struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    layers: Vec<Vec<u8>>,
}

/// A tar with one file.
fn tar_of(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, bytes).unwrap();
    tar.into_inner().unwrap()
}

/// Serves an image of five layers; the third one plays the trick. `diff_id`: what the configuration says of the third.
fn serve(trick: Trick, diff_id: Option<Digest>) -> Server {
    let layers: Vec<_> = (0..5u8)
        .map(|n| tar_of(&format!("file{n}"), &vec![n; 400_000 + usize::from(n)]))
        .collect();
    let mut diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    diff_ids[2] = diff_id.unwrap_or_else(|| diff_ids[2].clone());
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let entry = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": Digest::of(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": entry("config.v1+json", &config),
        "layers": layers.iter().map(|layer| entry("layer.v1.tar", layer)).collect::<Vec<_>>(),
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut documents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    documents.insert("/v2/".into(), b"{}".to_vec());
    documents.insert("/v2/team/app/manifests/1".into(), manifest);
    for bytes in layers.iter().chain([&config]) {
        let path = format!("/v2/team/app/blobs/{}", Digest::of(bytes));
        documents.insert(path, bytes.clone());
    }
    let tricky = Digest::of(&layers[2]).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (kept, documents) = (asked.clone(), Arc::new(documents));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (kept, documents, tricky) = (kept.clone(), documents.clone(), tricky.clone());
            std::thread::spawn(move || answer(stream, &documents, &kept, &tricky, trick));
        }
    });
    Server {
        address,
        asked,
        layers,
    }
}

fn answer(
    mut stream: TcpStream,
    documents: &BTreeMap<String, Vec<u8>>,
    asked: &Mutex<Vec<String>>,
    tricky: &str,
    trick: Trick,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = Vec::new();
    reader.read_until(b'\n', &mut first).ok()?;
    if first.first() == Some(&0x16) {
        return stream.write_all(b"HTTP/1.0 400 No TLS\r\n\r\n").ok();
    }
    let path = String::from_utf8_lossy(&first)
        .split(' ')
        .nth(1)?
        .to_owned();
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    asked.lock().unwrap().push(path.clone());
    let Some(bytes) = documents.get(&path) else {
        let none = b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        return stream.write_all(none).ok();
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let half = bytes.len() / 2;
    match trick {
        Trick::Break if path.ends_with(tricky) => stream.write_all(&bytes[..half]).ok(),
        Trick::Hang if path.ends_with(tricky) => {
            stream.write_all(&bytes[..half]).ok()?;
            std::thread::sleep(Duration::from_secs(30));
            None
        }
        Trick::Lie if path.ends_with(tricky) => {
            let mut other = bytes.clone();
            other[600] ^= 1;
            stream.write_all(&other).ok()
        }
        Trick::Slow => {
            for piece in bytes.chunks(100_000) {
                std::thread::sleep(Duration::from_millis(30));
                stream.write_all(piece).ok()?;
            }
            Some(())
        }
        _ => stream.write_all(bytes).ok(),
    }
}

struct Bench {
    root: tempfile::TempDir,
    puller: Arc<Puller>,
}

fn bench() -> Bench {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(root.path()).unwrap());
    let options = RegistryOptions {
        idle_timeout: Duration::from_millis(400),
        certificate_folder: None,
        pause: Duration::from_millis(100),
        ..RegistryOptions::default()
    };
    Bench {
        root,
        puller: Arc::new(Puller::new(
            store,
            Registry::new(options),
            Arc::new(Transfers::new(TransferLimits::default())),
            Policy::default(),
        )),
    }
}

impl Bench {
    /// Pulls and gathers the lines.
    async fn pull(&self, name: &str) -> (crate::Result<()>, Vec<Progress>) {
        let (sender, mut receiver) = mpsc::channel(64);
        let request = PullRequest {
            reference: name.to_owned(),
            platform: "linux/amd64".into(),
            ..PullRequest::default()
        };
        let puller = self.puller.clone();
        let work = async move {
            let reference = gantry_oci::Reference::parse(&request.reference);
            let reference = reference.map_err(|e| crate::Error::invalid(e.to_string()))?;
            puller.pull(&reference, &request, &sender).await
        };
        let lines = async {
            let mut lines = Vec::new();
            while let Some(line) = receiver.recv().await {
                lines.push(line);
            }
            lines
        };
        tokio::join!(work, lines)
    }

    /// Files that are not yet, or no more, anything.
    fn unfinished(&self) -> usize {
        entries(&self.root.path().join("tmp"))
    }
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

impl Server {
    fn name(&self) -> String {
        format!("{}/team/app:1", self.address)
    }

    fn asked_for(&self, bytes: &[u8]) -> usize {
        let digest = Digest::of(bytes).to_string();
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|path| path.ends_with(&digest)).count()
    }
}

/// The steps of one layer, each once.
fn steps(lines: &[Progress], layer: &[u8]) -> Vec<String> {
    let digest = Digest::of(layer);
    let own = lines
        .iter()
        .filter(|line| line.id.as_deref() == Some(&digest.hex()[..12]));
    let mut steps: Vec<String> = own.filter_map(|line| line.status.clone()).collect();
    steps.dedup();
    steps
}

fn statuses(lines: &[Progress]) -> Vec<&str> {
    let plain = lines.iter().filter(|line| line.progress_detail.is_none());
    plain.filter_map(|line| line.status.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_once() {
    let (bench, server) = (bench(), serve(Trick::None, None));
    let name = server.name();
    let (done, lines) = bench.pull(&name).await;
    done.unwrap();
    assert_eq!(lines[0].id.as_deref(), Some("1"));
    let manifest = bench.puller.store.images.find(&name).unwrap().unwrap();
    let digest = manifest.digests[0].digest.clone().unwrap();
    assert_eq!(
        statuses(&lines),
        [
            "Pulling from team/app".to_owned(),
            format!("Digest: {digest}"),
            format!("Status: Downloaded newer image for {name}"),
        ]
    );
    for (n, layer) in server.layers.iter().enumerate() {
        let mut steps = steps(&lines, layer);
        steps.retain(|step| step != "Waiting");
        let all = [
            "Pulling fs layer",
            "Downloading",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ];
        assert_eq!(steps, all);
        let file = bench
            .puller
            .store
            .layers
            .path(&Digest::of(layer))
            .join(format!("file{n}"));
        assert_eq!(std::fs::read(file).unwrap(), vec![n as u8; 400_000 + n]);
    }
    assert_eq!(manifest.tags[0].familiar(), name);

    let (done, lines) = bench.pull(&name).await;
    done.unwrap();
    let none: [&str; 0] = [];
    assert_eq!(steps(&lines, &server.layers[0]), none, "the image is here");
    assert_eq!(
        *statuses(&lines).last().unwrap(),
        format!("Status: Image is up to date for {name}")
    );
    assert!(
        server
            .layers
            .iter()
            .all(|layer| server.asked_for(layer) == 1)
    );
    assert_eq!(bench.unfinished(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_at_once_share_the_layers() {
    let (bench, server) = (bench(), serve(Trick::Slow, None));
    let name = server.name();
    let (one, two) = tokio::join!(bench.pull(&name), bench.pull(&name));
    one.0.unwrap();
    two.0.unwrap();
    assert!(
        server
            .layers
            .iter()
            .all(|layer| server.asked_for(layer) == 1)
    );
    assert_eq!(bench.unfinished(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_download_at_a_time() {
    let (bench, server) = (bench(), serve(Trick::Slow, None));
    bench.puller.transfers.limit(TransferLimits {
        downloads: 1,
        ..TransferLimits::default()
    });
    let (done, lines) = bench.pull(&server.name()).await;
    done.unwrap();
    let waiting = |layer: &&Vec<u8>| steps(&lines, layer).contains(&"Waiting".to_owned());
    let waited = server.layers.iter().filter(waiting).count();
    assert_eq!(waited, server.layers.len() - 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_leaves_nothing_half_made() {
    let wrong = Some(Digest::of(b"another tar"));
    for (trick, diff_id, words) in [
        (Trick::Break, None, "unexpected EOF"),
        (Trick::Hang, None, "the registry sent nothing"),
        (
            Trick::Lie,
            None,
            "filesystem layer verification failed for digest",
        ),
        (
            Trick::None,
            wrong,
            "filesystem layer verification failed for digest",
        ),
    ] {
        let (bench, server) = (bench(), serve(trick, diff_id));
        let (done, lines) = bench.pull(&server.name()).await;
        let message = done.unwrap_err().message;
        let steps = steps(&lines, &server.layers[2]);
        let retried = steps.contains(&"Retrying in 1 second".to_owned());
        assert_eq!(retried, !words.contains("verification"), "{steps:?}");
        let known = message.contains(words) || message.contains("end of file");
        assert!(known, "{message}");
        let store = &bench.puller.store;
        assert!(store.images.all().unwrap().is_empty());
        let layer = Digest::of(&server.layers[2]);
        assert!(store.layers.get(&layer).unwrap().is_none());
        assert!(!store.layers.path(&layer).exists());
        until_clean(&bench).await;
    }
}

/// Other layers of a failed pull may still be on their way out.
async fn until_clean(bench: &Bench) {
    for _ in 0..100 {
        if bench.unfinished() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} unfinished files stay", bench.unfinished());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_pull() {
    let (bench, server) = (bench(), serve(Trick::Hang, None));
    let name = server.name();
    let pull = tokio::time::timeout(Duration::from_millis(300), bench.pull(&name));
    assert!(pull.await.is_err());
    until_clean(&bench).await;
    let store = &bench.puller.store;
    assert!(store.images.all().unwrap().is_empty());
    assert!(
        store
            .layers
            .get(&Digest::of(&server.layers[2]))
            .unwrap()
            .is_none()
    );
    // The layer is free for the next one, which takes what is there already.
    let (done, lines) = bench.pull(&name).await;
    done.unwrap_err();
    assert_eq!(steps(&lines, &server.layers[0]), ["Already exists"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_docker_s() {
    let (bench, server) = (bench(), serve(Trick::None, None));
    let absent = format!("{}/team/app:2", server.address);
    let unknown = format!("manifest for {absent} not found: manifest unknown: manifest unknown");
    let nobody =
        "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused";
    for (name, words) in [
        (absent.as_str(), unknown.as_str()),
        ("127.0.0.1:1/tx:latest", nobody),
        ("a:b:c", "invalid reference format"),
    ] {
        let (done, lines) = bench.pull(name).await;
        assert_eq!(done.unwrap_err().message, words);
        assert!(lines.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_image_says_so() {
    let bench = bench();
    let (sender, mut receiver) = mpsc::channel(64);
    let name = Reference::parse("hello-world:latest").unwrap();
    bench
        .puller
        .use_builtin(&name, "no network", &sender)
        .await
        .unwrap();
    drop(sender);
    let mut lines = Vec::new();
    while let Some(line) = receiver.recv().await {
        lines.push(line);
    }
    let lines = statuses(&lines);
    assert!(lines[0].contains("built into Gantry"), "{lines:?}");
    let image = bench.puller.store.images.find("hello-world").unwrap();
    assert_eq!(image.unwrap().tags, [name]);
}
