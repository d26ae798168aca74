//! Limits as v2 files. Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.

use super::tree::{put, put_if_there, text};
use super::update::Write;
use super::{CgroupError, Hierarchy, Result, devices};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use std::os::fd::BorrowedFd;

/// Hands all controllers down to the groups below `parent`.
pub(super) fn enable_controllers(parent: BorrowedFd<'_>, hierarchy: &Hierarchy) -> Result<()> {
    let enabled = text(parent, "cgroup.subtree_control")?;
    for controller in hierarchy.controllers() {
        if enabled.split_whitespace().any(|e| e == controller) {
            continue;
        }
        let put = put(parent, "cgroup.subtree_control", &format!("+{controller}"));
        // One controller that is refused (cpu, with realtime processes about) leaves the others: a limit of it fails
        // later, by its missing file.
        if let Err(error) = put
            && error
                .io()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Writes all limits and attaches the device program.
pub(super) fn apply(
    dir: BorrowedFd<'_>,
    hierarchy: &Hierarchy,
    resources: &LinuxResources,
    devices_on_v1: bool,
) -> Result<()> {
    if let Some(limits) = resources.memory() {
        memory(dir, hierarchy, limits)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(dir, hierarchy, limits)?;
    }
    if hierarchy.has("pids")
        && let Some(limits) = resources.pids()
    {
        let limit = limits.limit();
        put(
            dir,
            "pids.max",
            &if limit > 0 {
                limit.to_string()
            } else {
                "max".to_owned()
            },
        )?;
    }
    if hierarchy.has("io")
        && let Some(limits) = resources.block_io()
    {
        io(dir, limits)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        put(
            dir,
            &format!("hugetlb.{}.max", limit.page_size()),
            &limit.limit().to_string(),
        )?;
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || file.starts_with("cgroup.") {
            return Err(CgroupError::BadValue(format!(
                "{file:?} is not a limit's file"
            )));
        }
        put(dir, file, value)?;
    }
    // On a hybrid machine the v1 controller has them.
    let rules = resources.devices().as_ref().filter(|r| !r.is_empty());
    if let Some(rules) = rules
        && !devices_on_v1
    {
        devices::attach(dir, &devices::assemble(rules)?)?;
    }
    Ok(())
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

fn memory(dir: BorrowedFd<'_>, hierarchy: &Hierarchy, limits: &LinuxMemory) -> Result<()> {
    if !hierarchy.has("memory") {
        return Ok(());
    }
    let limit = limits.limit().filter(|l| *l != 0);
    if let Some(limit) = limit {
        put(dir, "memory.max", &or_max(limit))?;
    }
    if let Some(swap) = swap_alone(limit, limits.swap().filter(|s| *s != 0))? {
        // COMPAT: a kernel that does not account for swap gets no swap limit, as with Docker, which warns at create.
        put_if_there(dir, "memory.swap.max", &or_max(swap))?;
    }
    if let Some(reservation) = limits.reservation().filter(|r| *r != 0) {
        put(dir, "memory.low", &or_max(reservation))?;
    }
    Ok(())
}

/// The spec's swap counts memory and swap together, as v1 did; v2 counts swap alone.
fn swap_alone(limit: Option<i64>, swap: Option<i64>) -> Result<Option<i64>> {
    match (limit, swap) {
        (_, None) => Ok(None),
        (_, Some(swap)) if swap < 0 => Ok(Some(-1)),
        (Some(limit), Some(swap)) if limit > 0 && swap >= limit => Ok(Some(swap - limit)),
        _ => Err(CgroupError::BadValue(
            "a swap limit needs a memory limit that is not above it".into(),
        )),
    }
}

/// `cpu.shares` (2 to 262144) as `cpu.weight` (1 to 10000).
// COMPAT: the linear map of the runc that Docker 28 ships: 1024 shares become weight 39, not the default of 100.
fn weight_of(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9_999 / 262_142
}

fn cpu(dir: BorrowedFd<'_>, hierarchy: &Hierarchy, limits: &LinuxCpu) -> Result<()> {
    if hierarchy.has("cpu") {
        cpu_time(dir, limits)?;
    }
    if hierarchy.has("cpuset") {
        for (file, value) in [
            ("cpuset.cpus", limits.cpus()),
            ("cpuset.mems", limits.mems()),
        ] {
            if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
                put(dir, file, value)?;
            }
        }
    }
    Ok(())
}

fn cpu_time(dir: BorrowedFd<'_>, limits: &LinuxCpu) -> Result<()> {
    if let Some(shares) = limits.shares().filter(|s| *s != 0) {
        put(dir, "cpu.weight", &weight_of(shares).to_string())?;
    }
    let quota = limits.quota().filter(|q| *q != 0);
    let period = limits.period().filter(|p| *p != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota
            .filter(|q| *q > 0)
            .map_or("max".to_owned(), |q| q.to_string());
        put(
            dir,
            "cpu.max",
            &format!("{quota} {}", period.unwrap_or(100_000)),
        )?;
    }
    if let Some(burst) = limits.burst() {
        put(dir, "cpu.max.burst", &burst.to_string())?;
    }
    if let Some(idle) = limits.idle() {
        put(dir, "cpu.idle", &idle.to_string())?;
    }
    Ok(())
}

/// The limits that can be changed while processes run.
pub(super) fn limits(resources: &LinuxResources) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|l| *l != 0);
        let mut add = |file, value: Option<i64>| {
            writes.extend(value.map(|v| Write::new("memory", file, or_max(v))));
        };
        add("memory.max", limit);
        add("memory.low", memory.reservation().filter(|r| *r != 0));
        let swap = swap_alone(limit, memory.swap().filter(|s| *s != 0))?;
        let file = "memory.swap.max";
        writes.extend(swap.map(|s| Write::new("memory", file, or_max(s)).optional()));
    }
    if let Some(cpu) = resources.cpu() {
        let shares = cpu.shares().filter(|s| *s != 0);
        writes.extend(shares.map(|s| Write::new("cpu", "cpu.weight", weight_of(s).to_string())));
        let quota = cpu.quota().filter(|q| *q != 0);
        let period = cpu.period().filter(|p| *p != 0);
        if quota.is_some() || period.is_some() {
            let quota = or_max(quota.unwrap_or(-1));
            let value = format!("{quota} {}", period.unwrap_or(100_000));
            writes.push(Write::new("cpu", "cpu.max", value));
        }
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            let value = value.clone().filter(|v| !v.is_empty());
            writes.extend(value.map(|v| Write::new("cpuset", file, v)));
        }
    }
    writes.push(Write::new("pids", "pids.max", super::v1::pids(resources)));
    let weight = resources.block_io().as_ref().and_then(LinuxBlockIo::weight);
    if let Some(weight) = weight.filter(|w| *w != 0) {
        writes.push(Write::new("io", "io.bfq.weight", weight.to_string()).optional());
        let weight = io_weight(weight).to_string();
        writes.push(Write::new("io", "io.weight", weight).optional());
    }
    Ok(writes)
}

fn io(dir: BorrowedFd<'_>, limits: &LinuxBlockIo) -> Result<()> {
    if let Some(weight) = limits.weight().filter(|w| *w != 0) {
        // BFQ takes the value as it is; io.weight has another range.
        let _ = put_if_there(dir, "io.bfq.weight", &weight.to_string())?
            || put_if_there(dir, "io.weight", &io_weight(weight).to_string())?;
    }
    for device in limits.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            put_if_there(
                dir,
                "io.bfq.weight",
                &format!("{}:{} {weight}", device.major(), device.minor()),
            )?;
        }
    }
    for (key, list) in [
        ("rbps", limits.throttle_read_bps_device()),
        ("wbps", limits.throttle_write_bps_device()),
        ("riops", limits.throttle_read_iops_device()),
        ("wiops", limits.throttle_write_iops_device()),
    ] {
        for device in list.iter().flatten() {
            put(
                dir,
                "io.max",
                &format!(
                    "{}:{} {key}={}",
                    device.major(),
                    device.minor(),
                    device.rate()
                ),
            )?;
        }
    }
    Ok(())
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9_999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        assert_eq!(
            (weight_of(2), weight_of(1024), weight_of(262_144)),
            (1, 39, 10_000)
        );
        assert_eq!(
            (io_weight(10), io_weight(500), io_weight(1000)),
            (1, 4950, 10_000)
        );
        assert_eq!(swap_alone(Some(100), Some(250)).unwrap(), Some(150));
        assert_eq!(swap_alone(Some(100), Some(-1)).unwrap(), Some(-1));
        assert_eq!(swap_alone(Some(100), None).unwrap(), None);
        assert!(swap_alone(None, Some(5)).is_err());
    }
}
