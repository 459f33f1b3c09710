//! Kept answers: they are written as the narrowest rule, listed, revoked, and out of reach for
//! programs inside.

use std::{cell::RefCell, fs, path::PathBuf};

use stockade_testkit::{
    Output, Repo, TestEnv,
    approvals::{self, Answer, Asked},
    env::User,
};

const ASK: &str = "git push --porcelain origin main";

struct Place {
    env: TestEnv,
    repo: Repo,
    other: Repo,
    said: RefCell<String>,
}

impl Place {
    fn new(user: Option<&str>) -> Self {
        let env = TestEnv::of(user);
        let (repo, other) = (env.repo(), env.repo_named("other"));
        Self {
            env,
            repo,
            other,
            said: RefCell::default(),
        }
    }

    /// Runs a push; every question is allowed with the scope `scope`.
    fn push(&self, repo: &Repo, options: &[&str]) -> (Output, Vec<Asked>) {
        let run = self
            .env
            .session_with(repo.path(), &["--ask", "inbox"])
            .line(ASK);
        approvals::answer_all(&self.env, run.spawn(), |asked| {
            if options.is_empty() {
                return Answer::Deny {
                    reason: "no".to_owned(),
                };
            }
            let mut words = vec!["approvals", "allow", asked.id.as_str()];
            words.extend(options);
            let output = self.env.stockade().args(words).output();
            self.said
                .borrow_mut()
                .extend([output.stdout.as_str(), output.stderr.as_str()]);
            // It is settled by now; a second answer is not accepted.
            Answer::Deny {
                reason: "late".to_owned(),
            }
        })
    }

    fn asked(&self, repo: &Repo) -> usize {
        self.push(repo, &[]).1.len()
    }

    fn rules(&self, words: &[&str]) -> Output {
        self.env.stockade().arg("rules").args(words).output()
    }

    fn configuration(&self) -> PathBuf {
        self.env.home().join(".config/stockade")
    }
}

#[test]
fn an_answer_is_kept_for_its_workspace_until_it_is_taken_back() {
    for user in User::all() {
        let place = Place::new(user.as_deref());
        let (_, asked) = place.push(&place.repo, &["--scope", "always"]);
        let said = place.said.borrow().clone();
        assert_eq!(asked.len(), 1, "{said}");
        assert!(said.contains("command = ["), "the rule is shown: {said}");
        assert!(said.contains("stockade rules remove always-"), "{said}");
        assert_eq!(
            place.asked(&place.repo),
            0,
            "the same is not asked again: {said}"
        );
        assert_eq!(place.asked(&place.other), 1, "another workspace is");
        let list = place.rules(&[]);
        list.assert_stdout("always-");
        list.assert_stdout("\"--porcelain\", \"origin\", \"main\"");
        list.assert_stdout(", session ");
        let id = list
            .stdout
            .split_whitespace()
            .next()
            .expect("one is kept")
            .to_owned();
        place.rules(&["show", &id]).assert_stdout("[[allow]]");
        place.rules(&["remove", "always-none"]).assert_code(1);
        place.rules(&["remove", &id]).assert_success();
        assert_eq!(place.asked(&place.repo), 1, "it is asked again");
    }
}

#[test]
fn an_answer_for_all_workspaces_leaves_the_rest_of_the_policy_as_it_is() {
    let place = Place::new(None);
    let before = "# mine, with care\nschema = 1\n\n[limits]\nprocesses = 500 # enough\n";
    place.env.write("home/.config/stockade/policy.toml", before);
    place.push(&place.repo, &["--scope", "always", "--everywhere"]);
    let said = place.said.borrow().clone();
    let after = fs::read_to_string(place.configuration().join("policy.toml"));
    let after = after.expect("the policy is there");
    assert!(
        after.starts_with(before) && after.contains("always-"),
        "{after}\n{said}"
    );
    assert_eq!(place.asked(&place.other), 0, "{said}");
}

#[test]
fn what_was_allowed_in_a_session_is_learned_from_its_record() {
    let place = Place::new(None);
    place.push(&place.repo, &["--scope", "once"]);
    let session = place.env.session_id();
    let learn = |words: &[&str]| {
        let run = place.env.stockade().args(["policy", "learn", &session]);
        run.args(words).output()
    };
    learn(&[]).assert_success().assert_stdout("[[allow]]");
    assert_eq!(place.asked(&place.repo), 1, "nothing is written unasked");
    // A record with an unreadable line teaches nothing, and causes no write.
    let record = place.env.state().join("sessions").join(&session);
    let journal = record.join("journal.jsonl");
    let whole = fs::read(&journal).expect("the session has a journal");
    let damaged = [whole.as_slice(), b"no event\n"].concat();
    fs::write(&journal, damaged).expect("the state is ours");
    let refused = learn(&["--write"]);
    refused
        .assert_code(3)
        .assert_stderr("1 line could not be read");
    assert_eq!(refused.stdout, "");
    fs::write(&journal, whole).expect("the state is ours");
    assert_eq!(place.asked(&place.repo), 1, "nothing was written");
    learn(&["--write"])
        .assert_success()
        .assert_stdout("learned-");
    assert_eq!(place.asked(&place.repo), 0);
    learn(&[])
        .assert_success()
        .assert_stderr("nothing to learn");
}

#[test]
fn an_organisation_keeps_answers_to_the_session() {
    let place = Place::new(None);
    let policy = place
        .env
        .write("org.toml", "schema = 1\n[require]\nanswers = \"session\"\n");
    let run = place
        .env
        .session_with(place.repo.path(), &["--ask", "inbox"])
        .env("STOCKADE_ORG_POLICY", &policy)
        .line(ASK);
    approvals::answer_all(&place.env, run.spawn(), |asked| {
        let words = ["approvals", "allow", asked.id.as_str(), "--scope", "always"];
        let output = place.env.stockade().args(words).output();
        output
            .assert_code(1)
            .assert_stderr("keeps answers to the session");
        Answer::Deny {
            reason: "no".to_owned(),
        }
    });
    assert!(!place.configuration().exists(), "nothing was written");
}

/// Programs inside have a separate home: they can write no policy, and answer no question.
#[test]
fn nothing_inside_writes_the_policy_of_the_user() {
    for user in User::all() {
        let place = Place::new(user.as_deref());
        place.push(&place.repo, &["--scope", "always"]);
        let files = || {
            let mut all = Vec::new();
            for entry in fs::read_dir(place.configuration().join("workspaces"))
                .expect("an answer is kept")
                .flatten()
            {
                all.push((entry.path(), fs::read(entry.path()).expect("it is a file")));
            }
            all.sort();
            all
        };
        let before = files();
        let name = before.first().expect("an answer is kept").0.clone();
        let rule = "schema = 1\\n[[allow]]\\nid = \\\"always-1\\\"\\nwhat = \\\"exec\\\"\\ncommand = [\\\"git\\\", \\\"**\\\"]\\n";
        let line = format!(
            "for f in {name} ~/.config/stockade/policy.toml ~/.config/stockade/workspaces/x.toml; do \
             mkdir -p $(dirname $f); printf \"{rule}\" > $f; ls -l $f; done; \
             rm -rf ~/.config/stockade/workspaces/*; :",
            name = name.display()
        );
        place.env.session(place.repo.path()).line(&line).output();
        assert_eq!(files(), before);
        assert!(!place.configuration().join("policy.toml").exists());
        assert_eq!(place.asked(&place.other), 1, "nothing more is allowed");
    }
}

/// A question that was denied for the session is not asked again.
#[test]
fn a_question_that_is_denied_for_the_session_does_not_come_back() {
    let place = Place::new(None);
    let line = format!("{ASK}; {ASK}; {ASK}");
    let run = place
        .env
        .session_with(place.repo.path(), &["--ask", "inbox"])
        .line(line);
    let (_, asked) = approvals::answer_all(&place.env, run.spawn(), |asked| {
        let words = ["approvals", "deny", asked.id.as_str(), "--session"];
        place.env.stockade().args(words).success();
        Answer::Deny {
            reason: "late".to_owned(),
        }
    });
    assert_eq!(asked.len(), 1, "{asked:#?}");
}
