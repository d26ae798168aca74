//! What this machine needs at least for an image: each step of the way alone, by one thread of the fastest program
//! for it that Debian has.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::engine;

const SHA256: &[&str] = &["openssl", "dgst", "-sha256"];
/// Downloads at a time, as engines have.
const AT_ONCE: usize = 3;

/// The steps, and how long each took.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) steps: Vec<(&'static str, Duration)>,
    /// Bytes that come, and bytes that they become.
    pub(crate) compressed: u64,
    pub(crate) plain: u64,
}

impl Floor {
    /// Of a pull: bytes by the network, both hashes, gunzip, files.
    pub(crate) fn of_pull(
        address: &str,
        name: &str,
        blobs: &[PathBuf],
        layers: &[PathBuf],
        work: &Path,
    ) -> Result<Self> {
        let mut steps = vec![("download, three at a time", download(address, name, blobs)?)];
        steps.push(("sha256 of the compressed bytes", each(SHA256, blobs)?));
        steps.push(("gunzip (igzip)", each(&["igzip", "-dc"], blobs)?));
        steps.push(("sha256 of the plain bytes", each(SHA256, layers)?));
        steps.push(("files written by tar(1)", files(layers, work)?));
        Ok(Self {
            steps,
            compressed: sizes(blobs)?,
            plain: sizes(layers)?,
        })
    }

    /// Of a load of an uncompressed layer: one hash, files.
    pub(crate) fn of_load(layer: &Path, work: &Path) -> Result<Self> {
        let layers = [layer.to_owned()];
        let steps = vec![
            ("sha256 of the plain bytes", each(SHA256, &layers)?),
            ("files written by tar(1)", files(&layers, work)?),
        ];
        let plain = sizes(&layers)?;
        Ok(Self {
            steps,
            compressed: plain,
            plain,
        })
    }

    /// All steps one after the other.
    pub(crate) fn sum(&self) -> Duration {
        self.steps.iter().map(|(_, time)| *time).sum()
    }

    /// All steps side by side on the processors that there are, none of them ever waiting.
    pub(crate) fn shared(&self) -> Duration {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        self.sum() / processors
    }
}

fn sizes(files: &[PathBuf]) -> Result<u64> {
    let mut sum = 0;
    for file in files {
        sum += file.metadata()?.len();
    }
    Ok(sum)
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    act()?;
    Ok(start.elapsed())
}

/// Reads to the end; says how much there was.
fn through(mut reader: impl Read) -> Result<u64> {
    let mut chunk = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(bytes),
            n => bytes += n as u64,
        }
    }
}

/// A program over every file, its output thrown away.
fn each(program: &[&str], files: &[PathBuf]) -> Result<Duration> {
    let mut all = Duration::ZERO;
    for file in files {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(file);
        all += engine::timed(command)?;
    }
    Ok(all)
}

fn files(layers: &[PathBuf], work: &Path) -> Result<Duration> {
    let mut all = Duration::ZERO;
    let spread = work.join("spread");
    std::fs::create_dir_all(&spread)?;
    // As the store has it: on ext4, each layer among inodes of its own. Other file systems do not know that.
    let mut chattr = Command::new("chattr");
    engine::output({
        chattr.arg("+T").arg(&spread);
        chattr
    })
    .ok();
    for (number, layer) in layers.iter().enumerate() {
        let folder = spread.join(number.to_string());
        std::fs::create_dir(&folder)?;
        let mut tar = Command::new("tar");
        tar.arg("-xpf").arg(layer).arg("-C").arg(&folder);
        all += engine::timed(tar)?;
        std::fs::remove_dir_all(&folder)?;
    }
    rustix::fs::sync();
    Ok(all)
}

fn download(address: &str, name: &str, blobs: &[PathBuf]) -> Result<Duration> {
    let repository = name.split(':').next().unwrap_or(name);
    let next = std::sync::Mutex::new(blobs.iter());
    timed(|| {
        std::thread::scope(|scope| {
            let fetch = || -> Result<()> {
                loop {
                    let blob = next.lock().ok().and_then(|mut next| next.next());
                    let Some(blob) = blob else { return Ok(()) };
                    fetch(address, repository, blob)?;
                }
            };
            let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(fetch)).collect();
            for thread in threads {
                match thread.join() {
                    Ok(fetched) => fetched?,
                    Err(_) => bail!("a download panicked"),
                }
            }
            Ok(())
        })
    })
}

/// One blob by the plainest request there is.
fn fetch(address: &str, repository: &str, blob: &Path) -> Result<()> {
    let hex = blob.parent().and_then(Path::file_name);
    let hex = hex.and_then(|hex| hex.to_str()).context("no blob's path")?;
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(
        format!(
            "GET /v2/{repository}/blobs/sha256:{hex} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let size = blob.metadata()?.len();
    let got = through(BufReader::with_capacity(256 << 10, stream))?;
    if got < size {
        bail!("the registry gave {got} of {size} bytes");
    }
    Ok(())
}
