//! A container's files: what it changed, what a path is, and how two containers differ.

use serde::{Deserialize, Serialize};

/// `container.FilesystemChange`: an answer of `GET /containers/{id}/changes`, which is `null` without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FilesystemChange {
    /// Absolute, in the container.
    pub path: String,
    /// 0: modified, 1: added, 2: deleted.
    pub kind: u8,
}

impl FilesystemChange {
    /// The letter that `diff` shows.
    pub fn letter(&self) -> char {
        match self.kind {
            0 => 'C',
            1 => 'A',
            2 => 'D',
            _ => '?',
        }
    }
}

/// `container.PathStat`: the header `X-Docker-Container-Path-Stat`, as JSON in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathStat {
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode`, see [`go_mode`].
    pub mode: u32,
    /// RFC 3339 with nanoseconds.
    pub mtime: String,
    /// Where a symbolic link leads, absolute in the container; empty for all else.
    pub link_target: String,
}

/// Go's bits of an `os.FileMode` (io/fs).
pub mod mode {
    pub const DIR: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const NAMED_PIPE: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHAR_DEVICE: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
    pub const IRREGULAR: u32 = 1 << 19;
}

/// A mode of stat(2) as Go writes it.
pub fn go_mode(unix: u32) -> u32 {
    let kind = match unix & 0o170_000 {
        0o040_000 => mode::DIR,
        0o120_000 => mode::SYMLINK,
        0o060_000 => mode::DEVICE,
        0o020_000 => mode::DEVICE | mode::CHAR_DEVICE,
        0o010_000 => mode::NAMED_PIPE,
        0o140_000 => mode::SOCKET,
        _ => 0,
    };
    let special = [
        (0o4000, mode::SETUID),
        (0o2000, mode::SETGID),
        (0o1000, mode::STICKY),
    ];
    let special = special.iter().filter(|(bit, _)| unix & bit != 0);
    kind | special.fold(0, |all, (_, go)| all | go) | (unix & 0o777)
}

/// `POST /commit`'s answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CommitResponse {
    pub id: String,
}

/// How a container differs from another one, or from an image: the answer of
/// `GET /containers/{id}/changes?against=NAME`, which Docker does not have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Comparison {
    /// `container` or `image`: what it is held against.
    pub against: String,
    /// Its ID.
    pub id: String,
    /// Files by path: `Kind` 1 is there only in the container, 2 only in the other one, 0 in both and not the same.
    pub files: Vec<FilesystemChange>,
    /// Settings by name.
    pub settings: Vec<SettingChange>,
}

/// A setting that is not the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SettingChange {
    /// `Env.PATH`, `Cmd`, `Labels.a`, `HostConfig.Memory`, `Mounts./data`, ...
    pub name: String,
    /// The container's; `null` where it has none.
    pub value: serde_json::Value,
    /// The other one's; `null` where it has none.
    pub other: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_go_has_them() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_01ed),
            (0o120_777, 0x0800_01ff),
            (0o104_755, 0x0080_01ed),
            (0o041_777, 0x8010_01ff),
            (0o020_666, 0x0420_01b6),
            (0o060_660, 0x0400_01b0),
            (0o010_644, 0x0200_01a4),
            (0o140_755, 0x0100_01ed),
            (0o102_755, 0x0040_01ed),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
        }
    }

    #[test]
    fn a_stat_in_the_header_has_dockers_names() {
        let text = serde_json::to_string(&PathStat::default()).unwrap();
        assert_eq!(
            text,
            r#"{"name":"","size":0,"mode":0,"mtime":"","linkTarget":""}"#
        );
    }
}
