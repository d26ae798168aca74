//! Users and groups by the files of the container's own root (passwd(5), group(5)), found without leaving it.

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::io::Read;
use std::os::fd::BorrowedFd;

/// Larger files are read so far only.
const LONGEST: u64 = 16 << 20;

/// Who the container's process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// From `/etc/passwd`; `/` for a user who is not in it.
    pub home: String,
}

/// Why there is no such user; the words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

/// One line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(text: &str) -> impl Iterator<Item = Account<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        let home = fields.get(5).copied().unwrap_or_default();
        Some(Account {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
        })
    })
}

/// Name, number and members of each group.
fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, ..] = fields[..] else {
            return None;
        };
        Some((
            name,
            gid.parse().ok()?,
            fields.get(3).copied().unwrap_or_default(),
        ))
    })
}

fn number(text: &str) -> Result<Option<u32>, UserError> {
    match text.parse::<i64>() {
        Ok(n) if (0..=i64::from(i32::MAX)).contains(&n) => Ok(Some(n as u32)),
        Ok(_) => Err(UserError::Range),
        Err(_) => Ok(None),
    }
}

/// Resolves `user[:group]` (names or numbers; empty is root) and more groups (`--group-add`).
pub fn resolve(root: BorrowedFd<'_>, user: &str, more: &[String]) -> Result<User, UserError> {
    let passwd = read(root, "etc/passwd");
    let group = read(root, "etc/group");
    resolve_in(&passwd, &group, user, more)
}

/// A file of the container's; empty where there is none.
fn read(root: BorrowedFd<'_>, path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut bytes = Vec::new();
    if let Ok(fd) = openat2(root, path, flags, Mode::empty(), resolve)
        && rustix::fs::fstat(&fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFREG)
    {
        let _ = std::fs::File::from(fd)
            .take(LONGEST)
            .read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn resolve_in(passwd: &str, group: &str, user: &str, more: &[String]) -> Result<User, UserError> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, group),
        None => (user, ""),
    };
    let wanted = number(name)?;
    let found = accounts(passwd).find(|account| match (name, wanted) {
        ("", _) => account.uid == 0,
        (_, Some(uid)) => account.uid == uid || account.name == name,
        _ => account.name == name,
    });
    let mut resolved = User {
        home: "/".into(),
        ..User::default()
    };
    match (&found, name, wanted) {
        (Some(account), ..) => {
            (resolved.uid, resolved.gid) = (account.uid, account.gid);
            if !account.home.is_empty() {
                account.home.clone_into(&mut resolved.home);
            }
        }
        (None, "", _) => {}
        (None, _, Some(uid)) => resolved.uid = uid,
        (None, ..) => return Err(UserError::NoUser(name.to_owned())),
    }
    if group_name.is_empty() {
        if let Some(account) = &found {
            let member = |list: &str| list.split(',').any(|m| m == account.name);
            resolved.groups = groups(group)
                .filter(|(_, _, list)| member(list))
                .map(|(_, gid, _)| gid)
                .collect();
        }
    } else {
        resolved.gid = group_number(group, group_name)?;
    }
    for name in more {
        resolved.groups.push(group_number(group, name)?);
    }
    resolved.groups.sort_unstable();
    resolved.groups.dedup();
    Ok(resolved)
}

fn group_number(file: &str, name: &str) -> Result<u32, UserError> {
    if let Some((_, gid, _)) = groups(file).find(|(known, ..)| *known == name) {
        return Ok(gid);
    }
    number(name)?.ok_or_else(|| UserError::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100::/home/ann:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann\nvideo:x:44:ann\n";

    fn who(user: &str, more: &[&str]) -> Result<User, UserError> {
        let more: Vec<String> = more.iter().map(|m| (*m).to_owned()).collect();
        resolve_in(PASSWD, GROUP, user, &more)
    }

    #[test]
    fn names_numbers_and_groups() {
        let ann = User {
            uid: 1000,
            gid: 100,
            groups: vec![10, 44],
            home: "/home/ann".into(),
        };
        assert_eq!(who("ann", &[]), Ok(ann.clone()));
        assert_eq!(who("1000", &[]), Ok(ann));
        assert_eq!(who("", &[]).unwrap().home, "/root");
        assert_eq!(who("", &[]).unwrap().groups, vec![10]);
        let named = who("ann:video", &["users", "7"]).unwrap();
        assert_eq!((named.gid, named.groups), (44, vec![7, 100]));
        let stranger = who("4242:4343", &[]).unwrap();
        assert_eq!(
            (stranger.uid, stranger.gid, stranger.home.as_str()),
            (4242, 4343, "/")
        );
    }

    #[test]
    fn who_is_not_there() {
        assert_eq!(
            who("nobody-here", &[]).unwrap_err().to_string(),
            "unable to find user nobody-here: no matching entries in passwd file"
        );
        assert_eq!(who("ann:none", &[]), Err(UserError::NoGroup("none".into())));
        assert_eq!(who("99999999999", &[]), Err(UserError::Range));
    }
}
