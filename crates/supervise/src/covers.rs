//! What a command covers while it runs, if a person was asked about it: its own helpers, and the
//! hosts that the question showed.
//!
//! A cover holds for processes, not for names. It begins with the approved or allowed execution and
//! passes to children that the kernel forks from it, and to the programs that these execute, as far
//! as the cover says. The stack identifies the code that a process runs: every execution draws a
//! new stack address, and a fork keeps it. So a process that existed before, or that another
//! program reparented, is not covered; [limits.md] says what this costs if addresses are not
//! random.
//!
//! [limits.md]: ../../../docs/limits.md

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use stockade_approval::CoveredBy;
use stockade_policy::{
    ExecRequest, GitOperation, HttpRequest, Meaning, RefChange, RefEffect, Request,
};
use stockade_types::{Host, ProcessId, RawText};

use crate::{
    procfs::{self, Identity},
    recorder::lock,
};

/// Processes that are remembered; at the limit all covers end, and questions are asked again.
const MARKS_MAX: usize = 4_096;
/// Parents that are followed: deeper trees are not covered.
const DEPTH_MAX: usize = 64;

/// A host and its ports that count as one door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) host: Host,
    pub(crate) ports: Vec<u16>,
}

/// A push by requests, as its question shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// Where it goes.
    pub(crate) door: Door,
    /// Path of the repository there, without a `.git` at the end.
    pub(crate) repository: String,
    /// Full names of the branches that it creates or moves.
    pub(crate) refs: Vec<Vec<u8>>,
}

impl Pushed {
    /// Tells whether a request is a part of it: it reads the refs first, then it changes these alone.
    fn has(&self, request: &HttpRequest) -> bool {
        let [Meaning::Git(git)] = request.meaning.as_slice() else {
            return false;
        };
        let port = request.port.get();
        let is_there = self.door.host == request.host
            && self.door.ports.contains(&port)
            && git.repository.as_ref() == Some(&self.repository);
        let own = |change: &RefChange| {
            let changes = matches!(change.effect, RefEffect::Create | RefEffect::Update);
            changes && self.refs.iter().any(|name| name == change.name.as_bytes())
        };
        let does = match git.operation {
            GitOperation::Prepare => true,
            GitOperation::Push => git.changes.as_ref().is_some_and(|all| all.iter().all(own)),
            GitOperation::Fetch | GitOperation::Upload => false,
        };
        is_there && git.is_certain && does
    }
}

/// How far a cover reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Hosts that may be connected to.
    pub(crate) doors: Vec<Door>,
    /// Places of a push; git's own programs below it may carry it there. It covers nothing else.
    pub(crate) places: Vec<Vec<u8>>,
    /// What that push does by requests, if it goes over HTTP and its branches are known.
    pub(crate) pushes: Vec<Pushed>,
    /// What the same process executes next, if the command is a script that `env` starts.
    pub(crate) next: Option<Vec<RawText>>,
}

impl Reach {
    pub(crate) const fn is_nothing(&self) -> bool {
        self.doors.is_empty() && self.places.is_empty() && self.next.is_none()
    }

    fn is_push(&self) -> bool {
        !self.places.is_empty()
    }

    /// Describes for the question what an answer covers; `None` if a person need not know it.
    pub(crate) fn in_words(&self) -> Option<String> {
        let doors: Vec<String> = self.doors.iter().map(door).collect();
        let doors = doors.join(", ");
        if doors.is_empty() {
            // A program that carries a push to the shown place is part of the push.
            return None;
        }
        let who = if self.is_push() {
            "git's own helpers of this push, and git itself"
        } else {
            "this command and all that it starts"
        };
        Some(format!("{who} connect to {doors}, until it ends"))
    }
}

fn door(door: &Door) -> String {
    let ports: Vec<String> = door.ports.iter().map(u16::to_string).collect();
    format!("{}:{}", door.host, ports.join("/"))
}

/// A command that runs, and what it covers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cover {
    pub(crate) by: CoveredBy,
    pub(crate) reach: Reach,
}

/// A process that executed something while it was covered.
#[derive(Clone, Debug)]
struct Mark {
    /// Its current cover; `None` if it executed something that is not covered.
    cover: Option<Arc<Cover>>,
    /// Its stack before: the mark counts once there is another one.
    before: u64,
}

/// A program that is about to run, reduced to the facts that covers need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program<'a> {
    pub(crate) request: &'a ExecRequest,
    /// It is a file that no process inside can write, and no script.
    pub(crate) is_fixed: bool,
}

impl Program<'_> {
    fn base(&self) -> &[u8] {
        base(self.request.program.as_bytes())
    }

    /// Tells whether it is one of git's own.
    fn is_git(&self) -> bool {
        let path = self.request.program.as_bytes();
        let in_core = path
            .split(|byte| *byte == b'/')
            .any(|part| part == b"git-core");
        self.is_fixed && (in_core || self.base() == b"git" || self.base().starts_with(b"git-"))
    }

    /// Tells whether it is the shell that git starts for a remote on this machine, and nothing more.
    fn is_shell_for(&self, places: &[Vec<u8>]) -> bool {
        let [_, option, line, rest @ ..] = self.request.argv.as_slice() else {
            return false;
        };
        let named = self.base() == b"sh" || base(self.request.invoked_as.as_bytes()) == b"sh";
        self.is_fixed
            && named
            && option.as_bytes() == b"-c"
            && rest.iter().all(|word| word == line)
            && places.iter().any(|place| {
                let quoted = [b"git-receive-pack '", place.as_slice(), b"'"].concat();
                !place.contains(&b'\'') && line.as_bytes() == quoted
            })
    }
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// All covers of a session; shared by the notifier and the network.
#[derive(Debug)]
pub(crate) struct Covers {
    /// The session's first process: the search of parents ends there.
    first: u32,
    marks: Mutex<HashMap<ProcessId, Mark>>,
}

impl Covers {
    pub(crate) fn new(first: u32) -> Self {
        Self {
            first,
            marks: Mutex::default(),
        }
    }

    /// Tells whether anything is covered at all.
    pub(crate) fn any(&self) -> bool {
        !lock(&self.marks).is_empty()
    }

    /// Begins a cover with an execution that is about to happen.
    pub(crate) fn begin(&self, process: Identity, by: CoveredBy, reach: Reach) {
        if !reach.is_nothing() {
            self.mark(process, Some(Arc::new(Cover { by, reach })));
        }
    }

    fn mark(&self, process: Identity, cover: Option<Arc<Cover>>) {
        let mut marks = lock(&self.marks);
        if marks.len() >= MARKS_MAX {
            marks.clear();
        }
        let before = process.stack;
        marks.insert(process.id, Mark { cover, before });
    }

    /// Notes that a process is about to execute another program, which may end its cover.
    pub(crate) fn executes(&self, process: Identity, program: Program<'_>) {
        if !self.any() {
            return;
        }
        let known = lock(&self.marks).contains_key(&process.id);
        let cover = self.of(process);
        if !known && cover.is_none() {
            return;
        }
        let kept = cover.filter(|cover| {
            let places = &cover.reach.places;
            !cover.reach.is_push() || program.is_git() || program.is_shell_for(places)
        });
        self.mark(process, kept);
    }

    /// Returns the current cover of a process.
    pub(crate) fn of(&self, process: Identity) -> Option<Arc<Cover>> {
        let mut process = process;
        for _ in 0..DEPTH_MAX {
            if let Some(mark) = lock(&self.marks).get(&process.id) {
                return mark.cover.clone().filter(|_| mark.before != process.stack);
            }
            if process.parent == self.first || process.parent <= 1 {
                return None;
            }
            let parent = procfs::of_process(process.parent).ok()?;
            if parent.stack != process.stack {
                return None;
            }
            process = parent;
        }
        None
    }

    /// Returns what covers the process with this number.
    pub(crate) fn of_process(&self, pid: u32) -> Option<Arc<Cover>> {
        self.any()
            .then(|| procfs::of_process(pid).ok())
            .flatten()
            .and_then(|it| self.of(it))
    }

    /// Returns the cover that lets a process execute a program that would otherwise need a
    /// question.
    pub(crate) fn of_execution(
        &self,
        process: Identity,
        program: Program<'_>,
    ) -> Option<CoveredBy> {
        if !self.any() {
            return None;
        }
        let cover = self.of(process)?;
        let goes_on = cover.reach.next.as_deref() == Some(program.request.argv.as_slice());
        let is_own = lock(&self.marks).contains_key(&process.id);
        let carries = program.is_git() && carries(&program.request.argv, &cover.reach.places);
        ((goes_on && is_own) || carries).then(|| cover.by.clone())
    }

    /// Returns the cover that lets a process connect where it would otherwise need a question.
    pub(crate) fn of_connection(&self, request: &Request) -> Option<CoveredBy> {
        let Request::Net(net) = request else {
            return None;
        };
        // Without a program name the connection belongs to no cover.
        if net.subject.exe.as_bytes().is_empty() {
            return None;
        }
        let cover = self.of_process(net.subject.id?.pid)?;
        let port = net.port.get();
        let mut doors = cover.reach.doors.iter();
        let open = doors.any(|door| door.host == net.host && door.ports.contains(&port));
        open.then(|| cover.by.clone())
    }
}

impl Covers {
    /// Returns the answer to a push that a request of its process is a part of. A rule that allows the
    /// command shows nobody what it pushes, so it covers no request.
    pub(crate) fn of_request(&self, request: &HttpRequest) -> Option<CoveredBy> {
        if request.subject.exe.as_bytes().is_empty() {
            return None;
        }
        let cover = self.of_process(request.subject.id?.pid)?;
        let by_answer = matches!(cover.by, CoveredBy::Approval(_));
        let mut pushes = cover.reach.pushes.iter();
        let has = by_answer && pushes.any(|push| push.has(request));
        has.then(|| cover.by.clone())
    }
}

/// Whether these words carry a push to one of the places: `git send-pack … URL`.
fn carries(argv: &[RawText], places: &[Vec<u8>]) -> bool {
    let bare = |text: &[u8]| text.strip_suffix(b"/").unwrap_or(text).to_vec();
    let mut words = argv.iter().map(RawText::as_bytes);
    let called = words.next().map(base).unwrap_or_default();
    let helper = match called {
        b"git" => words.next().unwrap_or_default(),
        name => name.strip_prefix(b"git-").unwrap_or_default(),
    };
    [&b"send-pack"[..], b"http-push", b"receive-pack"].contains(&helper)
        && words.any(|word| places.iter().any(|place| bare(place) == bare(word)))
}

#[cfg(test)]
mod tests {
    use stockade_policy::{
        ExecRequest, Git, GitOperation, HttpRequest, Meaning, RefChange, RefEffect,
    };
    use stockade_types::{ApprovalId, Port, ProcessId, RawText, Subject};

    use super::{CoveredBy, Covers, Door, Program, Pushed, Reach, carries};
    use crate::procfs::{self, Identity};

    fn request(program: &str, line: &[&str]) -> ExecRequest {
        ExecRequest {
            program: program.into(),
            invoked_as: program.into(),
            argv: line.iter().map(|word| RawText::from(*word)).collect(),
            ..ExecRequest::default()
        }
    }

    fn push() -> Reach {
        Reach {
            places: vec![b"http://forge.test/p.git".to_vec()],
            doors: vec![Door {
                host: "forge.test".parse().unwrap(),
                ports: vec![443, 80],
            }],
            pushes: vec![Pushed {
                door: Door {
                    host: "forge.test".parse().unwrap(),
                    ports: vec![443],
                },
                repository: "p".to_owned(),
                refs: vec![b"refs/heads/main".to_vec()],
            }],
            next: None,
        }
    }

    fn by() -> CoveredBy {
        CoveredBy::Approval(ApprovalId::from_random(7))
    }

    /// The process as it is after an execution: another stack than before.
    fn after(process: Identity) -> Identity {
        Identity {
            stack: process.stack + 16,
            ..process
        }
    }

    fn own() -> Identity {
        procfs::of_process(std::process::id()).unwrap()
    }

    #[test]
    fn only_what_carries_the_push_to_its_place_is_a_helper() {
        let places = push().places;
        let words = |line: &str| line.split(' ').map(RawText::from).collect::<Vec<_>>();
        for line in [
            "git send-pack --stateless-rpc --thin http://forge.test/p.git/ --stdin",
            "/usr/lib/git-core/git send-pack http://forge.test/p.git",
            "git-http-push http://forge.test/p.git/",
        ] {
            assert!(carries(&words(line), &places), "{line}");
        }
        for line in [
            "git send-pack http://forge.test/other.git",
            "git push http://forge.test/p.git",
            "git",
            "send-pack http://forge.test/p.git",
        ] {
            assert!(!carries(&words(line), &places), "{line}");
        }
    }

    /// A push is its own requests: another branch, a branch that is removed, another repository, host
    /// or port, and what is not certain are none of them.
    #[test]
    fn a_push_is_the_requests_that_its_question_showed() {
        let git = |repository: &str, operation, refs: Option<&[(&str, RefEffect)]>| {
            let change = |(name, effect): &(&str, RefEffect)| RefChange {
                name: (*name).into(),
                effect: *effect,
                ids: ("0".repeat(40), "1".repeat(40)),
            };
            Git {
                repository: Some(repository.to_owned()),
                operation,
                changes: refs.map(|refs| refs.iter().map(change).collect()),
                is_certain: true,
            }
        };
        let has = |host: &str, port, git: Git| {
            push().pushes[0].has(&HttpRequest {
                host: host.parse().unwrap(),
                port: Port::new(port).unwrap(),
                method: "POST".to_owned(),
                path: "/".into(),
                meaning: vec![Meaning::Git(git)],
                shown: None,
                subject: Subject::default(),
            })
        };
        let here = |git: Git| has("forge.test", 443, git);
        let (main, other) = ("refs/heads/main", "refs/heads/other");
        let pushes = |refs: &[(&str, RefEffect)]| git("p", GitOperation::Push, Some(refs));
        assert!(here(git("p", GitOperation::Prepare, None)));
        assert!(here(pushes(&[(main, RefEffect::Update)])));
        assert!(here(pushes(&[(main, RefEffect::Create)])));
        for other in [
            pushes(&[(main, RefEffect::Delete)]),
            pushes(&[(main, RefEffect::Update), (other, RefEffect::Create)]),
            git("p", GitOperation::Push, None),
            git("q", GitOperation::Prepare, None),
            git("p", GitOperation::Fetch, None),
            git("p", GitOperation::Upload, None),
            Git {
                is_certain: false,
                ..pushes(&[(main, RefEffect::Update)])
            },
            Git::unclear(),
        ] {
            assert!(!here(other.clone()), "{other:?}");
        }
        for (host, port) in [("forge.test", 80), ("other.test", 443)] {
            assert!(!has(host, port, git("p", GitOperation::Prepare, None)));
        }
    }

    #[test]
    fn a_cover_begins_with_the_execution_and_ends_with_another_program() {
        let covers = Covers::new(1);
        let git = request("/usr/lib/git-core/git-remote-http", &["git-remote-http"]);
        let shell = request("/bin/sh", &["sh", "-c", "evil"]);
        let fixed = |request| Program {
            request,
            is_fixed: true,
        };
        covers.begin(own(), by(), push());
        assert!(covers.of(own()).is_none(), "it has not happened, or failed");
        let running = after(own());
        assert!(covers.of(running).is_some());
        covers.executes(running, fixed(&git));
        let helper = after(running);
        assert!(covers.of(helper).is_some());
        let send = request(
            "/usr/bin/git",
            &["git", "send-pack", "http://forge.test/p.git/"],
        );
        assert_eq!(covers.of_execution(helper, fixed(&send)), Some(by()));
        let written = Program {
            request: &send,
            is_fixed: false,
        };
        assert_eq!(covers.of_execution(helper, written), None);
        covers.executes(helper, fixed(&shell));
        let other = after(helper);
        assert!(covers.of(other).is_none());
        covers.executes(other, fixed(&git));
        assert!(covers.of(after(other)).is_none(), "it does not come back");
    }

    #[test]
    fn the_shell_for_a_remote_on_this_machine_runs_that_alone() {
        let places = [b"/w/p.git".to_vec()];
        let line = "git-receive-pack '/w/p.git'";
        let is = |words: &[&str]| {
            let request = request("/bin/sh", words);
            let program = Program {
                request: &request,
                is_fixed: true,
            };
            program.is_shell_for(&places)
        };
        assert!(is(&["sh", "-c", line, line]) && is(&["/bin/sh", "-c", line]));
        for words in [
            &["sh", "-c", "git-receive-pack '/w/p.git'; evil"][..],
            &["sh", "-c", line, "x"],
            &["sh", "-c", "git-receive-pack '/w/q.git'"],
            &["sh", line],
        ] {
            assert!(!is(words), "{words:?}");
        }
    }

    #[test]
    fn a_child_with_another_image_or_an_older_process_is_not_covered() {
        let parent = procfs::of_process(own().parent).unwrap();
        let covers = Covers::new(1);
        covers.begin(
            Identity {
                stack: parent.stack + 16,
                ..parent
            },
            by(),
            push(),
        );
        let forked = Identity {
            stack: parent.stack,
            ..own()
        };
        assert!(covers.of(forked).is_some());
        assert!(covers.of(own()).is_none(), "its stack is not its parent's");
        let reused = Identity {
            id: ProcessId {
                start: parent.id.start + 1,
                ..parent.id
            },
            ..parent
        };
        assert!(covers.of(reused).is_none());
    }
}
