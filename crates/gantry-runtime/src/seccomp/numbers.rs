//! System calls by name, for each architecture that a container's programs can be of here.
//!
//! The tables in `syscalls/` are the kernel's headers as lines of `name number`, sorted by name.

use oci_spec::runtime::Arch;
use std::collections::HashMap;
use std::sync::OnceLock;

/// The bit that x32's numbers have above x86_64's.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// An interface to the kernel that has numbers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Abi {
    pub(super) const ALL: [Abi; 5] = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm];

    /// What this binary is built for.
    pub(super) const NATIVE: Abi = if cfg!(target_arch = "aarch64") {
        Abi::Aarch64
    } else {
        Abi::X86_64
    };

    pub(super) fn of(arch: Arch) -> Option<Self> {
        match arch {
            Arch::ScmpArchNative => Some(Self::NATIVE),
            Arch::ScmpArchX86_64 => Some(Self::X86_64),
            Arch::ScmpArchX86 => Some(Self::X86),
            Arch::ScmpArchX32 => Some(Self::X32),
            Arch::ScmpArchAarch64 => Some(Self::Aarch64),
            Arch::ScmpArchArm => Some(Self::Arm),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*` (linux/audit.h).
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::X86_64 => include_str!("syscalls/x86_64.txt"),
            Self::X86 => include_str!("syscalls/x86.txt"),
            Self::X32 => include_str!("syscalls/x32.txt"),
            Self::Aarch64 => include_str!("syscalls/aarch64.txt"),
            Self::Arm => include_str!("syscalls/arm.txt"),
        }
    }

    /// All of its system calls.
    pub(super) fn numbers(self) -> &'static HashMap<&'static str, u32> {
        static TABLES: [OnceLock<HashMap<&'static str, u32>>; 5] = [const { OnceLock::new() }; 5];
        TABLES[self as usize].get_or_init(|| {
            let lines = self.text().lines().filter_map(|line| line.split_once(' '));
            lines
                .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
                .collect()
        })
    }
}
