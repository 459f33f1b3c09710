//! One command that a program tries in several directories. Shells and execvp(3) continue with the
//! next directory of `PATH` after "permission denied", and on many machines two of them hold the
//! same program: without this, one refused command would be asked about and recorded once for each.
//!
//! The definition of a search is narrow, since its further attempts are refused without an event:
//! `DIRECTORY/NAME` as the command's own `PATH` spells it, in its order, each directory once. If a
//! person was asked, one may come twice: zsh tries the directory that it remembers, and then all of
//! them.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use stockade_policy::ExecRequest;
use stockade_types::{ProcessId, RuleId};

/// Time in which the next directory is tried: a search does nothing else in between, and a later
/// attempt is a new one with an event of its own.
const NEXT_TRY_MAX: Duration = Duration::from_secs(1);
/// Refusals that are remembered, about 100 bytes each; past this all are forgotten, which costs a
/// second question.
const REMEMBERED_MAX: usize = 1_000;
/// Directories of a `PATH` that are followed. Further ones are refused with an event each.
const DIRECTORIES_MAX: usize = 64;
/// The search path if the request does not show a `PATH` other than that of the session.
const USUAL_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The refusals after which a search may continue.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    refused: HashMap<ProcessId, Refused>,
    /// Drawn at random, so that no process inside can find two commands with the same hash.
    hasher: RandomState,
}

#[derive(Debug)]
struct Refused {
    /// The hash of the command: its arguments, its name, its `PATH` and the rule.
    command: u64,
    /// The directory that was tried last.
    at: usize,
    /// Whether one was tried twice.
    twice: bool,
    when: Instant,
}

impl Searches {
    /// Notes that `rule` refused an execution.
    pub(super) fn note(&mut self, request: &ExecRequest, rule: Option<&RuleId>) {
        let Some(process) = request.subject.id else {
            return;
        };
        if self.refused.len() >= REMEMBERED_MAX {
            self.refused.clear();
        }
        match self.attempt(request, rule) {
            Some((command, at)) => {
                let when = Instant::now();
                let before = self.refused.get(&process);
                let twice = before.is_some_and(|one| one.command == command && one.twice);
                self.refused.insert(
                    process,
                    Refused {
                        command,
                        at,
                        twice,
                        when,
                    },
                );
            }
            // Not found through `PATH`, so there is no search that could go on.
            None => {
                self.refused.remove(&process);
            }
        }
    }

    /// Whether an execution that the same rule would refuse again is the same command of the same
    /// process, found in the next directory.
    pub(super) fn goes_on(&mut self, request: &ExecRequest, rule: Option<&RuleId>) -> bool {
        let Some((command, at)) = self.attempt(request, rule) else {
            return false;
        };
        let refused = request
            .subject
            .id
            .and_then(|process| self.refused.get_mut(&process));
        let Some(refused) = refused else { return false };
        let same =
            refused.when.elapsed() <= NEXT_TRY_MAX && refused.command == command && refused.at < at;
        if same {
            refused.at = at;
            refused.when = Instant::now();
        }
        same
    }

    /// Whether an execution that a person was just asked about is tried once more in the same
    /// directory, which is not a new question.
    pub(super) fn is_tried_twice(&mut self, request: &ExecRequest, rule: Option<&RuleId>) -> bool {
        let Some((command, at)) = self.attempt(request, rule) else {
            return false;
        };
        let process = request.subject.id;
        let refused = process.and_then(|process| self.refused.get_mut(&process));
        let Some(refused) = refused else { return false };
        let same = refused.when.elapsed() <= NEXT_TRY_MAX
            && (refused.command, refused.at) == (command, at)
            && !refused.twice;
        refused.twice |= same;
        same
    }

    /// Returns the hash of the command, and its directory in its `PATH`; `None` if it is in none,
    /// or is spelled in another way.
    fn attempt(&self, request: &ExecRequest, rule: Option<&RuleId>) -> Option<(u64, usize)> {
        let path = request.environment.iter();
        let path = path
            .rev()
            .find(|(name, _)| name.as_bytes() == b"PATH")
            .map_or(USUAL_PATH, |(_, value)| value.as_bytes());
        let invoked = request.invoked_as.as_bytes();
        let slash = invoked.iter().rposition(|byte| *byte == b'/')?;
        let (directory, name) = (invoked.get(..slash)?, invoked.get(slash + 1..)?);
        let mut directories = path.split(|byte| *byte == b':').take(DIRECTORIES_MAX);
        let at = directories.position(|one| one == directory)?;
        let plain = is_plain(directory) && !name.is_empty();
        let command = (&request.argv, name, path, rule);
        plain.then(|| (self.hasher.hash_one(command), at))
    }
}

/// Whether a directory is spelled in its one plain form.
fn is_plain(directory: &[u8]) -> bool {
    let mut parts = directory.split(|byte| *byte == b'/');
    parts.next() == Some(b"") && parts.all(|part| !matches!(part, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use stockade_policy::ExecRequest;
    use stockade_types::{ProcessId, RawText, RuleId, Subject};

    use super::Searches;

    #[test]
    fn other_spellings_are_new_attempts() {
        let push: RuleId = "push".parse().unwrap();
        let rule = Some(&push);
        let argv = ["git", "push"];
        let mut searches = Searches::default();
        searches.note(&request(7, "/usr/bin/git", &argv), rule);
        for path in [
            "/usr/bin/./git",
            "/usr//bin/git",
            "/usr/bin/git",
            "/opt/../bin/git",
            "/bin/./git",
            "//bin/git",
            "/elsewhere/git",
            "bin/git",
            "git",
            "/bin/git/",
        ] {
            assert!(!searches.goes_on(&request(7, path, &argv), rule), "{path}");
        }
        assert!(searches.goes_on(&request(7, "/bin/git", &argv), rule));
        assert!(searches.goes_on(&request(7, "/sbin/git", &argv), rule));
        assert!(
            !searches.goes_on(&request(7, "/bin/git", &argv), rule),
            "backwards"
        );
        // A command that was not found through `PATH` has no next directory.
        searches.note(&request(7, "/usr/bin/./git", &argv), rule);
        assert!(!searches.goes_on(&request(7, "/bin/git", &argv), rule));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let push: RuleId = "push".parse().unwrap();
        let mut searches = Searches::default();
        let long = "x".repeat(100_000);
        for pid in 0..5_000 {
            searches.note(&request(pid, "/usr/bin/git", &["git", &long]), Some(&push));
        }
        assert!(searches.refused.len() <= super::REMEMBERED_MAX);
    }

    #[test]
    fn the_same_directory_comes_twice_where_somebody_was_asked() {
        let push: RuleId = "push".parse().unwrap();
        let rule = Some(&push);
        let argv = ["git", "push"];
        let git = request(7, "/usr/bin/git", &argv);
        let mut searches = Searches::default();
        searches.note(&git, rule);
        assert!(!searches.is_tried_twice(&request(7, "/bin/git", &argv), rule));
        assert!(!searches.is_tried_twice(&git, None), "another rule");
        assert!(searches.is_tried_twice(&git, rule));
        assert!(!searches.is_tried_twice(&git, rule), "a third time");
        assert!(searches.goes_on(&request(7, "/bin/git", &argv), rule));
        // A repeated question is about the same command.
        searches.note(&git, rule);
        assert!(!searches.is_tried_twice(&git, rule));
    }

    fn request(pid: u32, path: &str, argv: &[&str]) -> ExecRequest {
        let id = Some(ProcessId { pid, start: 1 });
        ExecRequest {
            program: path.into(),
            invoked_as: path.into(),
            argv: argv.iter().map(|&word| RawText::from(word)).collect(),
            cwd: "/w".into(),
            environment: vec![(
                "PATH".into(),
                "/usr/bin:/opt/../bin:/bin:/bin/.:/sbin".into(),
            )],
            subject: Subject {
                id,
                ..Subject::default()
            },
            ..ExecRequest::default()
        }
    }

    #[test]
    fn only_the_same_command_in_another_directory_is_the_same_search() {
        let push: RuleId = "push".parse().unwrap();
        let rule = Some(&push);
        let argv = ["git", "push"];
        let mut searches = Searches::default();
        assert!(!searches.goes_on(&request(7, "/usr/bin/git", &argv), rule));
        searches.note(&request(7, "/usr/bin/git", &argv), rule);
        assert!(
            !searches.goes_on(&request(7, "/usr/bin/git", &argv), rule),
            "the same path"
        );
        assert!(
            !searches.goes_on(&request(8, "/bin/git", &argv), rule),
            "another process"
        );
        assert!(
            !searches.goes_on(&request(7, "/bin/git", &argv), None),
            "another rule"
        );
        assert!(
            !searches.goes_on(&request(7, "/bin/hg", &argv), rule),
            "another program"
        );
        let more = ["git", "push", "--force"];
        assert!(
            !searches.goes_on(&request(7, "/bin/git", &more), rule),
            "other arguments"
        );
        assert!(searches.goes_on(&request(7, "/bin/git", &argv), rule));
        assert!(
            !searches.goes_on(&request(7, "/bin/git", &argv), rule),
            "the same path"
        );
    }
}
