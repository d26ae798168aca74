//! Network namespaces.
use crate::error::NetworkError;
use crate::link;
use crate::netlink::{Netlink, Refusal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The index of `lo` in every namespace.
const LOOPBACK: u32 = 1;

/// A network namespace with `lo` up; it lives while a descriptor or a process holds it. Two descriptors here hold
/// it: `netns`, and a netlink socket that was opened inside, through which it is set up.
#[derive(Debug)]
pub struct Sandbox {
    pub netns: OwnedFd,
    pub(crate) netlink: Netlink,
}

impl Sandbox {
    /// Makes one, on a thread of its own (the caller's namespace does not change). Links that are made in it later
    /// have no IPv6; `lo` keeps `::1`.
    pub fn new() -> Result<Self, NetworkError> {
        let what = "making a network namespace";
        let (netns, netlink) = on_new_thread(|| {
            // SAFETY: only CLONE_NEWNET is given, which changes nothing but this thread's own network namespace; the
            // descriptor table and the file system information stay shared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
            disable_ipv6_of_new_links()?;
            Ok((File::open("/proc/thread-self/ns/net")?, Netlink::route()?))
        })
        .map_err(NetworkError::kernel(what))?;
        netlink
            .execute(&[link::set_up(LOOPBACK)])
            .map_err(NetworkError::kernel("bringing up lo"))?;
        Ok(Self {
            netns: netns.into(),
            netlink,
        })
    }

    /// Takes up a namespace that exists, for example the one of a process that runs.
    pub fn adopt(netns: OwnedFd) -> Result<Self, NetworkError> {
        let netlink = inside(&netns, || Ok(Netlink::route()?))
            .map_err(NetworkError::kernel("entering a network namespace"))?;
        Ok(Self { netns, netlink })
    }
}

/// Runs `work` in a namespace that exists.
pub(crate) fn inside<T: Send>(
    netns: &OwnedFd,
    work: impl FnOnce() -> Result<T, Refusal> + Send,
) -> Result<T, Refusal> {
    on_new_thread(|| {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind)?;
        Ok(work())
    })?
}

impl Sandbox {
    /// Settings of a link that are files only, see the kernel's `networking/ip-sysctl`: IPv6, which links of a sandbox
    /// do not have unless asked for (addresses are used at once, and told to the neighbours), and what the user wants:
    /// names below `net.` in which `IFNAME` stands for the link.
    pub(crate) fn configure(
        &self,
        link: &str,
        ipv6: bool,
        settings: &[(String, String)],
    ) -> Result<(), NetworkError> {
        let mut files = Vec::new();
        if ipv6 {
            // In this order: the link-local address is made when IPv6 comes.
            for (name, value) in [
                ("accept_dad", "0"),
                ("ndisc_notify", "1"),
                ("disable_ipv6", "0"),
            ] {
                files.push((format!("net/ipv6/conf/{link}/{name}"), value));
            }
        }
        for (name, value) in settings {
            if !name.starts_with("net.") || name.contains('/') || name.contains("..") {
                let text = format!(
                    "the setting {name} is none of a link: net.(ipv4|ipv6|mpls).*.IFNAME.* is expected"
                );
                return Err(NetworkError::Invalid(text));
            }
            files.push((
                name.replace('.', "/").replace("IFNAME", link),
                value.as_str(),
            ));
        }
        if files.is_empty() {
            return Ok(());
        }
        let netns = self.netns.as_fd();
        let write = || {
            rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
            for (name, value) in &files {
                std::fs::write(format!("/proc/sys/{name}"), value)
                    .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
            }
            Ok(())
        };
        on_new_thread(write).map_err(NetworkError::kernel(format!("configuring {link}")))
    }
}

impl Sandbox {
    /// Deletes a link; one that is not there is no error.
    pub fn remove_link(&self, name: &str) -> Result<(), NetworkError> {
        let what = || format!("deleting {name} of a container");
        let found = link::by_name(&self.netlink, name)
            .map_err(|refusal| NetworkError::kernel(what())(refusal))?;
        let Some(found) = found else {
            return Ok(());
        };
        self.netlink
            .execute(&[link::delete(found.index)])
            .map_err(|refusal| NetworkError::kernel(what())(refusal))
    }
}

/// Runs `work` on a thread that ends with it, and takes the namespace it entered along.
fn on_new_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}

/// Multicast of IPv6 floods every port of a bridge; a namespace that has no IPv6 network needs none. `/proc/sys/net`
/// shows the namespace of the thread that opens it. A kernel without IPv6 has no such file.
fn disable_ipv6_of_new_links() -> io::Result<()> {
    match std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
