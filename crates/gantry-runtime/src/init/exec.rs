//! The last steps: limits, privileges, the working directory, the program.

use super::{Failed, Step, failed};
use crate::capabilities::CapSets;
use crate::plan::InitPlan;
use crate::sys::{self, wire};
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;

const PR_SET_KEEPCAPS: i32 = libc::PR_SET_KEEPCAPS;

/// Becomes the program.
pub(super) fn exec(init: &InitPlan, sync: BorrowedFd<'_>) -> Result<Infallible, Failed> {
    for (resource, soft, hard) in &init.rlimits {
        sys::set_rlimit(*resource, *soft, *hard)
            .step(|| format!("set resource limit {resource}"))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(init.umask.unwrap_or(0o022)));
    if init.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).step(|| "set no_new_privs".into())?;
    } else {
        // Without no_new_privs the filter needs CAP_SYS_ADMIN, which is dropped below.
        load_seccomp(init)?;
    }
    let sets = CapSets {
        bounding: init.capabilities.bounding,
        effective: init.capabilities.effective,
        permitted: init.capabilities.permitted,
        inheritable: init.capabilities.inheritable,
        ambient: init.capabilities.ambient,
    };
    let step = || "set the capabilities".to_owned();
    sets.apply_bounding().step(step)?;
    sys::prctl(PR_SET_KEEPCAPS, 1).step(step)?;
    // Before the user changes: a directory that only root may enter is a valid working directory (as with runc).
    let entered = enter(&init.cwd);
    sys::set_ids(init.uid, init.gid, &init.groups)
        .step(|| format!("become user {}:{}", init.uid, init.gid))?;
    sys::prctl(PR_SET_KEEPCAPS, 0).step(step)?;
    sets.apply().step(step)?;
    if let Err(error) = entered {
        rustix::process::chdir(init.cwd.as_str()).map_err(|_| {
            failed(
                format!("chdir to cwd (\"{}\") set in config.json failed", init.cwd),
                error,
            )
        })?;
    }
    let (path, args, env) = program(init)?;
    if init.no_new_privileges {
        load_seccomp(init)?;
    }
    // The end of the sync socket now means that the program runs.
    wire::send(sync, b"x", &[]).step(|| "tell of the exec".into())?;
    let error = sys::execve(&path, &args, &env);
    Err(exec_failure(
        &init.args[0],
        path.to_string_lossy().as_ref(),
        &error,
    ))
}

fn load_seccomp(init: &InitPlan) -> Result<(), Failed> {
    match &init.seccomp {
        Some(program) => crate::seccomp::load(program).step(|| "load the seccomp filter".into()),
        None => Ok(()),
    }
}

/// Goes to the working directory, which is made where it is missing.
fn enter(cwd: &str) -> io::Result<()> {
    match rustix::process::chdir(cwd) {
        Err(rustix::io::Errno::NOENT) => {
            std::fs::create_dir_all(cwd)?;
            Ok(rustix::process::chdir(cwd)?)
        }
        other => Ok(other?),
    }
}

type Program = (CString, Vec<CString>, Vec<CString>);

fn program(init: &InitPlan) -> Result<Program, Failed> {
    let text = |words: &[String]| -> Result<Vec<CString>, Failed> {
        let converted = words.iter().map(|w| CString::new(w.as_str()));
        converted
            .collect::<Result<_, _>>()
            .map_err(|e| failed("take the arguments", e))
    };
    let path = look_up(init)?;
    Ok((
        CString::new(path).map_err(|e| failed("take the program's path", e))?,
        text(&init.args)?,
        text(&init.env)?,
    ))
}

fn refuse(exit_code: i32, message: String) -> Failed {
    Failed::Exec { exit_code, message }
}

/// The program's path: as given when it has a slash, else by the container's PATH. The words are runc's.
fn look_up(init: &InitPlan) -> Result<String, Failed> {
    let name = init.args[0].as_str();
    if name.contains('/') {
        check(name).map_err(|error| exec_failure(name, name, &error))?;
        return Ok(name.to_owned());
    }
    let path = init
        .env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("");
    let mut denied = false;
    for dir in path.split(':') {
        let candidate = format!("{}/{name}", if dir.is_empty() { "." } else { dir });
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(refuse(126, format!("exec: \"{name}\": permission denied")));
    }
    Err(refuse(
        127,
        format!("exec: \"{name}\": executable file not found in $PATH"),
    ))
}

/// Whether a path can be executed.
fn check(path: &str) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD};
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    Ok(())
}

fn exec_failure(name: &str, path: &str, error: &io::Error) -> Failed {
    let words = match error.raw_os_error() {
        Some(libc::ENOENT) if name == path => {
            return refuse(
                127,
                format!("exec: \"{name}\": stat {name}: no such file or directory"),
            );
        }
        Some(libc::ENOENT) => {
            return refuse(127, format!("exec {path}: no such file or directory"));
        }
        Some(libc::ENOTDIR) => {
            return refuse(
                127,
                format!("exec: \"{name}\": stat {name}: not a directory"),
            );
        }
        Some(libc::EACCES | libc::EPERM) => "permission denied",
        Some(libc::EISDIR) => "is a directory: permission denied",
        Some(libc::ENOEXEC) => return refuse(126, format!("exec {path}: exec format error")),
        _ => return refuse(126, format!("exec {path}: {error}")),
    };
    refuse(126, format!("exec: \"{name}\": {words}"))
}
