//! `linux.resources`: limits and device rules.

use super::{SpecInput, unbuildable};
use crate::error::{Error, Result};
use gantry_api::container::{HostConfig, ThrottleDevice};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxPidsBuilder, LinuxResources,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

/// Microseconds of one CPU period when none is asked for.
const PERIOD: i64 = 100_000;

/// All of them.
pub(super) fn all(input: &SpecInput<'_>) -> Result<LinuxResources> {
    let host = input.host;
    let mut resources = LinuxResources::default();
    resources.set_devices(Some(super::devices::rules(host, &input.devices)?));
    resources.set_memory(Some(memory(host)));
    resources.set_cpu(Some(cpu(host)));
    resources.set_pids(pids(host)?);
    resources.set_block_io(block_io(host)?);
    Ok(resources)
}

/// The limits that an update can change.
pub(crate) fn limits(host: &HostConfig) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory(host)));
    resources.set_cpu(Some(cpu(host)));
    resources.set_pids(pids(host)?);
    let mut io = LinuxBlockIo::default();
    io.set_weight(Some(host.blkio_weight).filter(|w| *w != 0));
    resources.set_block_io(Some(io));
    Ok(resources)
}

fn pids(host: &HostConfig) -> Result<Option<LinuxPids>> {
    let limit = host.pids_limit.filter(|limit| *limit > 0);
    let pids = limit.map(|limit| LinuxPidsBuilder::default().limit(limit).build());
    pids.transpose().map_err(unbuildable)
}

fn memory(host: &HostConfig) -> LinuxMemory {
    let mut memory = LinuxMemory::default();
    let given = |value: i64| Some(value).filter(|v| *v != 0);
    memory.set_limit(given(host.memory).filter(|m| *m > 0));
    memory.set_reservation(given(host.memory_reservation).filter(|m| *m > 0));
    // -1 is no limit; without a memory limit a swap limit means nothing.
    memory.set_swap(given(host.memory_swap).filter(|_| host.memory > 0));
    memory.set_swappiness(host.memory_swappiness.and_then(|s| u64::try_from(s).ok()));
    memory.set_disable_oom_killer(host.oom_kill_disable);
    memory
}

fn cpu(host: &HostConfig) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    let unsigned = |value: i64| u64::try_from(value).ok().filter(|v| *v != 0);
    cpu.set_shares(unsigned(host.cpu_shares));
    if host.nano_cpus > 0 {
        cpu.set_period(unsigned(PERIOD));
        cpu.set_quota(Some(host.nano_cpus / 1_000 * PERIOD / 1_000_000));
    } else {
        cpu.set_period(unsigned(host.cpu_period));
        cpu.set_quota(Some(host.cpu_quota).filter(|q| *q != 0));
    }
    cpu.set_realtime_period(unsigned(host.cpu_realtime_period));
    cpu.set_realtime_runtime(Some(host.cpu_realtime_runtime).filter(|r| *r != 0));
    let text = |value: &String| Some(value.clone()).filter(|v| !v.is_empty());
    cpu.set_cpus(text(&host.cpuset_cpus));
    cpu.set_mems(text(&host.cpuset_mems));
    cpu
}

fn block_io(host: &HostConfig) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    io.set_weight(Some(host.blkio_weight).filter(|w| *w != 0));
    let mut weights = Vec::new();
    for device in host.blkio_weight_device.iter().flatten() {
        let (major, minor) = numbers(&device.path)?;
        let weight = LinuxWeightDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .weight(device.weight);
        weights.push(weight.build().map_err(unbuildable)?);
    }
    let some = |list: Vec<LinuxThrottleDevice>| Some(list).filter(|l| !l.is_empty());
    io.set_weight_device(Some(weights).filter(|w| !w.is_empty()));
    io.set_throttle_read_bps_device(some(throttles(&host.blkio_device_read_bps)?));
    io.set_throttle_write_bps_device(some(throttles(&host.blkio_device_write_bps)?));
    io.set_throttle_read_iops_device(some(throttles(&host.blkio_device_read_iops)?));
    io.set_throttle_write_iops_device(some(throttles(&host.blkio_device_write_iops)?));
    Ok((io != LinuxBlockIo::default()).then_some(io))
}

fn throttles(list: &Option<Vec<ThrottleDevice>>) -> Result<Vec<LinuxThrottleDevice>> {
    let mut throttles = Vec::new();
    for device in list.iter().flatten() {
        let (major, minor) = numbers(&device.path)?;
        let throttle = LinuxThrottleDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .rate(device.rate);
        throttles.push(throttle.build().map_err(unbuildable)?);
    }
    Ok(throttles)
}

fn numbers(path: &str) -> Result<(i64, i64)> {
    let stat = rustix::fs::stat(path).map_err(|e| {
        Error::caused(
            &format!("cannot look at the block device {path}"),
            std::io::Error::from(e),
        )
    })?;
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    Ok((i64::from(major), i64::from(minor)))
}
