//! Classic BPF as seccomp takes it (linux/filter.h, linux/seccomp.h).

/// Bytes of one instruction.
pub(super) const SIZE: usize = 8;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    /// How many instructions to skip when the comparison holds, and when it does not.
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) value: u32,
}

pub(super) const LOAD: u16 = 0x20; // LD | W | ABS
pub(super) const AND: u16 = 0x54; // ALU | AND | K
pub(super) const JUMP: u16 = 0x05; // JMP | JA
pub(super) const IF_EQUAL: u16 = 0x15; // JMP | JEQ | K
pub(super) const IF_GREATER: u16 = 0x25; // JMP | JGT | K
pub(super) const IF_GREATER_OR_EQUAL: u16 = 0x35; // JMP | JGE | K
pub(super) const RETURN: u16 = 0x06; // RET | K

/// Offsets in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

pub(super) fn plain(code: u16, value: u32) -> Instruction {
    compare(code, value, 0, 0)
}

pub(super) fn compare(code: u16, value: u32, yes: u8, no: u8) -> Instruction {
    Instruction {
        code,
        yes,
        no,
        value,
    }
}

/// The kernel's bytes.
pub(super) fn bytes(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * SIZE);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.yes, instruction.no]);
        bytes.extend_from_slice(&instruction.value.to_ne_bytes());
    }
    bytes
}
