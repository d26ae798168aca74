//! From a policy to a program.

use super::SeccompError;
use super::bpf::{self, Instruction, compare, plain};
use super::numbers::{Abi, X32_BIT};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use std::collections::BTreeMap;

const LONGEST: usize = 4096;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
/// What a tracer puts in the place of a number to skip the call.
const SKIPPED: u32 = u32::MAX;

/// What happens to the calls of one number.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Always(u32),
    /// Tried in order; then the last.
    Tests(Vec<(Vec<LinuxSeccompArg>, u32)>, u32),
}

/// Compiles a policy.
pub(super) fn compile(policy: &LinuxSeccomp) -> Result<Vec<u8>, SeccompError> {
    let abis = abis(policy)?;
    let mut program = vec![plain(bpf::LOAD, bpf::ARCHITECTURE)];
    let mut audits: Vec<u32> = abis.iter().map(|abi| abi.audit()).collect();
    audits.dedup();
    for audit in audits {
        let block = architecture(policy, &abis, audit)?;
        program.push(compare(bpf::IF_EQUAL, audit, 1, 0));
        program.push(plain(bpf::JUMP, block.len() as u32));
        program.extend(block);
    }
    // A way into the kernel that the policy does not speak of.
    program.push(plain(bpf::RETURN, KILL_PROCESS));
    if program.len() > LONGEST {
        return Err(SeccompError::TooLong(program.len()));
    }
    Ok(bpf::bytes(&program))
}

/// The policy's interfaces, native without a list; those of one audit architecture stand together.
pub(super) fn abis(policy: &LinuxSeccomp) -> Result<Vec<Abi>, SeccompError> {
    let mut abis = vec![Abi::NATIVE];
    for arch in policy.architectures().iter().flatten() {
        // Other machines' names in a portable profile mean nothing here.
        if let Some(abi) = Abi::of(*arch)
            && !abis.contains(&abi)
        {
            abis.push(abi);
        }
    }
    let foreign =
        |abi: &Abi| matches!(abi, Abi::Aarch64 | Abi::Arm) != cfg!(target_arch = "aarch64");
    abis.retain(|abi| !foreign(abi));
    abis.sort_by_key(|abi| (abi.audit(), *abi as u8));
    Ok(abis)
}

fn architecture(
    policy: &LinuxSeccomp,
    abis: &[Abi],
    audit: u32,
) -> Result<Vec<Instruction>, SeccompError> {
    let default = action(policy.default_action(), policy.default_errno_ret())?;
    let mut segments = vec![(0, Outcome::Always(KILL_PROCESS))];
    let mut end_of_last = None;
    for abi in Abi::ALL
        .into_iter()
        .filter(|abi| abis.contains(abi) && abi.audit() == audit)
    {
        let start = if abi == Abi::X32 { X32_BIT } else { 0 };
        let own = segments_of(policy, abi, start)?;
        segments.retain(|(from, _)| *from < start);
        segments.extend(own);
        end_of_last = Some(abi);
    }
    if audit == Abi::X86_64.audit() && end_of_last != Some(Abi::X32) {
        segments.retain(|(from, _)| *from < X32_BIT);
        segments.push((X32_BIT, Outcome::Always(KILL_PROCESS)));
    }
    segments.push((SKIPPED, Outcome::Always(default)));
    segments.dedup_by(|later, earlier| later.1 == earlier.1);
    let mut block = vec![plain(bpf::LOAD, bpf::NUMBER)];
    block.extend(tree(&segments)?);
    Ok(block)
}

/// Where what begins, from `start` on: ordered by number.
fn segments_of(
    policy: &LinuxSeccomp,
    abi: Abi,
    start: u32,
) -> Result<Vec<(u32, Outcome)>, SeccompError> {
    let default = action(policy.default_action(), policy.default_errno_ret())?;
    let (outcomes, largest) = outcomes(policy, abi)?;
    let mut segments = vec![(start, Outcome::Always(default))];
    for (number, outcome) in outcomes {
        segments.push((number, outcome));
        segments.push((number + 1, Outcome::Always(default)));
    }
    if let Some(largest) = largest
        && refuses(policy.default_action())
    {
        segments.push((largest + 1, Outcome::Always(ERRNO | libc::ENOSYS as u32)));
    }
    // Of two that begin at the same number the later one holds.
    let mut ordered: Vec<(u32, Outcome)> = Vec::with_capacity(segments.len());
    for segment in segments {
        match ordered.last_mut() {
            Some(last) if last.0 == segment.0 => *last = segment,
            _ => ordered.push(segment),
        }
    }
    Ok(ordered)
}

fn refuses(default: LinuxSeccompAction) -> bool {
    use LinuxSeccompAction as A;
    matches!(
        default,
        A::ScmpActErrno
            | A::ScmpActKill
            | A::ScmpActKillThread
            | A::ScmpActKillProcess
            | A::ScmpActTrap
    )
}

/// What the policy says of each number, and the largest number that it names.
pub(super) fn outcomes(
    policy: &LinuxSeccomp,
    abi: Abi,
) -> Result<(BTreeMap<u32, Outcome>, Option<u32>), SeccompError> {
    let default = action(policy.default_action(), policy.default_errno_ret())?;
    let mut outcomes: BTreeMap<u32, Outcome> = BTreeMap::new();
    let mut largest = None;
    for rule in policy.syscalls().iter().flatten() {
        let decision = action(rule.action(), rule.errno_ret())?;
        for name in rule.names() {
            let Some(number) = abi.numbers().get(name.as_str()).copied() else {
                continue;
            };
            largest = largest.max(Some(number));
            let outcome = outcomes
                .entry(number)
                .or_insert_with(|| Outcome::Tests(Vec::new(), default));
            let Outcome::Tests(tests, last) = outcome else {
                continue;
            };
            let alternatives = alternatives(rule)?;
            if alternatives.is_empty() {
                // Nothing that comes later is ever asked.
                *last = decision;
                *outcome = if tests.iter().all(|(_, d)| *d == decision) {
                    Outcome::Always(decision)
                } else {
                    closed(std::mem::take(tests), decision)
                };
                continue;
            }
            tests.extend(alternatives.into_iter().map(|test| (test, decision)));
        }
    }
    Ok((outcomes, largest))
}

/// A list of tests that ends with a decision: no rule can be added to it.
fn closed(mut tests: Vec<(Vec<LinuxSeccompArg>, u32)>, decision: u32) -> Outcome {
    tests.push((Vec::new(), decision));
    Outcome::Tests(tests, decision)
}

/// The conditions under which a rule holds: any of the lists, all of a list; none: always.
// COMPAT: as runc, a rule that speaks of one argument twice means either, not both.
pub(super) fn alternatives(rule: &LinuxSyscall) -> Result<Vec<Vec<LinuxSeccompArg>>, SeccompError> {
    let Some(conditions) = rule.args().as_ref().filter(|a| !a.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut seen = [false; 6];
    let mut twice = false;
    for condition in conditions {
        let index = condition.index();
        let slot = seen.get_mut(index).ok_or(SeccompError::Argument(index))?;
        twice |= std::mem::replace(slot, true);
    }
    Ok(if twice {
        conditions.iter().map(|c| vec![*c]).collect()
    } else {
        vec![conditions.clone()]
    })
}

/// The kernel's value for an action.
pub(super) fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    use LinuxSeccompAction as A;
    let number = errno.unwrap_or(libc::EPERM as u32) & 0xffff;
    Ok(match action {
        A::ScmpActKill | A::ScmpActKillThread => 0,
        A::ScmpActKillProcess => KILL_PROCESS,
        A::ScmpActTrap => 0x0003_0000,
        A::ScmpActErrno => ERRNO | number,
        A::ScmpActTrace => 0x7ff0_0000 | number,
        A::ScmpActLog => 0x7ffc_0000,
        A::ScmpActAllow => 0x7fff_0000,
        A::ScmpActNotify => return Err(SeccompError::Notify("SCMP_ACT_NOTIFY")),
    })
}

/// A binary search for the number over the beginnings of the segments.
fn tree(segments: &[(u32, Outcome)]) -> Result<Vec<Instruction>, SeccompError> {
    if let [(_, outcome)] = segments {
        return leaf(outcome);
    }
    let (low, high) = segments.split_at(segments.len() / 2);
    let (low, right) = (tree(low)?, tree(high)?);
    let boundary = high[0].0;
    let mut code = Vec::with_capacity(low.len() + right.len() + 2);
    match u8::try_from(low.len()) {
        Ok(distance) => code.push(compare(bpf::IF_GREATER_OR_EQUAL, boundary, distance, 0)),
        Err(_) => {
            code.push(compare(bpf::IF_GREATER_OR_EQUAL, boundary, 0, 1));
            code.push(plain(bpf::JUMP, low.len() as u32));
        }
    }
    code.extend(low);
    code.extend(right);
    Ok(code)
}

fn leaf(outcome: &Outcome) -> Result<Vec<Instruction>, SeccompError> {
    let (tests, last) = match outcome {
        Outcome::Always(decision) => return Ok(vec![plain(bpf::RETURN, *decision)]),
        Outcome::Tests(tests, last) => (tests, *last),
    };
    let mut code = Vec::new();
    for (conditions, decision) in tests {
        code.extend(test(conditions, *decision));
    }
    code.push(plain(bpf::RETURN, last));
    Ok(code)
}

/// Where a comparison goes on to, until distances are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Next,
    /// The condition holds: on to the one after it.
    Holds,
    /// The rule does not match: on to what comes after the rule.
    Fails,
}

/// All of the conditions, then the decision; what fails falls out at the end.
fn test(conditions: &[LinuxSeccompArg], decision: u32) -> Vec<Instruction> {
    let blocks: Vec<Vec<(Instruction, To, To)>> = conditions.iter().map(condition).collect();
    let total: usize = blocks.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(total);
    for block in blocks {
        let end = code.len() + block.len();
        for (mut instruction, yes, no) in block {
            let here = code.len() + 1;
            let distance = |to| match to {
                To::Next => 0,
                To::Holds => (end - here) as u8,
                To::Fails => (total - here) as u8,
            };
            (instruction.yes, instruction.no) = (distance(yes), distance(no));
            code.push(instruction);
        }
    }
    code.push(plain(bpf::RETURN, decision));
    code
}

/// One 64-bit comparison by halves, the upper one first.
fn condition(argument: &LinuxSeccompArg) -> Vec<(Instruction, To, To)> {
    use LinuxSeccompOperator as Op;
    use To::{Fails, Holds, Next};
    let value = argument.value();
    let second = argument.value_two().unwrap_or(0);
    let offset = bpf::ARGUMENTS + 8 * argument.index() as u32;
    let (upper_at, lower_at) = if cfg!(target_endian = "little") {
        (offset + 4, offset)
    } else {
        (offset, offset + 4)
    };
    let half = |at| (plain(bpf::LOAD, at), Next, Next);
    let is = |code, value, yes, no| (plain(code, value), yes, no);
    let (upper, lower) = ((value >> 32) as u32, value as u32);
    // Greater at the upper half decides, less does, too; equal asks the lower half.
    let ordered = |code, yes, no| {
        vec![
            half(upper_at),
            is(bpf::IF_GREATER, upper, yes, Next),
            is(bpf::IF_EQUAL, upper, Next, no),
            half(lower_at),
            is(code, lower, yes, no),
        ]
    };
    match argument.op() {
        Op::ScmpCmpEq => vec![
            half(upper_at),
            is(bpf::IF_EQUAL, upper, Next, Fails),
            half(lower_at),
            is(bpf::IF_EQUAL, lower, Holds, Fails),
        ],
        Op::ScmpCmpNe => vec![
            half(upper_at),
            is(bpf::IF_EQUAL, upper, Next, Holds),
            half(lower_at),
            is(bpf::IF_EQUAL, lower, Fails, Holds),
        ],
        Op::ScmpCmpGt => ordered(bpf::IF_GREATER, Holds, Fails),
        Op::ScmpCmpGe => ordered(bpf::IF_GREATER_OR_EQUAL, Holds, Fails),
        Op::ScmpCmpLe => ordered(bpf::IF_GREATER, Fails, Holds),
        Op::ScmpCmpLt => ordered(bpf::IF_GREATER_OR_EQUAL, Fails, Holds),
        Op::ScmpCmpMaskedEq => vec![
            half(upper_at),
            is(bpf::AND, upper, Next, Next),
            is(bpf::IF_EQUAL, (second >> 32) as u32, Next, Fails),
            half(lower_at),
            is(bpf::AND, lower, Next, Next),
            is(bpf::IF_EQUAL, second as u32, Holds, Fails),
        ],
    }
}
