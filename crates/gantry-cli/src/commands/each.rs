//! Commands that do one thing to each of many objects.

use crate::client::ApiError;
use crate::cx::Cx;
use crate::failure::{Failure, Outcome};
use crate::format::human_size;

/// How many are asked for at a time.
const AT_ONCE: usize = 50;

/// The path of a container's `what`; a name's leading slash is taken off.
pub(super) fn container(name: &str, what: &str) -> Result<String, ApiError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if bare.trim().is_empty() {
        return Err(ApiError::Connection(
            "invalid container name or ID: value is empty".to_owned(),
        ));
    }
    Ok(format!("/containers/{}{what}", crate::client::encode(bare)))
}

/// Does it to all `names` at once, prints each that went well, in order, and fails with what did not.
pub(super) async fn print_each<F>(cx: &Cx, names: &[String], act: impl Fn(String) -> F) -> Outcome
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut wrong = Vec::new();
    for some in names.chunks(AT_ONCE) {
        let acts: Vec<_> = some.iter().map(|name| act(name.clone())).collect();
        for (name, done) in some.iter().zip(futures_util::future::join_all(acts).await) {
            match done {
                Ok(()) => cx.print(&format!("{name}\n"))?,
                Err(failure) if failure.text.is_empty() => {}
                Err(failure) => wrong.push(failure.text),
            }
        }
    }
    Failure::all(wrong)
}

/// Shows what a prune has removed.
pub(super) fn told(cx: &Cx, (bytes, mut text): (u64, String)) -> Outcome {
    if !text.is_empty() {
        text.push('\n');
    }
    let size = human_size(bytes as f64);
    cx.print(&format!("{text}Total reclaimed space: {size}\n"))?;
    Ok(0)
}

/// Asks whether to go on. `y` is a yes, all else a no.
pub(super) fn confirm(cx: &Cx, question: &str) -> Result<bool, Failure> {
    cx.print(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
