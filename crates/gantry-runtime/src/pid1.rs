//! `--init`: our binary as PID 1 of a container. It starts the program, passes signals on, reaps whatever becomes its
//! child, and ends as the program ended.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs `docker-init -- PROGRAM ARGS`; the binary calls it when its `argv[0]` says so.
pub fn init_main() -> ! {
    let args: Vec<std::ffi::OsString> = std::env::args_os()
        .skip(1)
        .skip_while(|a| a == "--")
        .collect();
    let Some((program, rest)) = args.split_first() else {
        eprintln!("docker-init: no program is given");
        crate::sys::exit(1)
    };
    crate::sys::exit(run(program, rest))
}

fn run(program: &std::ffi::OsStr, args: &[std::ffi::OsString]) -> i32 {
    // Blocked here, taken one by one below; the program starts with an empty mask and default dispositions.
    let signals = crate::sys::Signals::block_all();
    let mut command = Command::new(program);
    command.args(args);
    // SAFETY: the closure only makes system calls (signal dispositions, mask, process group, terminal).
    unsafe { command.pre_exec(crate::sys::as_terminal_leader) };
    let child = match command.spawn() {
        Ok(child) => child.id() as i32,
        Err(error) => {
            eprintln!("exec {}: {error}", program.to_string_lossy());
            return if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            };
        }
    };
    loop {
        let number = signals.next();
        if number == libc::SIGCHLD {
            if let Some(code) = crate::sys::reap_until(child) {
                return code;
            }
        } else {
            crate::sys::kill(child, number);
        }
    }
}
