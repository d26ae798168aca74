//! Capabilities: names and bits, Docker's way from `--cap-add` and `--cap-drop` to a set, and putting one on.
//!
//! A set is a `u64`, bit n for the capability with number n (capabilities(7)).

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

/// Every capability by its number, with the name that the OCI spec's types have for it.
const TABLE: [(&str, Capability); 41] = [
    ("CAP_CHOWN", Capability::Chown),
    ("CAP_DAC_OVERRIDE", Capability::DacOverride),
    ("CAP_DAC_READ_SEARCH", Capability::DacReadSearch),
    ("CAP_FOWNER", Capability::Fowner),
    ("CAP_FSETID", Capability::Fsetid),
    ("CAP_KILL", Capability::Kill),
    ("CAP_SETGID", Capability::Setgid),
    ("CAP_SETUID", Capability::Setuid),
    ("CAP_SETPCAP", Capability::Setpcap),
    ("CAP_LINUX_IMMUTABLE", Capability::LinuxImmutable),
    ("CAP_NET_BIND_SERVICE", Capability::NetBindService),
    ("CAP_NET_BROADCAST", Capability::NetBroadcast),
    ("CAP_NET_ADMIN", Capability::NetAdmin),
    ("CAP_NET_RAW", Capability::NetRaw),
    ("CAP_IPC_LOCK", Capability::IpcLock),
    ("CAP_IPC_OWNER", Capability::IpcOwner),
    ("CAP_SYS_MODULE", Capability::SysModule),
    ("CAP_SYS_RAWIO", Capability::SysRawio),
    ("CAP_SYS_CHROOT", Capability::SysChroot),
    ("CAP_SYS_PTRACE", Capability::SysPtrace),
    ("CAP_SYS_PACCT", Capability::SysPacct),
    ("CAP_SYS_ADMIN", Capability::SysAdmin),
    ("CAP_SYS_BOOT", Capability::SysBoot),
    ("CAP_SYS_NICE", Capability::SysNice),
    ("CAP_SYS_RESOURCE", Capability::SysResource),
    ("CAP_SYS_TIME", Capability::SysTime),
    ("CAP_SYS_TTY_CONFIG", Capability::SysTtyConfig),
    ("CAP_MKNOD", Capability::Mknod),
    ("CAP_LEASE", Capability::Lease),
    ("CAP_AUDIT_WRITE", Capability::AuditWrite),
    ("CAP_AUDIT_CONTROL", Capability::AuditControl),
    ("CAP_SETFCAP", Capability::Setfcap),
    ("CAP_MAC_OVERRIDE", Capability::MacOverride),
    ("CAP_MAC_ADMIN", Capability::MacAdmin),
    ("CAP_SYSLOG", Capability::Syslog),
    ("CAP_WAKE_ALARM", Capability::WakeAlarm),
    ("CAP_BLOCK_SUSPEND", Capability::BlockSuspend),
    ("CAP_AUDIT_READ", Capability::AuditRead),
    ("CAP_PERFMON", Capability::Perfmon),
    ("CAP_BPF", Capability::Bpf),
    ("CAP_CHECKPOINT_RESTORE", Capability::CheckpointRestore),
];

/// Docker's default set (oci/caps/defaults.go of Docker Engine 28): 14 capabilities.
pub const DOCKER_DEFAULT: u64 = bits_of(&[
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
]);

const fn bits_of(list: &[Capability]) -> u64 {
    let mut bits = 0;
    let mut at = 0;
    while at < list.len() {
        let mut number = 0;
        while number < TABLE.len() {
            if TABLE[number].1 as u32 == list[at] as u32 {
                bits |= 1 << number;
            }
            number += 1;
        }
        at += 1;
    }
    bits
}

/// Why a list of capability names is refused. The text is Docker's; `create` puts `invalid CapAdd: ` before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("unknown capability: {0:?}")]
    Unknown(String),
    #[error(
        "capability not supported by your kernel or not available in the current environment: {0:?}"
    )]
    Unavailable(String),
}

/// A list of `--cap-add` or `--cap-drop`, read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Named {
    /// `ALL` is in the list.
    pub all: bool,
    pub bits: u64,
}

/// The bit of one name, in any case, with or without `CAP_`.
pub fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = TABLE.iter().position(|(known, _)| &known[4..] == short)?;
    Some(1 << number)
}

/// The names of a set (`CAP_CHOWN`, ...), by number.
pub fn names(bits: u64) -> Vec<&'static str> {
    numbered(bits).map(|number| TABLE[number].0).collect()
}

fn numbered(bits: u64) -> impl Iterator<Item = usize> {
    (0..TABLE.len()).filter(move |number| bits & (1 << number) != 0)
}

/// A set as the OCI spec has it.
pub fn to_oci(bits: u64) -> Capabilities {
    numbered(bits).map(|number| TABLE[number].1).collect()
}

/// A set of the OCI spec as bits.
pub fn from_oci(set: &Capabilities) -> u64 {
    let wanted = TABLE.iter().enumerate();
    wanted
        .filter(|(_, (_, capability))| set.contains(capability))
        .fold(0, |bits, (number, _)| bits | 1 << number)
}

/// What this process can give: what it has itself, which is what the kernel knows where it is root.
pub fn available() -> u64 {
    let known = (1u64 << TABLE.len()) - 1;
    rustix::thread::capabilities(None).map_or(known, |sets| sets.effective.bits() & known)
}

/// Reads a list of names against what the machine has.
///
/// # Errors
/// A name that does not exist, or that this kernel or environment lacks.
pub fn parse(list: &[String], available: u64) -> Result<Named, NameError> {
    let mut named = Named::default();
    for name in list {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" {
            named.all = true;
            continue;
        }
        let full = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        let Some(bit) = bit(&full) else {
            return Err(NameError::Unknown(full));
        };
        if bit & available == 0 {
            return Err(NameError::Unavailable(full));
        }
        named.bits |= bit;
    }
    Ok(named)
}

/// The set a container gets (oci/caps/utils.go `TweakCapabilities` of Docker Engine 28).
pub fn resolve(basis: u64, add: Named, drop: Named, privileged: bool, available: u64) -> u64 {
    if privileged {
        // COMPAT: with --privileged, --cap-add and --cap-drop have no say.
        return available;
    }
    match (add.all, drop.all) {
        // COMPAT: --cap-drop ALL has no say against --cap-add ALL.
        (true, _) => available & !drop.bits,
        (false, true) => add.bits,
        (false, false) => (basis & !drop.bits) | add.bits,
    }
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

impl From<&LinuxCapabilities> for CapSets {
    fn from(spec: &LinuxCapabilities) -> Self {
        let bits = |set: &Option<Capabilities>| set.as_ref().map_or(0, from_oci);
        Self {
            bounding: bits(spec.bounding()),
            effective: bits(spec.effective()),
            permitted: bits(spec.permitted()),
            inheritable: bits(spec.inheritable()),
            ambient: bits(spec.ambient()),
        }
    }
}

impl CapSets {
    /// Drops from the bounding set what is not in ours; before the user changes, for it takes CAP_SETPCAP.
    /// Allocates nothing.
    ///
    /// # Errors
    /// `EPERM` without CAP_SETPCAP.
    pub fn apply_bounding(&self) -> Result<(), Errno> {
        for number in 0..64 {
            if self.bounding & (1 << number) != 0 {
                continue;
            }
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number))
            {
                // The first number that the kernel does not know: all that follow are unknown, too.
                Err(Errno::INVAL) => break,
                other => other?,
            }
        }
        Ok(())
    }

    /// Puts on the other four sets; after the user has changed with keep-capabilities on. Allocates nothing.
    ///
    /// # Errors
    /// `EPERM` where a set asks for more than the process has.
    pub fn apply(&self) -> Result<(), Errno> {
        set_capabilities(
            None,
            CapabilitySets {
                effective: CapabilitySet::from_bits_retain(self.effective),
                permitted: CapabilitySet::from_bits_retain(self.permitted),
                inheritable: CapabilitySet::from_bits_retain(self.inheritable),
            },
        )?;
        clear_ambient_capability_set()?;
        for number in 0..64 {
            if self.ambient & (1 << number) != 0 {
                configure_capability_in_ambient_set(
                    CapabilitySet::from_bits_retain(1 << number),
                    true,
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(list: &[&str]) -> Named {
        let list: Vec<String> = list.iter().map(|n| (*n).to_owned()).collect();
        parse(&list, (1 << 41) - 1).unwrap()
    }

    #[test]
    fn dockers_default_is_what_a_container_shows() {
        // CapEff of a Docker 28 container.
        assert_eq!(DOCKER_DEFAULT, 0xa804_25fb);
        assert_eq!(names(DOCKER_DEFAULT).len(), 14);
        assert_eq!(from_oci(&to_oci(DOCKER_DEFAULT)), DOCKER_DEFAULT);
    }

    #[test]
    fn the_table_is_the_kernels() {
        for (number, (name, capability)) in TABLE.iter().enumerate() {
            assert_eq!(bit(name), Some(1 << number));
            assert_eq!(*name, format!("CAP_{capability}"));
        }
        let last: usize = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_eq!(available() >> (last.min(TABLE.len() - 1) + 1), 0);
    }

    #[test]
    fn names_that_are_refused_in_dockers_words() {
        let list = vec!["nonsense".to_owned()];
        let error = parse(&list, u64::MAX).unwrap_err();
        assert_eq!(error.to_string(), "unknown capability: \"CAP_NONSENSE\"");
        let error = parse(&["chown".to_owned()], 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "capability not supported by your kernel or not available in the current environment: \"CAP_CHOWN\""
        );
    }

    #[test]
    fn add_and_drop() {
        let all = (1 << 41) - 1;
        let of = |add: &[&str], drop: &[&str]| {
            resolve(DOCKER_DEFAULT, named(add), named(drop), false, all)
        };
        assert_eq!(of(&[], &[]), DOCKER_DEFAULT);
        assert_eq!(of(&["ALL"], &["chown"]), all & !1);
        assert_eq!(of(&["net_admin"], &["ALL"]), 1 << 12);
        assert_eq!(
            of(&["CAP_SYS_ADMIN"], &["Chown"]),
            (DOCKER_DEFAULT & !1) | 1 << 21
        );
        assert_eq!(resolve(0, named(&[]), named(&["ALL"]), true, all), all);
    }

    #[test]
    fn a_thread_puts_a_set_on() {
        if available() & (1 << 8) == 0 {
            panic!("this test needs CAP_SETPCAP");
        }
        // Capabilities are a thread's own: the test's other threads keep theirs.
        let status = std::thread::spawn(|| {
            let sets = CapSets {
                bounding: DOCKER_DEFAULT,
                effective: 1,
                permitted: 3,
                inheritable: 2,
                ambient: 2,
            };
            sets.apply_bounding().unwrap();
            sets.apply().unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        })
        .join()
        .unwrap();
        for line in [
            "CapInh:\t0000000000000002",
            "CapPrm:\t0000000000000003",
            "CapEff:\t0000000000000001",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
        assert!(status.contains("CapBnd:\t00000000a80425fb"), "{status}");
        assert!(status.contains("CapAmb:\t0000000000000002"), "{status}");
    }
}
