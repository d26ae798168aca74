//! Limits as v1 files. Sources: Documentation/admin-guide/cgroup-v1 of the kernel.

use super::tree::{put, put_if_there, text};
use super::update::Write;
use super::{CgroupError, Hierarchy, Result};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};
use std::os::fd::BorrowedFd;

/// Writes what of the limits belongs to this hierarchy.
pub(super) fn apply(
    dir: BorrowedFd<'_>,
    hierarchy: &Hierarchy,
    resources: &LinuxResources,
) -> Result<()> {
    if hierarchy.has("memory")
        && let Some(limits) = resources.memory()
    {
        memory(dir, limits)?;
    }
    if let Some(limits) = resources.cpu() {
        if hierarchy.has("cpu") {
            cpu(dir, limits)?;
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
    if hierarchy.has("blkio")
        && let Some(limits) = resources.block_io()
    {
        blkio(dir, limits)?;
    }
    if hierarchy.has("devices") {
        for rule in resources.devices().iter().flatten() {
            device(dir, rule)?;
        }
    }
    if hierarchy.has("hugetlb") {
        for limit in resources.hugepage_limits().iter().flatten() {
            put(
                dir,
                &format!("hugetlb.{}.limit_in_bytes", limit.page_size()),
                &limit.limit().to_string(),
            )?;
        }
    }
    Ok(())
}

fn memory(dir: BorrowedFd<'_>, limits: &LinuxMemory) -> Result<()> {
    let limit = limits.limit().filter(|l| *l != 0);
    let swap = limits.swap().filter(|s| *s != 0);
    if let Some(limit) = limit {
        put(dir, "memory.limit_in_bytes", &limit.to_string())?;
    }
    if let Some(swap) = swap {
        // COMPAT: a kernel that does not account for swap gets no swap limit, as with Docker, which warns at create.
        put_if_there(dir, "memory.memsw.limit_in_bytes", &swap.to_string())?;
    }
    if let Some(reservation) = limits.reservation().filter(|r| *r != 0) {
        put(dir, "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(swappiness) = limits.swappiness().filter(|s| *s <= 100) {
        put_if_there(dir, "memory.swappiness", &swappiness.to_string())?;
    }
    if limits.disable_oom_killer() == Some(true) {
        put(dir, "memory.oom_control", "1")?;
    }
    Ok(())
}

fn cpu(dir: BorrowedFd<'_>, limits: &LinuxCpu) -> Result<()> {
    let unsigned = |file, value: Option<u64>| match value.filter(|v| *v != 0) {
        Some(value) => put(dir, file, &value.to_string()),
        None => Ok(()),
    };
    unsigned("cpu.shares", limits.shares())?;
    unsigned("cpu.cfs_period_us", limits.period())?;
    if let Some(quota) = limits.quota().filter(|q| *q != 0) {
        put(dir, "cpu.cfs_quota_us", &quota.to_string())?;
    }
    unsigned("cpu.cfs_burst_us", limits.burst())?;
    unsigned("cpu.rt_period_us", limits.realtime_period())?;
    if let Some(runtime) = limits.realtime_runtime().filter(|r| *r != 0) {
        put(dir, "cpu.rt_runtime_us", &runtime.to_string())?;
    }
    if let Some(idle) = limits.idle() {
        put(dir, "cpu.idle", &idle.to_string())?;
    }
    Ok(())
}

fn blkio(dir: BorrowedFd<'_>, limits: &LinuxBlockIo) -> Result<()> {
    if let Some(weight) = limits.weight().filter(|w| *w != 0) {
        // COMPAT: without a scheduler that knows weights Docker warns at create and goes on.
        let _ = put_if_there(dir, "blkio.weight", &weight.to_string())?
            || put_if_there(dir, "blkio.bfq.weight", &weight.to_string())?;
    }
    for device in limits.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let line = format!("{}:{} {weight}", device.major(), device.minor());
            let _ = put_if_there(dir, "blkio.weight_device", &line)?
                || put_if_there(dir, "blkio.bfq.weight_device", &line)?;
        }
    }
    for (file, list) in [
        (
            "blkio.throttle.read_bps_device",
            limits.throttle_read_bps_device(),
        ),
        (
            "blkio.throttle.write_bps_device",
            limits.throttle_write_bps_device(),
        ),
        (
            "blkio.throttle.read_iops_device",
            limits.throttle_read_iops_device(),
        ),
        (
            "blkio.throttle.write_iops_device",
            limits.throttle_write_iops_device(),
        ),
    ] {
        for device in list.iter().flatten() {
            put(
                dir,
                file,
                &format!("{}:{} {}", device.major(), device.minor(), device.rate()),
            )?;
        }
    }
    Ok(())
}

fn device(dir: BorrowedFd<'_>, rule: &LinuxDeviceCgroup) -> Result<()> {
    let file = if rule.allow() {
        "devices.allow"
    } else {
        "devices.deny"
    };
    put(dir, file, &device_line(rule)?)
}

/// A rule as `devices.allow` takes it: `c 1:3 rwm`, or `a` for all.
fn device_line(rule: &LinuxDeviceCgroup) -> Result<String> {
    use oci_spec::runtime::LinuxDeviceType as T;
    let kind = match rule.typ().unwrap_or(T::A) {
        T::A => return Ok("a".to_owned()),
        T::B => 'b',
        T::C | T::U => 'c',
        T::P => {
            return Err(CgroupError::BadValue(
                "a FIFO cannot have a device rule".into(),
            ));
        }
    };
    let number = |n: Option<i64>| {
        n.filter(|n| *n >= 0)
            .map_or("*".to_owned(), |n| n.to_string())
    };
    let access = rule.access().as_deref().unwrap_or("rwm");
    Ok(format!(
        "{kind} {}:{} {access}",
        number(rule.major()),
        number(rule.minor())
    ))
}

/// The limits that can be changed while processes run.
pub(super) fn limits(resources: &LinuxResources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory() {
        for (file, value) in [
            ("memory.limit_in_bytes", memory.limit()),
            ("memory.soft_limit_in_bytes", memory.reservation()),
        ] {
            let value = value.filter(|v| *v != 0);
            writes.extend(value.map(|v| Write::new("memory", file, v.to_string())));
        }
        let swap = memory.swap().filter(|s| *s != 0);
        let file = "memory.memsw.limit_in_bytes";
        writes.extend(swap.map(|s| Write::new("memory", file, s.to_string()).optional()));
    }
    if let Some(cpu) = resources.cpu() {
        let mut add = |file, value: Option<String>| {
            let value = value.filter(|v| v != "0");
            writes.extend(value.map(|v| Write::new("cpu", file, v)));
        };
        add("cpu.shares", cpu.shares().map(|s| s.to_string()));
        add("cpu.cfs_period_us", cpu.period().map(|p| p.to_string()));
        add("cpu.cfs_quota_us", cpu.quota().map(|q| q.to_string()));
        add(
            "cpu.rt_period_us",
            cpu.realtime_period().map(|p| p.to_string()),
        );
        add(
            "cpu.rt_runtime_us",
            cpu.realtime_runtime().map(|r| r.to_string()),
        );
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            let value = value.clone().filter(|v| !v.is_empty());
            writes.extend(value.map(|v| Write::new("cpuset", file, v)));
        }
    }
    writes.push(Write::new("pids", "pids.max", pids(resources)));
    let weight = resources.block_io().as_ref().and_then(LinuxBlockIo::weight);
    if let Some(weight) = weight.filter(|w| *w != 0) {
        for file in ["blkio.weight", "blkio.bfq.weight"] {
            writes.push(Write::new("blkio", file, weight.to_string()).optional());
        }
    }
    writes
}

/// The limit of processes as `pids.max` takes it.
pub(super) fn pids(resources: &LinuxResources) -> String {
    let limit = resources.pids().map(|pids| pids.limit());
    limit
        .filter(|limit| *limit > 0)
        .map_or_else(|| "max".to_owned(), |limit| limit.to_string())
}

/// Gives a new cpuset its parent's processors and memory nodes: empty, it takes no process.
pub(super) fn inherit_cpuset(parent: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if text(dir, file)?.trim().is_empty() {
            put(dir, file, text(parent, file)?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxDeviceCgroupBuilder, LinuxDeviceType};

    #[test]
    fn device_lines() {
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C);
        let rule = rule.major(1).access("rwm").build().unwrap();
        assert_eq!(device_line(&rule).unwrap(), "c 1:* rwm");
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(false)
            .access("rwm")
            .build()
            .unwrap();
        assert_eq!(device_line(&rule).unwrap(), "a");
    }
}
