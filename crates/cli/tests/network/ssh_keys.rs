//! Logins over ssh with a key that stays outside: where it signs, and where it does not.

use stockade_testkit::{
    Output, Repo, TestEnv,
    approvals::{self, Answer},
    events::{self, Event},
    lab::{SshServer, make_key},
    run::require_tool,
};

use crate::network::for_each_user;

/// A server that admits the key, under the name that the key is for and under others.
struct Lab<'e> {
    env: &'e TestEnv,
    server: SshServer,
    policy: String,
    repo: Repo,
}

impl<'e> Lab<'e> {
    /// The server is `git.test` and, at the same address, `other.test`, `unknown.test`, whose host key
    /// the caller does not know; all but the first are no hosts of the key, or no known ones.
    fn new(env: &'e TestEnv) -> Self {
        require_tool("ssh-keygen");
        let repo = env.repo();
        env.write("home/.ssh/known_hosts", "");
        let public = make_key(env, &env.home().join(".ssh/deploy"));
        let server = SshServer::start(&public);
        let port = server.port();
        let login = server.login();
        let policy = format!(
            "schema = 1\n[network.services]\n\"git.test:22\" = \"127.0.0.1:{port}\"\n\
             \"other.test:22\" = \"127.0.0.1:{port}\"\n\"unknown.test:22\" = \"127.0.0.1:{port}\"\n\
             [[credential]]\nid = \"deploy\"\nkind = \"ssh-key\"\nsource = {{ file = \"~/.ssh/deploy\" }}\n\
             hosts = [\"git.test\", \"unknown.test\"]\nusers = [\"{login}\"]\n"
        );
        let policy = env.write("policy.toml", &policy).display().to_string();
        env.write(
            "home/.ssh/known_hosts",
            &server.known_as("git.test,other.test"),
        );
        Self {
            env,
            server,
            policy,
            repo,
        }
    }

    /// Puts the hostile client into the workspace.
    fn script(&self) {
        require_tool("python3");
        let path = self.repo.path().join("ssh_agent.py");
        self.env.write(path, include_str!("ssh_agent.py"));
    }

    /// Runs a line in which `LOGIN` and `REPOSITORY` are those of the server.
    fn run(&self, line: &str) -> (Output, Vec<Event>) {
        let line = line.replace("LOGIN", self.server.login()).replace(
            "REPOSITORY",
            &self.server.repository().display().to_string(),
        );
        let options = ["--ask", "inbox", "--policy", self.policy.as_str()];
        let run = self.env.session_with(self.repo.path(), &options).line(line);
        let (output, _) = approvals::answer_all(self.env, run.spawn(), |_| Answer::Allow {
            scope: "once".to_owned(),
        });
        (output, self.env.record())
    }
}

/// Returns the answers of the agent, each with the name of its request.
fn answers(output: &Output) -> Vec<String> {
    let lines = output.stdout.lines().map(str::to_owned);
    let is_answer = |line: &String| {
        let answer = line.split_once(' ').map(|(_, answer)| answer);
        answer.is_some_and(|own| own == "closed" || own.parse::<u8>().is_ok())
    };
    lines.filter(is_answer).collect()
}

/// git, scp, sftp and a command log in with the key, each signature is recorded, and nothing of the
/// private half is inside.
#[test]
fn programs_log_in_with_a_key_that_stays_outside() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let (output, record) = lab.run(
            "git clone -q LOGIN@git.test:REPOSITORY copy && echo cloned; \
             git push -q LOGIN@git.test:REPOSITORY HEAD:refs/heads/agent && echo pushed; \
             ssh LOGIN@git.test 'echo ran' ; \
             echo file > file; scp -q file LOGIN@git.test:/tmp/stockade-lab-$$ && echo copied; \
             echo rm /tmp/stockade-lab-$$ | sftp -q -b - LOGIN@git.test >/dev/null && echo removed; \
             ssh-add -L | cut -d' ' -f3; ls ~/.ssh",
        );
        let text = events::summary(&record);
        for line in ["cloned", "pushed", "ran", "copied", "removed", "deploy"] {
            assert!(
                output.stdout.lines().any(|own| own == line),
                "{line}: {output:?}\n{text}\n{}",
                lab.server.log()
            );
        }
        assert_eq!(
            lab.server.commit("agent"),
            Some(lab.repo.commit(env, "HEAD"))
        );
        let used = record
            .iter()
            .filter(|event| event.kind() == "credential.used");
        assert_eq!(used.count(), 5, "{text}");
    });
}

/// What a program asks of the agent beside its own login, on the connection that it logs in on and on
/// others, is refused; the login itself is signed, once.
#[test]
fn nothing_but_the_login_itself_is_signed() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        lab.script();
        let (output, record) = lab.run(
            "python3 ssh_agent.py between ./between \"ssh LOGIN@git.test 'echo in'\"; \
             /run/stockade/why",
        );
        let text = events::summary(&record);
        let answers = answers(&output);
        let allowed = ["itself 14", "replayed-bind 6"];
        assert!(answers.len() > 25, "{output:?}\n{text}");
        for answer in &answers {
            let is_expected = allowed.contains(&answer.as_str()) || answer.ends_with(" 5");
            assert!(is_expected, "{answer}: {output:?}\n{text}");
        }
        for one in allowed {
            assert!(answers.iter().any(|own| own == one), "{one}: {output:?}");
        }
        output
            .assert_stdout("in\n")
            .assert_stdout("credential deploy: a login as")
            .assert_stdout("rule    key-misuse");
        let count = |kind: &str| record.iter().filter(|event| event.kind() == kind).count();
        assert_eq!(count("credential.used"), 1, "{text}");
        let refused: Vec<&Event> = record
            .iter()
            .filter(|event| event.kind() == "credential.refused")
            .collect();
        assert!(refused.iter().all(|event| event.rule() == "key-misuse"));
        for reason in [
            "is no login",
            "no files or commits",
            "not for the user `root`",
            "did not say which connection",
            "passed on to another host",
            "did not sign the connection",
            "second connection",
            "no `ssh-key` of the policy",
            "does not sign with `ssh-rsa`",
            "on no connection of this session",
            "for another connection",
            "already",
        ] {
            assert!(
                refused.iter().any(|event| event.reason().contains(reason)),
                "{reason}: {text}"
            );
        }
    });
}

/// The agent adds, removes and locks nothing, takes no broken or endless message, and still answers
/// after a flood.
#[test]
fn the_agent_does_nothing_else() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        lab.script();
        let (output, record) = lab.run("python3 ssh_agent.py alone; ssh LOGIN@git.test 'echo in'");
        let text = events::summary(&record);
        let lists = ["list 12", "list-after 12", "list-last 12", "cut-off closed"];
        let answers = answers(&output);
        assert_eq!(answers.len(), 18, "{output:?}");
        for answer in &answers {
            let is_expected = lists.contains(&answer.as_str()) || answer.ends_with(" 5");
            assert!(is_expected, "{answer}: {output:?}\n{text}");
        }
        output.assert_stdout("in\n");
        // A flood is counted, and not written one by one.
        let refused = record
            .iter()
            .filter(|event| event.kind() == "credential.refused");
        assert!((10..100).contains(&refused.count()), "{text}");
    });
}

/// The key does not log in at another host, at one whose host key the owner does not know, behind its
/// host, or from its host.
#[test]
fn other_hosts_get_no_login() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let port = lab.server.port();
        let line = "export S='-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null'; \
             ssh LOGIN@other.test 'echo in-other'; \
             ssh $S LOGIN@unknown.test 'echo in-unknown'; \
             ssh -o ProxyCommand='ssh -W %h:%p LOGIN@git.test' $S -p PORT LOGIN@127.0.0.1 'echo in-behind'; \
             ssh -A LOGIN@git.test \"echo in-first; ssh $S -p PORT LOGIN@127.0.0.1 'echo in-from'\"";
        let (output, record) = lab.run(&line.replace("PORT", &port.to_string()));
        let text = events::summary(&record);
        output.assert_stdout("in-first\n");
        for word in ["in-other", "in-unknown", "in-behind", "in-from"] {
            assert!(!output.stdout.contains(word), "{word}: {output:?}\n{text}");
        }
        let used = record
            .iter()
            .filter(|event| event.kind() == "credential.used");
        // For the host in between, and for the one from which the agent was used.
        assert_eq!(used.count(), 2, "{text}");
        let refused = |reason: &str| {
            let refused = record
                .iter()
                .filter(|event| event.kind() == "credential.refused");
            refused
                .filter(|event| event.reason().contains(reason))
                .count()
        };
        assert_eq!(refused("on no connection of this session"), 2, "{text}");
        assert_eq!(refused("not in the owner's known_hosts"), 1, "{text}");
        assert_eq!(refused("passed on to another host"), 1, "{text}");
    });
}
