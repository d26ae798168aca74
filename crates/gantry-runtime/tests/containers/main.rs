//! Containers on the real kernel: as root, with busybox as the root file system. The test binary is its own spawner.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod confinement;
mod cost;
mod exec;
mod kit;
mod live_mounts;
mod process;
mod streams;
mod survival;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().next().unwrap_or_default();
    if name == "gantry-spawner" {
        gantry_runtime::spawner::spawner_main();
    }
    if name == survival::DAEMON {
        survival::daemon_main();
    }
    if name == "/sbin/docker-init" {
        gantry_runtime::pid1::init_main();
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests make containers: run them as root"
    );
    let mut trials: Vec<Trial> = Vec::new();
    trials.extend(process::all());
    trials.extend(streams::all());
    trials.extend(confinement::all());
    trials.extend(exec::all());
    trials.extend(live_mounts::all());
    trials.extend(cost::all());
    trials.extend(survival::all());
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    kit::remove_cgroup_parent();
    conclusion.exit_code()
}
