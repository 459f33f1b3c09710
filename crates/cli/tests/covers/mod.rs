//! One question for one intention: what an approved or allowed command covers, and what it does
//! not.

mod lasting;

use std::cell::RefCell;

use stockade_testkit::{
    Output, Repo, TestEnv,
    approvals::{self, Answer, Asked},
    env::User,
    events,
    lab::Forge,
};

/// A project whose remote is on a code host of the laboratory.
struct Project {
    env: TestEnv,
    repo: Repo,
    forge: Forge,
    /// The whole text of every question so far.
    shown: RefCell<String>,
}

impl Project {
    fn new(user: Option<&str>) -> Self {
        let env = TestEnv::of(user);
        let repo = env.repo();
        let forge = Forge::start(&env, &repo);
        let url = format!("http://forge.test:{}/shop.git", forge.server.port());
        for line in [
            vec!["remote", "set-url", "origin", &url],
            vec!["checkout", "-q", "-b", "agent/fix-1"],
            vec!["commit", "-q", "--allow-empty", "-m", "two"],
        ] {
            repo.git(&env, &line).assert_success();
        }
        Self {
            env,
            repo,
            forge,
            shown: RefCell::default(),
        }
    }

    fn policy(&self, more: &str) -> String {
        let text = format!(
            "schema = 1\n[network.hosts]\n\"forge.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"forge\"\n\
             what = \"net\"\nhosts = [\"forge.test\"]\nports = [{}]\nprivate = true\nreason = \"lab\"\n\
             {more}",
            self.forge.server.port()
        );
        self.env.write("policy.toml", &text).display().to_string()
    }

    fn run(&self, more: &str, line: &str) -> (Output, Vec<Asked>) {
        let policy = self.policy(more);
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let run = self.env.session_with(self.repo.path(), &options).line(line);
        approvals::answer_all(&self.env, run.spawn(), |asked| {
            let show = self.env.stockade().args(["approvals", "show", &asked.id]);
            self.shown.borrow_mut().push_str(&show.output().stdout);
            if asked.mentions("run git push origin agent/fix-1\"") {
                return Answer::Allow {
                    scope: "once".to_owned(),
                };
            }
            Answer::Deny {
                reason: "not this".to_owned(),
            }
        })
    }

    fn at(&self, branch: &str) -> Option<String> {
        self.forge.commit(&self.env, "shop.git", branch)
    }
}

/// The rule of the guide.
const RULE: &str = "[[allow]]\nid = \"push-own-branches\"\nwhat = \"exec\"\n\
                    command = [\"git\", \"push\", \"**[-q -u]\", \"origin\", \"agent/*\"]\n\
                    reason = \"review happens in the pull request\"\n";

#[test]
fn an_approved_push_over_http_is_one_question() {
    for user in User::all() {
        let project = Project::new(user.as_deref());
        let (output, asked) = project.run("", "git push origin agent/fix-1");
        let record = events::summary(&project.env.record());
        output.assert_success();
        assert_eq!(asked.len(), 1, "{asked:#?}\n{record}");
        let shown = project.shown.borrow();
        assert!(
            shown.contains("also lets") && shown.contains("git's own helpers"),
            "{shown}"
        );
        assert!(
            shown.contains(&format!("forge.test:{}", project.forge.server.port())),
            "{shown}"
        );
        assert_eq!(
            project.at("agent/fix-1"),
            Some(project.repo.commit(&project.env, "HEAD"))
        );
        assert!(record.contains("approval.used"), "{record}");
    }
}

#[test]
fn the_rule_of_the_guide_pushes_own_branches_and_nothing_else() {
    for user in User::all() {
        let project = Project::new(user.as_deref());
        let main = project.at("main");
        for line in [
            "git push origin agent/fix-1",
            "git push -q -u origin agent/fix-1",
        ] {
            let (output, asked) = project.run(RULE, line);
            output.assert_success();
            let record = events::summary(&project.env.record());
            assert!(asked.is_empty(), "{line}: {asked:#?}\n{record}");
        }
        assert_eq!(
            project.at("agent/fix-1"),
            Some(project.repo.commit(&project.env, "HEAD"))
        );
        for line in [
            "git push origin agent/fix-1:main",
            "git push origin +agent/fix-1",
            "git push origin main",
        ] {
            let (_, asked) = project.run(RULE, line);
            assert_eq!(asked.len(), 1, "{line}: {asked:#?}");
        }
        assert_eq!(project.at("main"), main, "main has not moved");
    }
}

/// Another rule with the id of the one that asks about pushes in the preset.
const OTHER_PUSH: &str = "[[ask]]\nid = \"push\"\nwhat = \"exec\"\ncommand = [\"deploy\", \"**\"]\n\
                          reason = \"lab\"\n";

/// Git reaches a remote on this machine through a shell that it starts.
#[test]
fn a_push_to_this_machine_is_one_question() {
    for user in User::all() {
        let project = Project::new(user.as_deref());
        let local = project.repo.path().join("../../remotes/shop.git");
        let path = std::fs::canonicalize(local).expect("the remote exists");
        let path = path.display().to_string();
        let set = ["remote", "set-url", "origin", path.as_str()];
        project.repo.git(&project.env, &set).assert_success();
        let more = format!("{OTHER_PUSH}[filesystem]\nwrite = [\"{path}\"]\n");
        let (output, asked) = project.run(&more, "git push origin agent/fix-1");
        let record = events::summary(&project.env.record());
        assert_eq!(asked.len(), 1, "{output:?}\n{asked:#?}\n{record}");
        output.assert_success();
        assert_eq!(
            project.at("agent/fix-1"),
            Some(project.repo.commit(&project.env, "HEAD"))
        );
    }
}

/// An approved push does not cover a program below it other than git itself, nor a process from
/// before or after it.
#[test]
fn an_approved_push_covers_nobody_else() {
    for user in User::all() {
        let project = Project::new(user.as_deref());
        let url = format!("http://forge.test:{}/shop.git", project.forge.server.port());
        // The owner's hook runs what the session can write.
        let hook = project.repo.path().join(".git/hooks/pre-push");
        project.env.write(&hook, "#!/bin/sh\nsh ./check.sh\n");
        let check = format!(
            "git send-pack --stateless-rpc {url} HEAD:refs/heads/evil; echo hook $?\n\
             printf 'push HEAD:refs/heads/evil\\n\\n' | git remote-http origin {url} >&2; echo helper $?\n"
        );
        project
            .env
            .write(project.repo.path().join("check.sh"), &check);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&hook, mode).expect("the hook was just written");
        let line = format!(
            "(sleep 2; git send-pack --stateless-rpc {url} HEAD:refs/heads/evil; echo before $?) & \
             git push origin agent/fix-1; \
             git send-pack --stateless-rpc {url} HEAD:refs/heads/evil; echo after $?; wait"
        );
        let (output, asked) = project.run("", &line);
        let record = events::summary(&project.env.record());
        output.assert_stdout("hook 126");
        output.assert_stdout("helper 1");
        output.assert_stderr("cannot exec 'send-pack'");
        output.assert_stdout("before 126");
        output.assert_stdout("after 126");
        let others = asked.iter().filter(|asked| asked.mentions("send-pack"));
        assert!(others.count() >= 1, "{asked:#?}\n{record}");
        assert_eq!(project.at("refs/heads/evil"), None, "{record}");
        assert_eq!(
            project.at("agent/fix-1"),
            Some(project.repo.commit(&project.env, "HEAD")),
            "the push itself went through: {output:?}"
        );
    }
}
