//! The last steps: limits, privileges, the working directory, the program.

use super::{Failed, Step, failed};
use crate::capabilities::CapSets;
use crate::plan::ProcessPlan;
use crate::steps::Steps;
use crate::sys::{self, wire};
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const PR_SET_KEEPCAPS: i32 = libc::PR_SET_KEEPCAPS;

/// Becomes the program, or tells why not. Never comes back: what the caller owns is closed here.
pub(super) fn exec(process: &ProcessPlan, sync: OwnedFd, steps: Steps) -> ! {
    // No descriptor of the host's is open from here on, so that neither the working directory nor the program can be
    // reached through /proc/self/fd (CVE-2024-21626).
    let sync = match sys::keep_only(sync) {
        Ok(sync) => sync,
        Err(_) => sys::exit(1),
    };
    let failure = match become_it(process, sync, steps) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    super::tell(sync, failure)
}

fn become_it(
    process: &ProcessPlan,
    sync: BorrowedFd<'_>,
    mut steps: Steps,
) -> Result<Infallible, Failed> {
    for (resource, soft, hard) in &process.rlimits {
        sys::set_rlimit(*resource, *soft, *hard)
            .step(|| format!("set resource limit {resource}"))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(
        process.umask.unwrap_or(0o022),
    ));
    if process.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).step(|| "set no_new_privs".into())?;
    } else {
        // Without no_new_privs the filter needs CAP_SYS_ADMIN, which is dropped below.
        load_seccomp(process)?;
    }
    sys::new_session_keyring();
    let sets = CapSets::from(process.capabilities);
    let step = || "set the capabilities".to_owned();
    sets.apply_bounding().step(step)?;
    sys::prctl(PR_SET_KEEPCAPS, 1).step(step)?;
    // Before the user changes: a directory that only root may enter is a valid working directory (as with runc).
    let entered = enter(process);
    sys::set_ids(process.uid, process.gid, &process.groups)
        .step(|| format!("become user {}:{}", process.uid, process.gid))?;
    sys::prctl(PR_SET_KEEPCAPS, 0).step(step)?;
    sets.apply().step(step)?;
    if let Err(error) = entered {
        enter(process).map_err(|_| {
            let cwd = &process.cwd;
            failed(
                format!("chdir to cwd (\"{cwd}\") set in config.json failed"),
                words(&error),
            )
        })?;
    }
    let (path, args, env) = program(process)?;
    if process.no_new_privileges {
        load_seccomp(process)?;
    }
    // The end of the sync socket now means that the program runs.
    steps.done("init: limits and privileges");
    let mut word = b"x".to_vec();
    word.extend(postcard::to_stdvec(&steps.taken).unwrap_or_default());
    wire::send(sync, &word, &[]).step(|| "tell of the exec".into())?;
    let error = sys::execve(&path, &args, &env);
    // COMPAT: runc has told its success by then; what the kernel refuses only now (a wrong format, a missing
    // interpreter) its init prints to the container's stderr, and ends with 255.
    let words = format!("exec {}: {}\n", path.to_string_lossy(), words(&error));
    let _ = rustix::io::write(rustix::stdio::stderr(), words.as_bytes());
    sys::exit(255)
}

fn load_seccomp(process: &ProcessPlan) -> Result<(), Failed> {
    match &process.seccomp {
        Some(program) => crate::seccomp::load(program).step(|| "load the seccomp filter".into()),
        None => Ok(()),
    }
}

/// Goes to the working directory. Links in it lead nowhere but inside the root.
fn enter(process: &ProcessPlan) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())?;
    let directory = if process.make_cwd {
        super::targets::directory(root.as_fd(), &process.cwd)?
    } else {
        super::targets::open(root.as_fd(), &process.cwd, flags)?
    };
    Ok(rustix::process::fchdir(directory)?)
}

type Program = (CString, Vec<CString>, Vec<CString>);

fn program(process: &ProcessPlan) -> Result<Program, Failed> {
    let text = |words: &[String]| -> Result<Vec<CString>, Failed> {
        let converted = words.iter().map(|w| CString::new(w.as_str()));
        converted
            .collect::<Result<_, _>>()
            .map_err(|e| failed("take the arguments", e))
    };
    let path = look_up(process)?;
    Ok((
        CString::new(path).map_err(|e| failed("take the program's path", e))?,
        text(&process.args)?,
        text(&process.env)?,
    ))
}

fn refuse(exit_code: i32, message: String) -> Failed {
    Failed::Exec { exit_code, message }
}

/// The message of an error as Go words it.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::ENOTDIR) => "not a directory".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::EPERM) => "operation not permitted".to_owned(),
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        Some(libc::ELOOP) => "too many levels of symbolic links".to_owned(),
        Some(libc::ENAMETOOLONG) => "file name too long".to_owned(),
        Some(libc::E2BIG) => "argument list too long".to_owned(),
        Some(libc::ETXTBSY) => "text file busy".to_owned(),
        _ => error.to_string(),
    }
}

/// Why a path cannot be executed.
#[derive(Debug)]
enum Unfit {
    Missing(io::Error),
    Directory,
    Denied(io::Error),
}

fn check(path: &str) -> Result<(), Unfit> {
    use rustix::fs::{Access, AtFlags, CWD};
    let meta = std::fs::metadata(path).map_err(Unfit::Missing)?;
    if meta.is_dir() {
        return Err(Unfit::Directory);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|e| Unfit::Denied(e.into()))
}

/// The program's path: as given when it has a slash, else by the container's PATH. The words are runc's (Go's
/// `exec.LookPath`).
fn look_up(process: &ProcessPlan) -> Result<String, Failed> {
    let name = process.args[0].as_str();
    if name.contains('/') {
        return match check(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Unfit::Missing(error)) => {
                let denied = error.kind() == io::ErrorKind::PermissionDenied;
                let why = words(&error);
                Err(refuse(
                    if denied { 126 } else { 127 },
                    format!("exec: \"{name}\": stat {name}: {why}"),
                ))
            }
            Err(Unfit::Directory) => Err(refuse(
                126,
                format!("exec: \"{name}\": is a directory: permission denied"),
            )),
            Err(Unfit::Denied(error)) => {
                Err(refuse(126, format!("exec: \"{name}\": {}", words(&error))))
            }
        };
    }
    let path = process
        .env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or("");
    for dir in path.split(':').filter(|dir| !dir.is_empty()) {
        let candidate = format!("{}/{name}", dir.trim_end_matches('/'));
        if !name.is_empty() && check(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    // COMPAT: also where a file of that name is there but not executable, as Go says it.
    Err(refuse(
        127,
        format!("exec: \"{name}\": executable file not found in $PATH"),
    ))
}
