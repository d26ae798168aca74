//! The spawner: a small single-threaded process between daemon and shims. Forking it costs next to nothing, and its
//! mount namespace is empty, so that copying it for a container is cheap, too (a mount costs a microsecond).

use crate::cgroup::Hierarchies;
use crate::plan::Request;
use crate::sys::{self, wire};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// The descriptor on which the daemon's requests come.
pub(crate) const REQUESTS: i32 = 3;
/// The empty directory in the spawner's own root on which a container's root is mounted.
pub(crate) const ROOT: &str = "/r";
/// Where the spawner keeps the cgroup hierarchies in its own root, one directory each, to be cloned into containers.
pub(crate) const CGROUPS: &str = "/cg";

/// What the spawner took along from the host before it left the host's mounts behind.
#[derive(Debug)]
pub(crate) struct Host {
    /// `/proc`
    pub(crate) proc: OwnedFd,
    /// `/dev/null`
    pub(crate) null: OwnedFd,
}

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) request: Request,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) reply: OwnedFd,
}

/// The spawner's whole life; the binary calls it when its `argv[0]` is `gantry-spawner`.
pub fn spawner_main() -> ! {
    // SAFETY: the daemon puts its end of the socket here (spawn.rs); nothing else in this process owns it.
    let requests = unsafe { OwnedFd::from_raw_fd(REQUESTS) };
    let code = match serve(requests.as_fd()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("gantry-spawner: {error}");
            1
        }
    };
    sys::exit(code)
}

fn serve(requests: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::setsid()?;
    // Opened once, here, where they can be seen.
    let hierarchies = Hierarchies::get();
    let host = Host {
        proc: std::fs::File::open("/proc")?.into(),
        null: std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?
            .into(),
    };
    own_mount_namespace(hierarchies)?;
    // The last to go when memory is short; a container's own score is set by its init. Not root of the machine: as it is.
    let _ = protect_from_oom(&host);
    let _ = rustix::thread::set_name(c"gantry-spawner");
    sys::ignore_signals();
    // The daemon waits for this before it goes on.
    wire::send(requests, b"ready", &[])?;
    loop {
        let Some((bytes, reply, fds)) = next(requests)? else {
            return Ok(());
        };
        // SAFETY: this process has one thread.
        match unsafe { sys::fork() } {
            Ok(None) => {
                // The shim: the daemon's socket is not its business.
                // SAFETY: `serve` never returns in this process, so the borrowed descriptor is not used again.
                unsafe { sys::close_range(REQUESTS as u32, REQUESTS as u32) };
                crate::shim::main(decode(&bytes, fds, reply), host)
            }
            Ok(Some(_)) => {}
            Err(error) => refuse(reply.as_fd(), &error),
        }
    }
}

fn protect_from_oom(host: &Host) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&host.proc, "self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, b"-999")?;
    Ok(())
}

fn decode(plan: &OwnedFd, fds: Vec<OwnedFd>, reply: OwnedFd) -> Result<Arrived, (OwnedFd, String)> {
    let read = || -> Result<Request, String> {
        let size = rustix::fs::fstat(plan).map_err(|e| e.to_string())?.st_size as usize;
        let mut bytes = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match rustix::io::pread(plan, &mut bytes[filled..], filled as u64) {
                Ok(0) => return Err("the plan is cut off".into()),
                Ok(n) => filled += n,
                Err(error) => return Err(error.to_string()),
            }
        }
        postcard::from_bytes(&bytes).map_err(|e| e.to_string())
    };
    match read() {
        Ok(request) => Ok(Arrived {
            request,
            fds,
            reply,
        }),
        Err(why) => Err((reply, format!("the plan cannot be read: {why}"))),
    }
}

fn refuse(reply: BorrowedFd<'_>, error: &io::Error) {
    let answer = crate::plan::Reply::Setup {
        step: "fork the shim".into(),
        message: error.to_string(),
    };
    if let Ok(bytes) = postcard::to_stdvec(&answer) {
        let _ = wire::send(reply, &bytes, &[]);
    }
}

type Received = (OwnedFd, OwnedFd, Vec<OwnedFd>);

/// The next request: the plan's memfd, the reply socket, and the plan's descriptors. `None` when the daemon is gone.
fn next(requests: BorrowedFd<'_>) -> io::Result<Option<Received>> {
    let mut head = [0_u8; 8];
    let (mut fds, total) = loop {
        match wire::receive(requests, &mut head) {
            Ok((0, _)) => return Ok(None),
            Ok((4, fds)) => {
                break (
                    fds,
                    u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize,
                );
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    while fds.len() < total {
        let (n, more) = wire::receive(requests, &mut head)?;
        if n == 0 {
            return Ok(None);
        }
        fds.extend(more);
    }
    let mut fds = fds.into_iter();
    let (Some(plan), Some(reply)) = (fds.next(), fds.next()) else {
        return Err(io::Error::other("a request without plan or reply socket"));
    };
    Ok(Some((plan, reply, fds.collect())))
}

/// Leaves the host's mounts behind: a new namespace whose root is an empty tmpfs.
fn own_mount_namespace(hierarchies: &Hierarchies) -> io::Result<()> {
    use rustix::mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
    };
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: a mount namespace of its own changes nothing that memory safety depends on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    mount(
        "gantry",
        "/tmp",
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(c"size=64k,mode=700"),
    )?;
    std::env::set_current_dir("/tmp")?;
    std::fs::create_dir("r")?;
    for hierarchy in hierarchies.iter() {
        let point = hierarchy.mount_point();
        let name = match point.strip_prefix("/sys/fs/cgroup/") {
            Some(name) if !name.contains('/') => name,
            _ => "unified",
        };
        let place = format!("cg/{name}");
        std::fs::create_dir_all(&place)?;
        rustix::mount::mount_bind(point, &place)?;
    }
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    Ok(())
}
