//! One command that is looked for in several directories. Shells and execvp(3) go on with the next
//! directory of `PATH` after "permission denied", and on many machines two of them hold the same
//! program: without this, one refused command would be asked about and recorded once for each.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use stockade_policy::ExecRequest;
use stockade_types::{ProcessId, RawText, RuleId};

/// Time in which the next directory is tried: a search does nothing else in between, and what
/// comes later is a new attempt with an event of its own.
const NEXT_TRY_MAX: Duration = Duration::from_secs(1);
/// Refusals that are remembered; past this all are forgotten, which costs a second question.
const REMEMBERED_MAX: usize = 1_000;

/// The refusals after which a search may go on.
#[derive(Debug, Default)]
pub(crate) struct Searches(HashMap<ProcessId, Refused>);

#[derive(Debug)]
struct Refused {
    argv: Vec<RawText>,
    rule: Option<RuleId>,
    /// Paths that were tried: the same one again is a new attempt.
    tried: Vec<RawText>,
    at: Instant,
}

impl Searches {
    /// Notes that `rule` refused an execution.
    pub(super) fn note(&mut self, request: &ExecRequest, rule: Option<&RuleId>) {
        let Some(process) = request.subject.id else {
            return;
        };
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        let refused = Refused {
            argv: request.argv.clone(),
            rule: rule.cloned(),
            tried: vec![request.invoked_as.clone()],
            at: Instant::now(),
        };
        self.0.insert(process, refused);
    }

    /// Tells whether an execution that the same rule would refuse again is the same command of the
    /// same process, found in another directory.
    pub(super) fn goes_on(&mut self, request: &ExecRequest, rule: Option<&RuleId>) -> bool {
        let refused = request
            .subject
            .id
            .and_then(|process| self.0.get_mut(&process));
        let Some(refused) = refused else { return false };
        let same = refused.at.elapsed() <= NEXT_TRY_MAX
            && refused.rule.as_ref() == rule
            && refused.argv == request.argv
            && file_name(&request.invoked_as) == refused.tried.first().and_then(file_name)
            && !refused.tried.contains(&request.invoked_as);
        if same {
            refused.tried.push(request.invoked_as.clone());
            refused.at = Instant::now();
        }
        same
    }
}

fn file_name(path: &RawText) -> Option<&[u8]> {
    path.as_bytes().rsplit(|byte| *byte == b'/').next()
}

#[cfg(test)]
mod tests {
    use stockade_policy::ExecRequest;
    use stockade_types::{ProcessId, RawText, RuleId, Subject};

    use super::Searches;

    fn request(pid: u32, path: &str, argv: &[&str]) -> ExecRequest {
        let id = Some(ProcessId { pid, start: 1 });
        ExecRequest {
            program: path.into(),
            invoked_as: path.into(),
            argv: argv.iter().map(|&word| RawText::from(word)).collect(),
            cwd: "/w".into(),
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
