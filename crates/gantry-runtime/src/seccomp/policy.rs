//! Docker's default policy (profiles/seccomp of Docker Engine 28), as a table.
//!
//! It refuses by default, with `EPERM`. The names are held against the policy that Docker 28.5.2 gives a container.

use super::SeccompError;
use super::numbers::Abi;
use crate::capabilities;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// What every container may call.
const ALLOWED: &str = "\
     _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod \
     chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
     clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range \
     creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
     epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
     fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
     fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
     fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 \
     futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents \
     getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
     getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid \
     getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 \
     getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
     io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
     ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
     lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr \
     lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
     mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open \
     mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal \
     msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
     open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
     poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 \
     pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom \
     recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat \
     renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
     rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
     sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
     sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
     sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
     semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
     set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
     setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
     setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat \
     shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall \
     socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range \
     syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
     timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
     timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink \
     unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
     writev";

/// Allowed on kernels where tracing cannot get around seccomp (4.8).
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

/// What a capability opens. Calls without a line of their own in the policy's default are not opened by any.
const OPENED: [(&str, &str); 14] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
     lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd \
     setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    (
        "CAP_SYS_TIME",
        "clock_settime clock_settime64 settimeofday stime",
    ),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    (
        "CAP_SYS_NICE",
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// Flags of clone(2) that make a namespace (all but CLONE_NEWTIME, which is a signal's bit there).
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Values of personality(2) that do no harm: Linux, with or without ADDR_NO_RANDOMIZE's neighbours UNAME26 and PER_LINUX32,
/// and the question for the present one.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The socket family of virtual machines, whose addresses are the host's.
const AF_VSOCK: u64 = 40;

/// A kernel's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    pub major: u32,
    pub minor: u32,
}

impl Kernel {
    /// The running one; 0.0 when it does not say.
    pub fn running() -> Self {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        Self::parse(&release).unwrap_or(Self { major: 0, minor: 0 })
    }

    /// The first two numbers of a release, `6.18.2-rc1`.
    ///
    /// # Errors
    /// A text that does not begin with two numbers.
    pub fn parse(release: &str) -> Result<Self, SeccompError> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(SeccompError::Word(release.to_owned(), "kernel version")),
        }
    }
}

/// Docker's default policy for a container with these capabilities.
pub fn docker_default(granted: u64, kernel: Kernel) -> LinuxSeccomp {
    let mut rules = vec![allow(ALLOWED, None)];
    if kernel >= (Kernel { major: 4, minor: 8 }) {
        rules.push(allow(TRACING, None));
    }
    rules.push(allow(
        "socket",
        Some(argument(LinuxSeccompOperator::ScmpCmpNe, AF_VSOCK)),
    ));
    for personality in PERSONALITIES {
        rules.push(allow(
            "personality",
            Some(argument(LinuxSeccompOperator::ScmpCmpEq, personality)),
        ));
    }
    rules.push(allow(
        match Abi::NATIVE {
            Abi::Aarch64 => "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
            _ => "arch_prctl modify_ldt",
        },
        None,
    ));
    let has = |name: &str| capabilities::bit(name).is_some_and(|bit| granted & bit != 0);
    for (capability, names) in OPENED {
        if has(capability) {
            rules.push(allow(names, None));
        }
    }
    if has("CAP_SYS_ADMIN") {
        rules.push(allow("clone clone3", None));
    } else {
        rules.push(allow(
            "clone",
            Some(argument(
                LinuxSeccompOperator::ScmpCmpMaskedEq,
                CLONE_NAMESPACES,
            )),
        ));
        // Its flags are in memory, where a filter cannot see them: programs fall back to clone.
        let mut refused = rule("clone3", LinuxSeccompAction::ScmpActErrno, None);
        refused.set_errno_ret(Some(libc::ENOSYS as u32));
        rules.push(refused);
    }
    let mut policy = LinuxSeccomp::default();
    policy.set_default_action(LinuxSeccompAction::ScmpActErrno);
    policy.set_default_errno_ret(Some(libc::EPERM as u32));
    policy.set_architectures(Some(match Abi::NATIVE {
        Abi::Aarch64 => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
    }));
    policy.set_syscalls(Some(rules));
    policy
}

fn argument(op: LinuxSeccompOperator, value: u64) -> LinuxSeccompArg {
    let built = LinuxSeccompArgBuilder::default()
        .index(0usize)
        .value(value)
        .op(op);
    built.build().unwrap_or_default()
}

fn allow(names: &str, argument: Option<LinuxSeccompArg>) -> LinuxSyscall {
    rule(names, LinuxSeccompAction::ScmpActAllow, argument)
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    argument: Option<LinuxSeccompArg>,
) -> LinuxSyscall {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(argument) = argument {
        rule = rule.args(vec![argument]);
    }
    rule.build().unwrap_or_default()
}
