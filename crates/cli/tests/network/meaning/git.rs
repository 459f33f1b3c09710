//! `what = "git"`: git over HTTPS that is opened.

use stockade_testkit::{
    Output, Repo, TestEnv,
    approvals::{self, Answer, Asked},
    events,
    lab::{Forge, TlsServer},
};

use crate::network::for_each_user;

/// A project whose remote is behind TLS.
struct Project<'e> {
    env: &'e TestEnv,
    repo: Repo,
    server: TlsServer,
}

impl<'e> Project<'e> {
    fn new(env: &'e TestEnv) -> Self {
        let repo = env.repo();
        let server = Forge::behind_tls(env, &repo, "git.test");
        let url = format!("https://git.test:{}/shop.git", server.port());
        for line in [
            vec!["remote", "set-url", "origin", &url],
            vec!["checkout", "-q", "-b", "topic"],
            vec!["commit", "-q", "--allow-empty", "-m", "two"],
        ] {
            repo.git(env, &line).assert_success();
        }
        Self { env, repo, server }
    }

    /// Runs a line under rules, each a table of TOML without hosts, and answers questions with
    /// `answer`.
    fn run(
        &self,
        rules: &[&str],
        line: &str,
        answer: impl Fn(&Asked) -> Answer,
    ) -> (Output, Vec<Asked>) {
        self.run_with(COMMANDS, rules, line, answer)
    }

    /// The same with other rules about commands.
    fn run_with(
        &self,
        commands: &str,
        rules: &[&str],
        line: &str,
        answer: impl Fn(&Asked) -> Answer,
    ) -> (Output, Vec<Asked>) {
        let authority = self
            .env
            .write("authority.pem", self.server.certificate_pem());
        let mut text = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"git.test\" = \
             \"127.0.0.1\"\n{commands}",
            authority.display()
        );
        for rule in rules {
            let (header, rest) = rule.split_once('\n').unwrap_or((rule, ""));
            let (port, private) = match header {
                "[[deny]]" => (self.server.port(), ""),
                _ => (self.server.port(), "private = true\n"),
            };
            let whole =
                format!("{header}\nhosts = [\"git.test\"]\nports = [{port}]\n{private}{rest}\n");
            text.push_str(&whole);
        }
        let policy = self.env.write("policy.toml", &text).display().to_string();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let run = self.env.session_with(self.repo.path(), &options).line(line);
        approvals::answer_all(self.env, run.spawn(), answer)
    }

    /// Returns the commit of a branch of the remote.
    fn at(&self, branch: &str) -> Option<String> {
        let output = self
            .env
            .command("git")
            .args(["rev-parse", "--verify", "-q", branch])
            .current_dir(self.repo.origin())
            .output();
        (output.code() == 0).then(|| output.stdout.trim().to_owned())
    }

    /// Returns how many requests to push arrived.
    fn pushes(&self) -> usize {
        let requests = self.server.requests();
        let pushes = |one: &&stockade_testkit::http::Request| one.path().ends_with("receive-pack");
        requests.iter().filter(pushes).count()
    }
}

fn yes(scope: &str) -> Answer {
    Answer::Allow {
        scope: scope.to_owned(),
    }
}

fn no() -> Answer {
    Answer::Deny {
        reason: "not this".to_owned(),
    }
}

/// Nobody is asked about commands.
const COMMANDS: &str = "[[allow]]\nid = \"commands\"\nwhat = \"exec\"\ncommand = [[\"git\", \"push\", \"**\"], [\"git\", \"send-pack\", \"**\"]]\n";
const FETCH: &str = "[[allow]]\nid = \"fetch\"\nwhat = \"git\"\nrepositories = [\"shop\"]\noperations = [\"fetch\"]\n";
const ASK: &str = "[[ask]]\nid = \"push\"\nwhat = \"git\"\noperations = [\"push\"]\n";

/// A fetch passes without a question, a push is one question that names repository and branch, and the
/// answer decides. After a no nothing of the push has arrived, and git shows the reason.
#[test]
fn a_push_is_asked_about_and_a_fetch_is_not() {
    for_each_user(|env| {
        let project = Project::new(env);
        let line = "git fetch -q origin && echo fetched; git push -q origin topic; echo pushed $?";
        let (output, asked) = project.run(&[FETCH, ASK], line, |_| no());
        output.assert_stdout("fetched\npushed 1");
        output.assert_stderr("remote: denied by stockade by the rule `push`");
        let record = events::summary(&env.record());
        assert_eq!(asked.len(), 1, "{asked:?} {output:?} {record}");
        assert!(
            asked[0].mentions("push to shop: new branch topic"),
            "{asked:?}"
        );
        assert_eq!(
            (project.at("topic"), project.pushes()),
            (None, 0),
            "{record}"
        );

        let (output, asked) = project.run(&[FETCH, ASK], line, |_| yes("once"));
        output.assert_stdout("fetched\npushed 0");
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(project.at("topic").is_some(), "{output:?}");
    });
}

/// What hides a push from a rule that denies it, or only looks like one that it allows, changes nothing
/// at the server; what the rules allow does.
#[test]
fn nothing_hides_a_push() {
    for_each_user(|env| {
        let project = Project::new(env);
        let all = "[[allow]]\nid = \"all\"\nwhat = \"net\"\n";
        let deny = "[[deny]]\nid = \"main\"\nwhat = \"git\"\nrefs = [\"main\"]\n";
        let push = "shop.git/git-receive-pack";
        let (id, none) = ("1".repeat(40), "0".repeat(40));
        let command = |name: &str| {
            let text = format!("{none} {id} refs/heads/{name}");
            format!("{:04x}{text}0000", text.len() + 4)
        };
        let port = project.server.port();
        let send = |path: &str, options: &str, body: &str| {
            format!(
                "printf %s '{body}' | curl -s -o /dev/null -m 10 --path-as-is -w '%{{http_code}} ' {options} \
                 --data-binary @- 'https://git.test:{port}/{path}'; "
            )
        };
        let (main, topic) = (command("main"), command("topic"));
        let line = [
            send(push, "", &main),
            send("shop.git/git%2dreceive%2dpack", "", &main),
            send("shop.git//git-receive-pack", "", &main),
            send("shop.git/x/../git-receive-pack", "", &main),
            send("SHOP.git/GIT-Receive-Pack", "", &main),
            send("index?to=/shop.git/git-receive-pack", "", &main),
            send(
                "any",
                "-H 'Content-Type: application/x-git-receive-pack-request'",
                &main,
            ),
            send(push, "-H 'Content-Encoding: gzip'", &topic),
            send(push, "-H 'Transfer-Encoding: chunked'", &main),
            send(push, "", "0009garbage"),
            // The control: another branch, and no push at all.
            send(
                push,
                "-H 'Content-Type: application/x-git-receive-pack-request'",
                &topic,
            ),
            send("any", "", &main),
            "git push -q origin topic && echo pushed; git push -q origin topic:main; echo main $?"
                .to_owned(),
        ]
        .concat();
        let (output, _) = project.run(&[all, deny], &line, |_| no());
        let refused = "403 ".repeat(10);
        output.assert_stdout(&format!("{refused}200 200 pushed\nmain 1"));
        output.assert_stderr("remote: denied by stockade by the rule `main`");
        let record = events::summary(&env.record());
        assert!(project.at("topic").is_some(), "{record}");
        assert_ne!(project.at("main"), project.at("topic"), "{record}");
        assert_eq!(project.pushes(), 2, "{record}");
    });
}

/// A person who allowed a push is not asked about its requests again. Another program that sends the
/// same, a hook that pushes another branch, and the next push are asked about; what is refused does not
/// arrive.
#[test]
fn an_approved_push_covers_its_own_requests_and_no_others() {
    for_each_user(|env| {
        let project = Project::new(env);
        let hook =
            "#!/bin/sh\nGIT_DIR=.git git send-pack --thin origin topic:refs/heads/evil\ntrue\n";
        let line = "git push -q origin topic; echo pushed $?";
        // Another rule than the preset's about commands.
        let ask = ASK.replace("\"push\"\nwhat", "\"requests\"\nwhat");
        let by_push = |asked: &Asked| {
            if asked.mentions("run git push") {
                yes("once")
            } else {
                no()
            }
        };
        let (output, asked) = project.run_with("", &[FETCH, &ask], line, by_push);
        assert_eq!(
            asked.len(),
            1,
            "{asked:?} {}",
            events::summary(&env.record())
        );
        output.assert_stdout("pushed 0");
        assert!(project.at("topic").is_some(), "{output:?}");
        let pushes = project.pushes();
        assert!(pushes > 0, "{output:?}");

        let port = project.server.port();
        let sends = format!(
            "curl -s -o /dev/null -w '%{{http_code}} ' -H 'Content-Type: application/x-git-receive-pack-request' \
             --data-binary @pack https://git.test:{port}/shop.git/git-receive-pack; {line}; \
             git push -q origin topic:other; echo other $?"
        );
        let (old, new) = ("0".repeat(40), project.at("topic").unwrap_or_default());
        let change = format!("{old} {new} refs/heads/evil\0 report-status\n");
        let pack = format!("{:04x}{change}0000", change.len() + 4);
        env.write(project.repo.path().join("pack"), &pack);
        let run = project
            .repo
            .git(env, &["commit", "-q", "--allow-empty", "-m", "three"]);
        run.assert_success();
        let hooks = project.repo.path().join(".git/hooks/pre-push");
        env.write(&hooks, hook);
        let made = env.command("chmod").arg("755").arg(&hooks).output();
        made.assert_success();
        let (output, asked) = project.run_with("", &[FETCH, &ask], &sends, by_push);
        output.assert_stdout("403 pushed 0\nother 0");
        let mentions = |text: &str| asked.iter().filter(|one| one.mentions(text)).count();
        assert_eq!(mentions("run git push"), 2, "{asked:?}");
        assert_eq!(mentions("new branch evil"), 1, "{asked:?}");
        assert!(project.at("other").is_some(), "{output:?}");
        assert_eq!(project.at("evil"), None, "{asked:?}");
    });
}
