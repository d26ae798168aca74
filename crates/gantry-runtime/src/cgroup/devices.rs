//! Device rules of v2: a `BPF_PROG_TYPE_CGROUP_DEVICE` program, assembled here.
//!
//! The kernel calls it with `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }` (linux/bpf.h); the upper half
//! of the first is what is asked for, the lower one the kind of device. It returns 1 to allow.

use super::{CgroupError, Result};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

// bpf(2), linux/bpf.h.
const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ATTACH_ALLOW_MULTI: u32 = 2;

/// `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
const MOVE_REGISTER: u8 = 0xbc; // ALU | MOV | X
const MOVE: u8 = 0xb4; // ALU | MOV | K
const AND: u8 = 0x54; // ALU | AND | K
const SHIFT_RIGHT: u8 = 0x74; // ALU | RSH | K
const JUMP_NOT_EQUAL: u8 = 0x56; // JMP32 | JNE | K
const JUMP_IF_BITS: u8 = 0x46; // JMP32 | JSET | K
const JUMP: u8 = 0x05; // JMP | JA
const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn instruction(
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    Instruction {
        code,
        registers: destination | source << 4,
        offset,
        immediate,
    }
}

/// The program for a list of rules, where a later rule stands above an earlier one, as with v1. What no rule
/// allows is denied.
pub(super) fn assemble(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Instruction>> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut block = Vec::new();
        let access = access(rule)?;
        if rule.allow() {
            // What is left to be asked of the earlier rules; nothing: allowed.
            block.push(instruction(AND, ACCESS, 0, 0, !access));
            block.push(instruction(JUMP_NOT_EQUAL, ACCESS, 0, 2, 0));
            block.extend([
                instruction(MOVE, RESULT, 0, 0, 1),
                instruction(EXIT, 0, 0, 0, 0),
            ]);
        } else {
            block.push(instruction(JUMP_IF_BITS, ACCESS, 0, 1, access));
            block.push(instruction(JUMP, 0, 0, 2, 0));
            block.extend([
                instruction(MOVE, RESULT, 0, 0, 0),
                instruction(EXIT, 0, 0, 0, 0),
            ]);
        }
        // Conditions before the block jump over it; built from the last to the first, so each knows its distance.
        for (register, value) in conditions(rule)?.into_iter().rev() {
            block.insert(
                0,
                instruction(JUMP_NOT_EQUAL, register, 0, block.len() as i16, value),
            );
        }
        program.extend(block);
    }
    program.extend([
        instruction(MOVE, RESULT, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    Ok(program)
}

fn conditions(rule: &LinuxDeviceCgroup) -> Result<Vec<(u8, i32)>> {
    let mut conditions = Vec::new();
    match rule.typ().unwrap_or(LinuxDeviceType::A) {
        // All devices: a rule's numbers mean nothing then.
        LinuxDeviceType::A => return Ok(conditions),
        LinuxDeviceType::B => conditions.push((KIND, KIND_BLOCK)),
        LinuxDeviceType::C | LinuxDeviceType::U => conditions.push((KIND, KIND_CHARACTER)),
        LinuxDeviceType::P => {
            return Err(CgroupError::BadValue(
                "a FIFO cannot have a device rule".into(),
            ));
        }
    }
    for (register, number) in [(MAJOR, rule.major()), (MINOR, rule.minor())] {
        if let Some(number) = number.filter(|n| *n >= 0) {
            let value = i32::try_from(number)
                .map_err(|_| CgroupError::BadValue(format!("{number} is not a device's number")))?;
            conditions.push((register, value));
        }
    }
    Ok(conditions)
}

fn access(rule: &LinuxDeviceCgroup) -> Result<i32> {
    let mut bits = 0;
    let text = match rule.access().as_deref() {
        None | Some("") => "rwm",
        Some(text) => text,
    };
    for letter in text.chars() {
        bits |= match letter {
            'r' => ACCESS_READ,
            'w' => ACCESS_WRITE,
            'm' => ACCESS_MKNOD,
            _ => {
                return Err(CgroupError::BadValue(format!(
                    "{text:?} is not a device rule's access"
                )));
            }
        };
    }
    Ok(bits)
}

/// `union bpf_attr` as BPF_PROG_LOAD takes it, up to the log's buffer.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// `union bpf_attr` as BPF_PROG_ATTACH takes it.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Calls bpf(2).
fn bpf<T>(command: i32, attributes: &T) -> std::io::Result<i64> {
    // SAFETY: the attributes are a prefix of `union bpf_attr`, which the size says; the kernel takes what is beyond as
    // zero. The pointers in them are to data that the callers keep alive over the call. The kernel writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            std::mem::size_of::<T>(),
        )
    };
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Loads a program.
pub(super) fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let attributes = LoadAttributes {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes).map_err(|source| CgroupError::Program {
        operation: "load",
        source,
    })?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Loads a program and attaches it to a group; it lives as long as the group.
pub(super) fn attach(dir: BorrowedFd<'_>, program: &[Instruction]) -> Result<()> {
    let loaded = load(program)?;
    let attributes = AttachAttributes {
        target: dir.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ATTACH_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attributes).map_err(|source| CgroupError::Program {
        operation: "attach",
        source,
    })?;
    Ok(())
}
