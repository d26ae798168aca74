//! Who the program runs as: `--user` looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are those of moby/sys/user `GetExecUser`, with the files opened inside the container's root.

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::io::Read as _;
use std::os::fd::BorrowedFd;

/// The largest ID that Docker takes.
const MAXIMUM: u32 = i32::MAX as u32;
/// More than this of either file is not read.
const FILE_LIMIT: u64 = 16 << 20;

/// A user, ready for the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// The group itself first, then the others.
    pub additional_gids: Vec<u32>,
    pub home: String,
}

/// Looks up `user[:group]`, and the groups of `--group-add`, inside a root.
pub(crate) fn resolve(
    rootfs: BorrowedFd<'_>,
    user: &str,
    group_add: &[String],
) -> Result<ResolvedUser> {
    let passwd = read(rootfs, "etc/passwd")?;
    let group = read(rootfs, "etc/group")?;
    resolve_in(&passwd, &group, user, group_add)
}

/// A file below the root, where no link leads out; empty when it is not there.
fn read(rootfs: BorrowedFd<'_>, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = rustix::fs::openat2(
        rootfs,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) else {
        return Ok(String::new());
    };
    let file = std::fs::File::from(file);
    let mut bytes = Vec::new();
    if file.metadata().is_ok_and(|m| m.is_file()) {
        file.take(FILE_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::caused(&format!("cannot read the container's /{path}"), e))?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[derive(Debug)]
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        Some(Entry {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: fields.nth(1).unwrap_or("/"),
        })
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

fn number(text: &str) -> Result<Option<u32>> {
    let Ok(number) = text.parse::<i64>() else {
        return Ok(None);
    };
    match u32::try_from(number) {
        Ok(id) if id <= MAXIMUM => Ok(Some(id)),
        _ => Err(Error::system(format!(
            "uids and gids must be in range 0-{MAXIMUM}"
        ))),
    }
}

fn resolve_in(
    passwd: &str,
    group: &str,
    asked: &str,
    group_add: &[String],
) -> Result<ResolvedUser> {
    let (user, own_group) = asked.split_once(':').unwrap_or((asked, ""));
    let id = number(user).or_else(|e| {
        if users(passwd).any(|u| u.name == user) {
            Ok(None)
        } else {
            Err(e)
        }
    })?;
    let wanted = if user.is_empty() { Some(0) } else { id };
    let entry = users(passwd).find(|u| u.name == user && !user.is_empty() || wanted == Some(u.uid));
    let mut found = ResolvedUser {
        home: "/".to_owned(),
        ..ResolvedUser::default()
    };
    match (&entry, wanted) {
        (Some(entry), _) => {
            (found.uid, found.gid) = (entry.uid, entry.gid);
            if !entry.home.is_empty() {
                entry.home.clone_into(&mut found.home);
            }
        }
        (None, Some(id)) => found.uid = id,
        (None, None) => {
            return Err(Error::system(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    }
    let mut others = Vec::new();
    if own_group.is_empty() {
        let name = entry.as_ref().map_or("", |e| e.name);
        if !name.is_empty() {
            others.extend(
                groups(group)
                    .filter(|g| g.2.split(',').any(|m| m == name))
                    .map(|g| g.1),
            );
        }
    } else {
        found.gid = group_id(group, own_group)?.ok_or_else(|| {
            Error::system(format!(
                "unable to find group {own_group}: no matching entries in group file"
            ))
        })?;
    }
    for name in group_add {
        others.push(group_id(group, name)?.ok_or_else(|| {
            Error::system(format!(
                "Unable to find group {name}: no matching entries in group file"
            ))
        })?);
    }
    // Docker puts the group itself first (CVE-2022-36109: a group that is missing there evades "negative" rights).
    found.additional_gids.push(found.gid);
    for gid in others {
        if !found.additional_gids.contains(&gid) {
            found.additional_gids.push(gid);
        }
    }
    Ok(found)
}

fn group_id(group: &str, asked: &str) -> Result<Option<u32>> {
    if let Some((_, gid, _)) = groups(group).find(|(name, ..)| *name == asked) {
        return Ok(Some(gid));
    }
    number(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nanna:x:1000:100::/home/anna:\n7:x:70:70::/seven:\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,anna\naudio:x:29:anna\n";

    fn of(asked: &str, add: &[&str]) -> Result<(u32, u32, Vec<u32>, String)> {
        let add: Vec<String> = add.iter().map(|a| (*a).to_owned()).collect();
        let user = resolve_in(PASSWD, GROUP, asked, &add)?;
        Ok((user.uid, user.gid, user.additional_gids, user.home))
    }

    #[test]
    fn users_by_name_and_number() {
        assert_eq!(of("", &[]).unwrap(), (0, 0, vec![0, 10], "/root".into()));
        assert_eq!(
            of("anna", &[]).unwrap(),
            (1000, 100, vec![100, 10, 29], "/home/anna".into())
        );
        assert_eq!(
            of("1000", &[]).unwrap(),
            (1000, 100, vec![100, 10, 29], "/home/anna".into())
        );
        assert_eq!(
            of("anna:wheel", &["29"]).unwrap(),
            (1000, 10, vec![10, 29], "/home/anna".into())
        );
        assert_eq!(
            of("4000:5", &["7", "audio"]).unwrap(),
            (4000, 5, vec![5, 7, 29], "/".into())
        );
        assert_eq!(of("4000", &[]).unwrap(), (4000, 0, vec![0], "/".into()));
    }

    #[test]
    fn who_is_not_there() {
        assert_eq!(
            of("nobody", &[]).unwrap_err().message,
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            of("anna:none", &[]).unwrap_err().message,
            "unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            of("", &["none"]).unwrap_err().message,
            "Unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            of("-1", &[]).unwrap_err().message,
            "uids and gids must be in range 0-2147483647"
        );
    }

    #[test]
    fn without_files_a_number_is_enough() {
        let user = resolve_in("", "", "", &[]).unwrap();
        assert_eq!((user.uid, user.home.as_str()), (0, "/"));
        assert_eq!(resolve_in("", "", "5:6", &[]).unwrap().gid, 6);
    }

    #[test]
    fn a_link_does_not_lead_out_of_the_root() {
        let root = std::env::temp_dir().join(format!("gantry-user-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/group", root.join("etc/group")).unwrap();
        std::os::unix::fs::symlink("/../../../../etc/real", root.join("etc/passwd")).unwrap();
        std::fs::write(root.join("etc/real"), "inside:x:33:44::/in:").unwrap();
        let dir = std::fs::File::open(&root).unwrap();
        let found = resolve(std::os::fd::AsFd::as_fd(&dir), "inside", &[]);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.unwrap().gid, 44);
    }
}
