//! Images to pull and to load, made of Debian's files, and the registry that the first one comes from.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use gantry_oci::{Digest, Sha256};
use gantry_testkit::{Registry, debian_tar};

use super::engine;

/// Layers of the image that is pulled, and bytes of files in each.
const LAYERS: usize = 12;
const LAYER: u64 = 46_000_000;
/// Larger files say more about the disk than about an engine.
const LARGEST_FILE: u64 = 24_000_000;

/// The image that is pulled: `team/twelve:1` of a registry.
pub(crate) const PULLED: &str = "team/twelve:1";
/// The image that is loaded.
pub(crate) const LOADED: &str = "gantry-bench-debian:1";

/// What the engines are given.
#[derive(Debug)]
pub(crate) struct Material {
    registry: Registry,
    /// The layers of the pulled image, uncompressed.
    pub(crate) layers: Vec<PathBuf>,
    /// The same as the registry gives them.
    pub(crate) blobs: Vec<PathBuf>,
    /// An archive of one layer, as `docker save` writes it.
    pub(crate) archive: PathBuf,
    /// That layer.
    pub(crate) debian: PathBuf,
}

impl Material {
    /// Makes both images below `work` and pushes the first one.
    pub(crate) fn make(work: &Path) -> Result<Self> {
        let folder = work.join("material");
        std::fs::create_dir_all(&folder)?;
        let layers = twelve_layers(&folder)?;
        let twelve = folder.join("twelve.tar");
        docker_archive(&folder, &twelve, PULLED, &layers)?;
        let debian = debian_tar();
        let archive = folder.join("debian-image.tar");
        docker_archive(
            &folder,
            &archive,
            LOADED,
            &[(debian.clone(), digest_of(&debian)?)],
        )?;
        let registry = Registry::start(&folder.join("registry"));
        registry.push(&format!("docker-archive:{}", twelve.display()), PULLED, &[]);
        std::fs::remove_file(&twelve)?;
        let blobs = blobs(&folder.join("registry/data"))?;
        if blobs.len() != LAYERS {
            bail!("the registry has {} layers, not {LAYERS}", blobs.len());
        }
        rustix::fs::sync();
        Ok(Self {
            registry,
            layers: layers.into_iter().map(|(file, _)| file).collect(),
            blobs,
            archive,
            debian,
        })
    }

    /// `127.0.0.1:PORT/team/twelve:1`
    pub(crate) fn pulled(&self) -> String {
        format!("{}/{PULLED}", self.registry.address())
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        self.registry.address()
    }
}

/// The registry's files of gzipped layers (its other blobs are JSON).
fn blobs(data: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let folder = data.join("docker/registry/v2/blobs/sha256");
    for shard in std::fs::read_dir(&folder)? {
        for blob in std::fs::read_dir(shard?.path())? {
            let file = blob?.path().join("data");
            let mut magic = [0; 2];
            File::open(&file)?.read_exact(&mut magic)?;
            if magic == [0x1f, 0x8b] {
                found.push(file);
            }
        }
    }
    Ok(found)
}

/// Twelve tars of what Debian has below `/usr`, in the order of names.
fn twelve_layers(folder: &Path) -> Result<Vec<(PathBuf, Digest)>> {
    let tree = std::env::var_os("PEERS")
        .map_or_else(|| PathBuf::from("/var/tmp/gantry-peers"), PathBuf::from);
    let root = if tree.join("usr").is_dir() {
        tree
    } else {
        PathBuf::from("/")
    };
    let mut files = Vec::new();
    walk(&root, Path::new("usr"), &mut files)?;
    let mut files = files.into_iter();
    let mut layers = Vec::new();
    for number in 0..LAYERS {
        let (mut names, mut bytes) = (Vec::new(), 0);
        for (path, size) in files.by_ref() {
            names.extend_from_slice(path.as_os_str().as_bytes());
            names.push(0);
            bytes += size;
            if bytes >= LAYER {
                break;
            }
        }
        if bytes < LAYER {
            bail!(
                "{} has too few files for {LAYERS} layers",
                root.join("usr").display()
            );
        }
        let tar = folder.join(format!("layer{number}.tar"));
        let mut child = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .args(["--no-recursion", "--null", "-T", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run tar")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(&names)?;
        }
        let status = child.wait()?;
        if !status.success() {
            bail!("tar failed: {status}");
        }
        let digest = digest_of(&tar)?;
        layers.push((tar, digest));
    }
    Ok(layers)
}

/// Directories, files and links below a folder, with their sizes.
fn walk(root: &Path, folder: &Path, found: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    found.push((folder.to_owned(), 0));
    let mut entries = std::fs::read_dir(root.join(folder))?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (kind, path) = (entry.file_type()?, folder.join(entry.file_name()));
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if kind.is_symlink() {
            found.push((path, 0));
        } else if kind.is_file() && entry.metadata()?.len() < LARGEST_FILE {
            let size = entry.metadata()?.len();
            found.push((path, size));
        }
    }
    Ok(())
}

fn digest_of(file: &Path) -> Result<Digest> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(file)?);
    let mut hash = Sha256::default();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match reader.read(&mut chunk)? {
            0 => return Ok(hash.finish()),
            n => hash.update(&chunk[..n]),
        }
    }
}

/// An archive in the form of `docker save`.
fn docker_archive(
    folder: &Path,
    to: &Path,
    name: &str,
    layers: &[(PathBuf, Digest)],
) -> Result<()> {
    let diff_ids: Vec<_> = layers.iter().map(|(_, digest)| digest.as_str()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| serde_json::json!({"created_by": "bench"})).collect::<Vec<_>>(),
    });
    let config = serde_json::to_vec(&config)?;
    let parts = folder.join("parts");
    std::fs::create_dir_all(&parts)?;
    let config_name = format!("{}.json", Digest::of(&config).hex());
    std::fs::write(parts.join(&config_name), &config)?;
    let mut names = Vec::new();
    for (number, (file, _)) in layers.iter().enumerate() {
        let layer = format!("{number}/layer.tar");
        std::fs::create_dir_all(parts.join(number.to_string()))?;
        if std::fs::hard_link(file, parts.join(&layer)).is_err() {
            std::fs::copy(file, parts.join(&layer))?;
        }
        names.push(layer);
    }
    let manifest =
        serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": names}]);
    std::fs::write(parts.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    let mut tar = Command::new("tar");
    // A layer that is linked must be a file of its own in the archive.
    tar.arg("--hard-dereference").arg("-C").arg(&parts);
    tar.arg("-cf").arg(to).arg(&config_name).args(&names);
    tar.arg("manifest.json");
    engine::output(tar)?;
    std::fs::remove_dir_all(&parts)?;
    Ok(())
}
