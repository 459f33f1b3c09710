//! The agents' list without an agent: each action is done by a separate program, by a shell, and by
//! a script that is written to the workspace and then executed. Each is first shown to work without
//! the boundary.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::fs;

use crate::list::{
    self, Before, GONE_TIMEOUT, Lab, REASON, SECRET, Session, Wish, assert_journal_is_checked,
    assert_record, denied,
};
use stockade_testkit::{
    Output,
    approvals::Answer,
    env::User,
    escape::quoted,
    events,
    run::{RUN_TIMEOUT, require_tool},
    wait,
};

/// Script that the last launch path writes.
const SCRIPT: &str = "try.sh";
/// The command that a shell runs after a refusal.
const WHY: &str = "; echo; /run/stockade/why";

/// The way in which an action is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launch {
    /// The boundary starts the program itself.
    Direct,
    /// `sh -c` with a line.
    Shell,
    /// `bash` writes a script to the workspace and executes it.
    Script,
}

impl Launch {
    const ALL: [Self; 3] = [Self::Direct, Self::Shell, Self::Script];

    /// Returns the words that start `program` this way; the shells then run `then`.
    fn words(self, program: &[String], then: &str) -> Vec<String> {
        let line = program
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" ");
        let line = format!("{line}{then}");
        let writes = format!("printf %s \"$1\" > {SCRIPT} && chmod 755 {SCRIPT} && ./{SCRIPT}");
        let script = format!("#!/bin/bash\n{line}\n");
        match self {
            Self::Direct => program.to_vec(),
            Self::Shell => strings(&["/bin/sh", "-c", &line]),
            Self::Script => strings(&["/bin/bash", "--norc", "-c", &writes, "bash", &script]),
        }
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The boundary's effect on an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It works, and changes only these paths in the workspace.
    Works(&'static [&'static str]),
    /// There is nothing to refuse: its target does not exist inside.
    Absent,
    /// One question, answered with no.
    Asked {
        target: &'static str,
        rule: &'static str,
    },
}

/// One action of the list.
#[derive(Clone, Copy)]
struct Item {
    prepare: fn(&Lab),
    /// Program and arguments.
    program: fn(&Lab) -> Vec<String>,
    /// The same without the boundary, where the laboratory's names are unknown.
    bare: fn(&Lab) -> Vec<String>,
    /// Returns, from the host side, whether it has happened.
    effect: fn(&Lab, &Output) -> bool,
    outcome: Outcome,
}

impl Item {
    fn new(
        program: fn(&Lab) -> Vec<String>,
        effect: fn(&Lab, &Output) -> bool,
        outcome: Outcome,
    ) -> Self {
        Self {
            prepare: |_| {},
            program,
            bare: program,
            effect,
            outcome,
        }
    }

    /// Tries it as every user that the tests can become, on every launch path, control first.
    fn check(&self) {
        for user in User::all() {
            for launch in Launch::ALL {
                self.check_control(user.as_deref(), launch);
                self.check_inside(user.as_deref(), launch);
            }
        }
    }

    fn check_control(&self, user: Option<&str>, launch: Launch) {
        let lab = Lab::new(user);
        (self.prepare)(&lab);
        let words = launch.words(&(self.bare)(&lab), "");
        let (program, arguments) = words.split_first().expect("a launch has a program");
        let run = lab.env.command(program).args(arguments);
        let run = run.env(SECRET, lab.env.canary(SECRET));
        let output = run.current_dir(lab.repo.path()).output();
        let seen = (self.effect)(&lab, &output);
        lab.kill_daemons();
        assert!(
            seen,
            "{launch:?} as {user:?}: no effect without the boundary, so the test proves nothing\n\
             {output:?}"
        );
    }

    fn check_inside(&self, user: Option<&str>, launch: Launch) {
        let lab = Lab::new(user);
        (self.prepare)(&lab);
        let before = Before::take(&lab);
        let session = self.run(&lab, launch, denied(), "");
        let output = &session.output;
        let at = format!("{launch:?} as {user:?}");
        let happened = (self.effect)(&lab, output);
        let expected = matches!(self.outcome, Outcome::Works(_));
        // Processes that a session left behind get a moment to end.
        let gone = || !(self.effect)(&lab, output);
        let as_expected = if expected {
            happened
        } else {
            wait::until_true(GONE_TIMEOUT, gone)
        };
        assert!(as_expected, "{at}: happened is {happened}\n{output:?}");
        let changed: &[&str] = match self.outcome {
            Outcome::Works(changed) => changed,
            _ => &[],
        };
        before.assert_only_changed(&lab, &[changed, &[SCRIPT]].concat());
        lab.env.assert_no_canary(&output.stdout);
        lab.env.assert_no_canary(&output.stderr);
        lab.stranger.assert_untouched();
        self.check_refusal(&lab, &session, launch);
        assert_journal_is_checked(&lab, &session.id);
    }

    /// The refused program sees the refusal, a person was asked if a rule says so, and it is
    /// recorded.
    fn check_refusal(&self, lab: &Lab, session: &Session, launch: Launch) {
        let seen = format!("{}{}", session.output.stdout, session.output.stderr);
        let (refusals, asked) = match self.outcome {
            Outcome::Works(_) | Outcome::Absent => (vec![], 0),
            Outcome::Asked { target, rule } => (vec![(target, rule)], 1),
        };
        assert_eq!(
            session.asked.len(),
            asked,
            "{launch:?}: {:#?}",
            session.asked
        );
        let record = assert_record(lab, &session.id, &refusals);
        for (target, rule) in refusals {
            if asked > 0 {
                let event = events::assert_one_refusal(&record, target, rule);
                assert!(event.reason().contains(REASON), "{event:#?}");
            }
            // A program started directly gets only an error number, and has no shell that could run
            // `why`.
            if launch != Launch::Direct {
                assert!(seen.contains(rule), "{launch:?}: expected `{rule}`\n{seen}");
                let told = asked == 0 || seen.contains(REASON);
                assert!(told, "{launch:?}: expected the reason\n{seen}");
            }
        }
    }

    fn run(&self, lab: &Lab, launch: Launch, answer: Answer, policy: &str) -> Session {
        let then = match self.outcome {
            Outcome::Works(_) | Outcome::Absent => "",
            Outcome::Asked { .. } => WHY,
        };
        let wish = Wish {
            words: &launch.words(&(self.program)(lab), then),
            policy: lab.policy(policy),
            variables: Vec::new(),
            timeout: RUN_TIMEOUT,
            answer,
        };
        list::run(lab, wish)
    }
}

fn readme(lab: &Lab) -> String {
    fs::read_to_string(lab.repo.path().join("README.md")).expect("it is a file")
}

fn subject(lab: &Lab) -> String {
    let shown = lab
        .repo
        .git(&lab.env, &["show", "--no-patch", "--format=%s"]);
    shown.assert_success().stdout.trim().to_owned()
}

fn commit_ahead(lab: &Lab) {
    let commit = ["commit", "--quiet", "--allow-empty", "--message", "Ahead"];
    lab.repo.git(&lab.env, &commit).assert_success();
}

/// Whether the remote has the last commit, according to the remote itself.
fn is_pushed(lab: &Lab) -> bool {
    let remote = lab.repo.origin().display().to_string();
    let pushed = lab
        .repo
        .git(&lab.env, &["ls-remote", &remote, "refs/heads/main"]);
    let head = lab.repo.commit(&lab.env, "HEAD");
    pushed.assert_success().stdout.starts_with(&head)
}

fn stranger_url(lab: &Lab) -> String {
    format!("http://stranger.test:{}/first", lab.stranger.port())
}

const PUSH: Outcome = Outcome::Asked {
    target: "git push --force",
    rule: "push",
};
const STRANGER: Outcome = Outcome::Asked {
    target: "stranger.test",
    rule: "lab-stranger",
};

fn push() -> Item {
    let program = |_: &Lab| strings(&["git", "push", "--force"]);
    Item {
        prepare: commit_ahead,
        ..Item::new(program, |lab, _| is_pushed(lab), PUSH)
    }
}

fn fetch() -> Item {
    require_tool("curl");
    let program = |lab: &Lab| strings(&["curl", "-sS", "-m", "30", &stranger_url(lab)]);
    let bare = |lab: &Lab| {
        let resolve = format!("stranger.test:{}:127.0.0.1", lab.stranger.port());
        let url = stranger_url(lab);
        strings(&["curl", "-sS", "-m", "30", "--resolve", &resolve, &url])
    };
    let effect = |lab: &Lab, _: &Output| lab.stranger.traffic().connections > 0;
    Item {
        bare,
        ..Item::new(program, effect, STRANGER)
    }
}

#[test]
fn a_file_is_edited() {
    let program = |_: &Lab| strings(&["sed", "-i", "s/basket/cart/", "README.md"]);
    let effect = |lab: &Lab, _: &Output| readme(lab).contains("price of a cart");
    Item::new(program, effect, Outcome::Works(&["README.md"])).check();
}

#[test]
fn the_tests_run() {
    let effect = |_: &Lab, output: &Output| output.stdout.contains("tests passed");
    Item::new(|_| strings(&["./test.sh"]), effect, Outcome::Works(&[])).check();
}

#[test]
fn a_commit_is_made() {
    let program = |_: &Lab| strings(&["git", "commit", "--quiet", "--all", "--message", "By bash"]);
    let edit = |lab: &Lab| {
        lab.env
            .write(lab.repo.path().join("README.md"), "# Another shop\n");
    };
    let works = Outcome::Works(&[".git/**"]);
    Item {
        prepare: edit,
        ..Item::new(program, |lab, _| subject(lab) == "By bash", works)
    }
    .check();
}

#[test]
fn a_private_key_does_not_exist() {
    let program = |lab: &Lab| {
        let key = lab.env.home().join(".ssh/id_ed25519");
        strings(&["cat", &key.display().to_string()])
    };
    let effect = |lab: &Lab, output: &Output| {
        let missing = output.stderr.contains("No such file or directory");
        output.stdout.contains(lab.env.canary(".ssh/id_ed25519")) || !missing
    };
    Item::new(program, effect, Outcome::Absent).check();
}

#[test]
fn a_secret_of_the_environment_is_not_there() {
    let effect = |lab: &Lab, output: &Output| {
        // The other variables are there, so `env` has run.
        let ran = output.stdout.contains("PATH=");
        output.stdout.contains(lab.env.canary(SECRET)) || !ran
    };
    Item::new(|_| strings(&["env"]), effect, Outcome::Absent).check();
}

#[test]
fn an_unfamiliar_host_is_asked_about_and_refused() {
    fetch().check();
}

#[test]
fn a_push_with_force_is_asked_about_and_refused() {
    push().check();
}

#[test]
fn a_hook_of_git_is_not_written() {
    let program = |_: &Lab| strings(&["cp", "test.sh", ".git/hooks/pre-commit"]);
    let effect = |lab: &Lab, _: &Output| lab.repo.path().join(".git/hooks/pre-commit").exists();
    let asked = Outcome::Asked {
        target: ".git/hooks/pre-commit",
        rule: "protected-content",
    };
    Item::new(program, effect, asked).check();
}

#[test]
fn a_daemon_does_not_outlive_its_session() {
    require_tool("setsid");
    // The daemon leaves its session and its parent, and gets time to run.
    let program = |lab: &Lab| {
        strings(&[
            "timeout",
            "0.3",
            "setsid",
            "--fork",
            "--wait",
            "sleep",
            &lab.daemon,
        ])
    };
    let item = Item::new(program, |lab, _| !lab.daemons().is_empty(), Outcome::Absent);
    item.check();
    for user in User::all() {
        let lab = Lab::new(user.as_deref());
        let session = item.run(&lab, Launch::Direct, denied(), "");
        let record = assert_record(&lab, &session.id, &[]);
        let started = record.iter().any(|event| {
            event.kind() == "process.started" && event.json.to_string().contains(&lab.daemon)
        });
        assert!(started, "the daemon ran inside");
    }
}

/// What a person allows happens, so only the answer stopped it above.
#[test]
fn what_was_asked_happens_when_it_is_allowed() {
    // A remote on this machine is served by a separate program, which the answer covers.
    for (item, questions) in [
        (fetch(), &["stranger.test"][..]),
        (push(), &["git push --force"][..]),
    ] {
        for user in User::all() {
            for launch in Launch::ALL {
                let lab = Lab::new(user.as_deref());
                (item.prepare)(&lab);
                let once = Answer::Allow {
                    scope: "once".to_owned(),
                };
                let remote = lab.repo.origin().display();
                let policy = format!("[filesystem]\nwrite = [\"{remote}\"]\n");
                let session = item.run(&lab, launch, once, &policy);
                let output = &session.output;
                let at = format!("{questions:?}, {launch:?} as {user:?}");
                assert!((item.effect)(&lab, output), "{at}\n{output:?}");
                let asked = &session.asked;
                assert_eq!(asked.len(), questions.len(), "{at}: {asked:#?}");
                let in_order = asked.iter().zip(questions);
                for (asked, question) in in_order {
                    assert!(asked.mentions(question), "{at}: {asked:#?}");
                }
                assert_record(&lab, &session.id, &[]);
            }
        }
    }
}
