//! The program, run by a small interpreter here and by the kernel, against a plain reading of the policy.

use super::numbers::{Abi, X32_BIT};
use super::*;
use crate::capabilities::DOCKER_DEFAULT;
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Op};
use std::os::unix::process::CommandExt;
use std::time::Instant;

const NOW: Kernel = Kernel { major: 6, minor: 1 };
const KILL: u32 = 0x8000_0000;
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;

/// Runs a program on one `struct seccomp_data`.
fn interpret(program: &[u8], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend_from_slice(&number.to_ne_bytes());
    data.extend_from_slice(&arch.to_ne_bytes());
    data.extend_from_slice(&[0; 8]);
    for argument in arguments {
        data.extend_from_slice(&argument.to_ne_bytes());
    }
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let bytes = &program[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let (yes, no) = (usize::from(bytes[2]), usize::from(bytes[3]));
        let value = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        at += 1;
        let holds = match code {
            bpf::LOAD => {
                let at = value as usize;
                accumulator = u32::from_ne_bytes(data[at..at + 4].try_into().unwrap());
                continue;
            }
            bpf::AND => {
                accumulator &= value;
                continue;
            }
            bpf::JUMP => {
                at += value as usize;
                continue;
            }
            bpf::RETURN => return value,
            bpf::IF_EQUAL => accumulator == value,
            bpf::IF_GREATER => accumulator > value,
            bpf::IF_GREATER_OR_EQUAL => accumulator >= value,
            other => panic!("instruction {other:#x}"),
        };
        at += if holds { yes } else { no };
    }
}

fn holds(condition: &LinuxSeccompArg, arguments: [u64; 6]) -> bool {
    let (is, value) = (arguments[condition.index()], condition.value());
    match condition.op() {
        Op::ScmpCmpNe => is != value,
        Op::ScmpCmpLt => is < value,
        Op::ScmpCmpLe => is <= value,
        Op::ScmpCmpEq => is == value,
        Op::ScmpCmpGe => is >= value,
        Op::ScmpCmpGt => is > value,
        Op::ScmpCmpMaskedEq => is & value == condition.value_two().unwrap_or(0),
    }
}

/// What the policy says, rule by rule, of one interface.
struct Plain<'a> {
    names: std::collections::HashMap<u32, &'static str>,
    rules: std::collections::HashMap<&'a str, Vec<(&'a [LinuxSeccompArg], u32)>>,
    largest: u32,
    default: u32,
}

impl<'a> Plain<'a> {
    fn new(policy: &'a LinuxSeccomp, abi: Abi) -> Self {
        let mut plain = Self {
            names: abi
                .numbers()
                .iter()
                .map(|(name, number)| (*number, *name))
                .collect(),
            rules: std::collections::HashMap::new(),
            largest: 0,
            default: compiler::action(policy.default_action(), policy.default_errno_ret()).unwrap(),
        };
        for rule in policy.syscalls().iter().flatten() {
            let action = compiler::action(rule.action(), rule.errno_ret()).unwrap();
            for name in rule.names() {
                plain.largest = plain
                    .largest
                    .max(abi.numbers().get(name.as_str()).copied().unwrap_or(0));
                let conditions = rule.args().as_deref().unwrap_or_default();
                plain
                    .rules
                    .entry(name)
                    .or_default()
                    .push((conditions, action));
            }
        }
        plain
    }

    fn says(&self, number: u32, arguments: [u64; 6]) -> u32 {
        if number > self.largest && number != u32::MAX {
            return NO_SUCH_CALL;
        }
        let rules = self
            .names
            .get(&number)
            .and_then(|name| self.rules.get(name));
        let matching = rules.and_then(|r| {
            r.iter()
                .find(|(c, _)| c.iter().all(|c| holds(c, arguments)))
        });
        matching.map_or(self.default, |(_, action)| *action)
    }
}

fn check(policy: &LinuxSeccomp) {
    let program = compile(policy).unwrap();
    let mut values = vec![
        0,
        1,
        8,
        40,
        0x2_0000,
        0x2_0008,
        0xffff_ffff,
        0x7e02_0000,
        0x0100_0000,
        1 << 32,
        u64::MAX,
    ];
    for condition in policy
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|r| r.args().clone().unwrap_or_default())
    {
        let value = condition.value();
        values.extend([
            value,
            value.wrapping_add(1),
            value.wrapping_sub(1),
            value ^ (1 << 32),
            value << 32,
        ]);
    }
    for (abi, start) in [(Abi::X86_64, 0), (Abi::X86, 0), (Abi::X32, X32_BIT)] {
        let plain = Plain::new(policy, abi);
        for number in (start..start + 700).chain([start + 0x0fff_ffff]) {
            for value in &values {
                for place in 0..3 {
                    let mut arguments = [0; 6];
                    arguments[place] = *value;
                    let found = interpret(&program, abi.audit(), number, arguments);
                    assert_eq!(
                        found,
                        plain.says(number, arguments),
                        "{abi:?} {number} {arguments:x?}"
                    );
                }
            }
        }
    }
    assert_eq!(interpret(&program, 0xc000_00b7, 0, [0; 6]), KILL);
}

#[test]
fn dockers_policy_is_what_the_program_does() {
    for granted in [DOCKER_DEFAULT, 0, (1 << 41) - 1] {
        check(&docker_default(granted, NOW));
    }
}

#[test]
fn every_comparison() {
    let mut rules = Vec::new();
    let names = ["read", "write", "open", "close", "stat", "fstat", "lstat"];
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    for (name, operator) in names.iter().zip(operators) {
        rules.push(format!(
            r#"{{"names":["{name}"],"action":"SCMP_ACT_ALLOW","args":[
                {{"index":1,"value":4294967303,"valueTwo":4294967298,"op":"SCMP_CMP_{operator}"}},
                {{"index":0,"value":0,"op":"SCMP_CMP_EQ"}}]}},
               {{"names":["{name}"],"action":"SCMP_ACT_ERRNO","errnoRet":7,"args":[
                {{"index":1,"value":3,"op":"SCMP_CMP_{operator}"}}]}}"#
        ));
    }
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[{}],"architectures":
            ["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"]}}"#,
        rules.join(",")
    );
    check(&parse_profile(&json, 0, NOW).unwrap());
}

#[test]
fn conditions_of_a_profile() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO",
        "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
                   {"architecture":"SCMP_ARCH_S390X","subArchitectures":null}],
        "syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["write"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["open"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390"]}},
            {"names":["close"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"6.2"}},
            {"name":"stat","action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8","arches":["amd64"]}}]}"#;
    let names = |granted| {
        let policy = parse_profile(json, granted, NOW).unwrap();
        let rules = policy.syscalls().clone().unwrap();
        rules
            .iter()
            .flat_map(|r| r.names().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(1 << 21), ["read", "stat"]);
    assert_eq!(names(0), ["write", "stat"]);
    for bad in ["", "{}", "[]", r#"{"defaultAction":"SCMP_ACT_NONSENSE"}"#] {
        assert!(parse_profile(bad, 0, NOW).is_err(), "{bad}");
    }
}

#[test]
fn the_kernel_takes_it_and_does_as_it_says() {
    let policy = docker_default(DOCKER_DEFAULT, Kernel::running());
    let start = Instant::now();
    let program = compiler::compile(&policy).unwrap();
    let compiled = start.elapsed();
    let start = Instant::now();
    assert_eq!(compile(&policy).unwrap(), program);
    let _ = compile(&policy).unwrap();
    eprintln!(
        "{} instructions, compiled in {compiled:?}, twice again in {:?}",
        program.len() / 8,
        start.elapsed()
    );
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ls / | wc -l; date; true | cat; exit 7"])
        .stdout(std::process::Stdio::null());
    let inside = move || {
        let start = Instant::now();
        load(&program)?;
        let took = start.elapsed();
        let fails = |number: i64, first: u64, errno: i32| {
            // SAFETY: the calls are refused before the kernel looks at their arguments.
            let result = unsafe { libc::syscall(number, first, 0, 0, 0, 0) };
            let error = std::io::Error::last_os_error();
            if result == -1 && error.raw_os_error() == Some(errno) {
                Ok(())
            } else {
                Err(std::io::Error::from_raw_os_error(libc::EPROTO))
            }
        };
        fails(libc::SYS_unshare, libc::CLONE_NEWUSER as u64, libc::EPERM)?;
        fails(libc::SYS_keyctl, 0, libc::EPERM)?;
        fails(libc::SYS_mount, 0, libc::EPERM)?;
        fails(libc::SYS_clone3, 0, libc::ENOSYS)?;
        fails(libc::SYS_socket, 40, libc::EPERM)?;
        fails(9_999, 0, libc::ENOSYS)?;
        eprintln!("loaded in {took:?}");
        Ok(())
    };
    // SAFETY: the closure makes system calls, and prints with what the test's one thread holds.
    unsafe { command.pre_exec(inside) };
    assert_eq!(command.status().unwrap().code(), Some(7));
}
