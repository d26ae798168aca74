//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, by libFuzzer, on the pinned toolchain.
//!
//! The coverage that libFuzzer goes by comes from LLVM's own pass, which stable compilers have, too. Inputs that reach
//! something new gather below `target/fuzz/corpus`; `--merge` takes the shortest of them into `fuzz/corpus`. An input that
//! something fails on is put below `target/fuzz/found`, and belongs into `fuzz/regressions` once that is mended.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{binary, debian};

const USAGE: &str = "Usage: cargo xtask fuzz [OPTIONS] [TARGET...]

  --seconds N     for each target (60)
  --input FILE    instead: this input alone, for one target
  --merge         instead: take what was found to reach something new into fuzz/corpus
  --prove         instead: find a fault that was planted, to show that faults are found";

/// A target's name, the longest input that is tried, and the file in `fuzz/words` with what is compared as a whole, which
/// libFuzzer does not come upon by itself.
type Target = (&'static str, u32, &'static str);

const TARGETS: &[Target] = &[
    ("manifest", 4096, "json"),
    ("reference", 400, "reference"),
    ("words", 400, "reference"),
    ("query", 4096, "query"),
    ("tar", 16384, "tar"),
    ("copy", 16384, "tar"),
    ("layer", 16384, "tar"),
    ("archive", 32768, "both"),
];
const PLANTED: Target = ("planted", 4096, "tar");

/// The pass that counts edges and tells of comparisons.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

struct Options {
    seconds: u64,
    input: Option<PathBuf>,
    merge: bool,
    prove: bool,
    targets: Vec<Target>,
}

fn options(args: &[String]) -> Result<Options> {
    let mut options = Options {
        seconds: 60,
        input: None,
        merge: false,
        prove: false,
        targets: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().context(format!("{arg} needs a value"));
        match arg.as_str() {
            "--seconds" => options.seconds = value()?.parse()?,
            "--input" => options.input = Some(value()?.into()),
            "--merge" => options.merge = true,
            "--prove" => options.prove = true,
            name => {
                let known = TARGETS.iter().chain([&PLANTED]);
                let target = known.copied().find(|(known, ..)| *known == name);
                let names: Vec<_> = TARGETS.iter().map(|(name, ..)| *name).collect();
                options.targets.push(target.with_context(|| {
                    format!(
                        "there is no target {name:?} ({})\n\n{USAGE}",
                        names.join(", ")
                    )
                })?);
            }
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.to_vec();
    }
    Ok(options)
}

/// Builds and runs them.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = options(args)?;
    debian::require_root("fuzzing (it unpacks device nodes)")?;
    let program = build()?;
    if options.prove {
        return prove(&program, options.seconds);
    }
    let mut failed = Vec::new();
    for target in &options.targets {
        let passed = match &options.input {
            Some(input) => one(&program, *target, input)?,
            None if options.merge => merge(&program, *target)?,
            None => fuzz(&program, *target, options.seconds)?,
        };
        if !passed {
            failed.push(target.0);
        }
    }
    if !failed.is_empty() {
        bail!("something failed in {}", failed.join(", "));
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    // libFuzzer itself is C++.
    debian::need(&[
        ("gcc", "gcc"),
        ("g++", "g++"),
        ("/usr/include/stdio.h", "libc6-dev"),
    ])?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = binary::target_dir().join("fuzz");
    // The same versions as in what ships; cargo adds what fuzzing needs.
    let root = binary::root();
    std::fs::copy(root.join("Cargo.lock"), root.join("fuzz/Cargo.lock"))?;
    debian::run(
        binary::cargo()
            .args(["build", "--release", "--target", &triple])
            .args(["--manifest-path", "fuzz/Cargo.toml"])
            .env("RUSTFLAGS", COVERAGE)
            .env("CARGO_TARGET_DIR", &target),
    )?;
    Ok(target.join(triple).join("release/gantry-fuzz"))
}

/// A folder below `target/fuzz` for one target.
fn place(kind: &str, target: &str) -> Result<PathBuf> {
    let place = binary::target_dir().join("fuzz").join(kind).join(target);
    std::fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    Ok(place)
}

/// What is kept with the sources.
fn kept(kind: &str, target: &str) -> PathBuf {
    binary::root().join("fuzz").join(kind).join(target)
}

/// Runs the program with a folder of its own in memory, its output into a log; says whether it ended well.
fn launch(
    program: &Path,
    (target, longest, words): Target,
    args: &[&std::ffi::OsStr],
) -> Result<(bool, String)> {
    let work = tempfile::Builder::new()
        .prefix("gantry-fuzz-")
        .tempdir_in("/dev/shm")?;
    let found = place("found", target)?;
    let output = Command::new(program)
        .args(args)
        .arg(format!("-max_len={longest}"))
        .arg(format!("-dict={}", kept("words", words).display()))
        .args(["-timeout=25", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .env("GANTRY_FUZZ_TARGET", target)
        .env("GANTRY_FUZZ_FOLDER", work.path())
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    std::fs::write(place("log", target)?.join("last"), &log)?;
    Ok((output.status.success(), log))
}

fn fuzz(program: &Path, target: Target, seconds: u64) -> Result<bool> {
    let name = target.0;
    let corpus = place("corpus", name)?;
    let time = format!("-max_total_time={seconds}");
    let mut args: Vec<std::ffi::OsString> = vec![corpus.into(), time.into()];
    for kind in ["corpus", "regressions"] {
        let folder = kept(kind, name);
        if folder.is_dir() {
            args.push(folder.into());
        }
    }
    let args: Vec<&std::ffi::OsStr> = args.iter().map(AsRef::as_ref).collect();
    let (passed, log) = launch(program, target, &args)?;
    let word = if passed { "held" } else { "FAILED" };
    println!("{name:<10} {word}: {}", summary(&log));
    if !passed {
        println!("{}", tail(&log));
    }
    Ok(passed)
}

fn one(program: &Path, target: Target, input: &Path) -> Result<bool> {
    let (passed, log) = launch(program, target, &[input.as_os_str()])?;
    println!("{}", tail(&log));
    Ok(passed)
}

fn merge(program: &Path, target: Target) -> Result<bool> {
    let name = target.0;
    let (to, from) = (kept("corpus", name), place("corpus", name)?);
    std::fs::create_dir_all(&to)?;
    let merged = place("merged", name)?;
    std::fs::remove_dir_all(&merged)?;
    std::fs::create_dir_all(&merged)?;
    let args = ["-merge=1".as_ref(), merged.as_os_str(), to.as_os_str()];
    let (passed, log) = launch(program, target, &[&args[..], &[from.as_os_str()]].concat())?;
    if !passed {
        println!("{}", tail(&log));
        return Ok(false);
    }
    std::fs::remove_dir_all(&to)?;
    std::fs::create_dir_all(&to)?;
    let mut files = 0;
    for entry in std::fs::read_dir(&merged)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        files += 1;
    }
    println!("{name:<10} {files} inputs are in {}", to.display());
    Ok(true)
}

/// A run that starts from honest archives alone must come upon the planted fault.
fn prove(program: &Path, seconds: u64) -> Result<()> {
    let corpus = place("corpus", PLANTED.0)?;
    std::fs::remove_dir_all(&corpus)?;
    let corpus = place("corpus", PLANTED.0)?;
    let (time, seeds) = (
        format!("-max_total_time={seconds}"),
        kept("corpus", "planted"),
    );
    let args = [corpus.as_os_str(), seeds.as_os_str(), time.as_ref()];
    let (passed, log) = launch(program, PLANTED, &args)?;
    if passed || !log.contains("the planted fault was found") {
        bail!(
            "the planted fault was not found in {seconds} s:\n{}",
            tail(&log)
        );
    }
    println!("the planted fault was found: {}", summary(&log));
    Ok(())
}

/// How many inputs were tried, what they reached, and how many are kept.
fn summary(log: &str) -> String {
    let stat = |name: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("?", str::trim).to_owned()
    };
    let after = |word: &str| {
        let line = log.lines().rfind(|line| line.contains(word))?;
        line.split(word).nth(1)?.split_whitespace().next()
    };
    format!(
        "{} inputs, {} edges, {} kept",
        stat("stat::number_of_executed_units:"),
        after(" cov: ").unwrap_or("?"),
        after(" corp: ").unwrap_or("?"),
    )
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_summed_up() {
        let log = "#2 INITED cov: 10 ft: 3 corp: 2/9b exec/s: 0 rss: 40Mb\n\
                   #900 DONE   cov: 812 ft: 1500 corp: 77/9Kb lim: 400 exec/s: 30 rss: 60Mb\n\
                   stat::number_of_executed_units: 900\n";
        assert_eq!(summary(log), "900 inputs, 812 edges, 77/9Kb kept");
        assert_eq!(summary(""), "? inputs, ? edges, ? kept");
    }

    #[test]
    fn options_are_read_and_unknown_targets_refused() {
        let args = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            options(&words)
        };
        assert_eq!(args(&[]).unwrap().targets.len(), TARGETS.len());
        let one = args(&["--seconds", "5", "tar"]).unwrap();
        assert_eq!((one.seconds, one.targets.len()), (5, 1));
        assert!(args(&["nothing"]).is_err() && args(&["--seconds"]).is_err());
    }
}
