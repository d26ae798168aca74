//! The program's environment, in Docker's order: `PATH`, `HOSTNAME`, `TERM`, the image's and the request's, `HOME`.

use super::SpecInput;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All variables.
pub(super) fn of(input: &SpecInput<'_>) -> Vec<String> {
    let mut defaults = vec![DEFAULT_PATH.to_owned()];
    if !input.config.hostname.is_empty() {
        defaults.push(format!("HOSTNAME={}", input.config.hostname));
    }
    if input.config.tty {
        defaults.push("TERM=xterm".to_owned());
    }
    let mut all = replace_or_append(defaults, input.config.env.as_deref().unwrap_or_default());
    let home = all.iter().position(|entry| name(entry) == "HOME");
    match home {
        // As runc: an empty HOME is no HOME.
        Some(at) if all[at] == "HOME=" => all[at] = format!("HOME={}", input.user.home),
        Some(_) => {}
        None => all.push(format!("HOME={}", input.user.home)),
    }
    all
}

fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// A later value stands at the place of the earlier one; a name without a value takes the variable away.
fn replace_or_append(mut all: Vec<String>, own: &[String]) -> Vec<String> {
    for entry in own {
        let at = all.iter().position(|other| name(other) == name(entry));
        match (at, entry.contains('=')) {
            (Some(at), true) => all[at].clone_from(entry),
            (Some(at), false) => {
                all.remove(at);
            }
            (None, true) => all.push(entry.clone()),
            (None, false) => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overridden_in_place_or_taken_away() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let all = replace_or_append(
            list(&["PATH=a", "HOSTNAME=h", "TERM=xterm"]),
            &list(&["X=1", "PATH=b", "TERM", "Y", "X=2"]),
        );
        assert_eq!(all, list(&["PATH=b", "HOSTNAME=h", "X=2"]));
    }
}
