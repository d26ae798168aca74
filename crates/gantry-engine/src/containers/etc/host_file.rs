//! The host's resolv.conf, read again when it has changed.

use super::resolv_conf::ResolvConf;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const PATH: &str = "/etc/resolv.conf";
/// What systemd-resolved's stub asks.
const BEHIND_THE_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// What tells one state of a file from another.
type Stamp = (u64, u64, i64, i64, u64);

/// The file, as it was last.
#[derive(Debug)]
pub(crate) struct HostFile {
    path: PathBuf,
    last: Mutex<(Option<Stamp>, Arc<ResolvConf>)>,
}

impl Default for HostFile {
    fn default() -> Self {
        Self::at(PATH.into())
    }
}

impl HostFile {
    fn at(path: PathBuf) -> Self {
        Self {
            path,
            last: Mutex::default(),
        }
    }

    /// The file as it is now; one that cannot be read is empty.
    pub(crate) fn read(&self) -> Arc<ResolvConf> {
        let stamp = std::fs::metadata(&self.path).ok().map(|m| {
            let changed = (m.mtime(), m.mtime_nsec());
            (m.dev(), m.ino(), changed.0, changed.1, m.size())
        });
        let mut last = crate::containers::lock(&self.last);
        if stamp.is_none() || last.0 != stamp {
            let new = parsed(&self.path);
            // One that is just being written is empty for a moment: until there are new servers the old ones count.
            if !new.servers.is_empty() || last.1.servers.is_empty() {
                *last = (stamp, Arc::new(new));
            }
        }
        last.1.clone()
    }
}

/// The host's file for containers that cannot reach its own loopback: behind systemd-resolved's stub are the servers that
/// this asks.
pub(super) fn reachable() -> ResolvConf {
    let file = parsed(PATH.as_ref());
    match file.is_stub() {
        true => parsed(BEHIND_THE_STUB.as_ref()),
        false => file,
    }
}

/// The host's file as it is.
pub(super) fn own() -> ResolvConf {
    parsed(PATH.as_ref())
}

fn parsed(path: &std::path::Path) -> ResolvConf {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            ResolvConf::parse(&path.display().to_string(), &text)
        }
        Err(_) => ResolvConf::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_seen() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("resolv.conf");
        let file = HostFile::at(path.clone());
        assert_eq!(file.read().servers, []);
        std::fs::write(&path, "nameserver 10.0.0.1\n").expect("written");
        assert_eq!(file.read().servers.len(), 1);
        // Replaced, as resolvconf and NetworkManager do it, by one of the same size.
        let new = dir.path().join("new");
        std::fs::write(&new, "nameserver 10.0.0.2\n").expect("written");
        std::fs::rename(&new, &path).expect("renamed");
        let second: std::net::SocketAddr = ([10, 0, 0, 2], 53).into();
        assert_eq!(file.read().servers[0].address(53), second);
        assert!(Arc::ptr_eq(&file.read(), &file.read()));
        // Emptied before it is written.
        std::fs::write(&path, "").expect("written");
        assert_eq!(file.read().servers[0].address(53), second);
        std::fs::write(&path, "nameserver 10.0.0.1\n").expect("written");
        assert_ne!(file.read().servers[0].address(53), second);
    }
}
