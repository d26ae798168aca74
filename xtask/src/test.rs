//! `cargo xtask test`: everything that the tests need, all tests, one count.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::leaks::Machine;
use crate::{binary, debian};

/// Programs that tests call, and the packages that bring them.
const NEEDS: &[(&str, &str)] = &[
    ("busybox", "busybox-static"),
    ("debootstrap", "debootstrap"),
    ("skopeo", "skopeo"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("strace", "strace"),
    ("docker-registry", "docker-registry"),
    ("python3", "python3"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("iptables-nft", "iptables"),
    ("openssl", "openssl"),
    ("tar", "tar"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

/// Runs every test of the workspace against the release binary; `filters` choose by name.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    debian::require_root("the test suite")?;
    debian::need(NEEDS)?;
    let binary = binary::build()?;
    let before = Machine::now();
    let mut count = Count::default();
    let finished = tests(filters, &binary, &mut count)?;
    let left = before.left_behind();
    for thing in &left {
        println!("left behind: {thing}");
    }
    // That the machine is as it was is a test of its own.
    count.add(usize::from(left.is_empty()), usize::from(!left.is_empty()));
    if !finished && count.failed == 0 {
        println!("cargo test failed outside of a test");
        count.add(0, 1);
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    // The count is the last line: what failed has been told above.
    if count.failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Runs `cargo test` and hands its output on as it comes; whether it was content.
fn tests(filters: &[String], binary: &std::path::Path, count: &mut Count) -> Result<bool> {
    let mut child = binary::cargo()
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .arg("--")
        .args(filters)
        .env("GANTRY_BINARY", binary)
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    let output = child.stdout.take().context("no output of cargo test")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("read cargo test's output")?;
        println!("{line}");
        count.read(&line);
    }
    Ok(child.wait().context("wait for cargo test")?.success())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    fn add(&mut self, passed: usize, failed: usize) {
        self.passed += passed;
        self.failed += failed;
    }

    /// Adds what a closing line of libtest says. A test that was ignored was not run: it counts as failed,
    /// because nothing here may be skipped.
    fn read(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in rest.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match what {
                "passed" => self.add(number, 0),
                "failed" | "ignored" => self.add(0, number),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn adds_up_what_libtest_says() {
        let mut count = Count::default();
        count.read("running 3 tests");
        count.read("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s");
        count.read("test result: FAILED. 5 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.20s");
        assert_eq!(
            count,
            Count {
                passed: 8,
                failed: 2
            }
        );
    }
}
