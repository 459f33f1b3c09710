//! git over ssh: the hosts that the caller knows are known inside, but nothing else of his
//! `~/.ssh`.

use stockade_testkit::{
    TestEnv,
    approvals::{self, Answer},
    events,
    lab::{SshServer, make_key},
    run::require_tool,
};

use crate::network::for_each_user;

/// A session whose workspace has a key that the server accepts.
struct Lab<'e> {
    env: &'e TestEnv,
    server: SshServer,
    policy: String,
    repo: stockade_testkit::Repo,
}

impl<'e> Lab<'e> {
    /// The server is `git.test` on ssh's own port, and also `stranger.test` there, whose key is not
    /// known; it is `asked.test` on its own port, which is asked about.
    fn new(env: &'e TestEnv) -> Self {
        require_tool("ssh-keygen");
        let repo = env.repo();
        let public = make_key(env, &repo.path().join("key"));
        let server = SshServer::start(&public);
        let port = server.port();
        let policy = format!(
            "schema = 1\n[network.services]\n\"git.test:22\" = \"127.0.0.1:{port}\"\n\
             \"stranger.test:22\" = \"127.0.0.1:{port}\"\n[network.hosts]\n\"asked.test\" = \"127.0.0.1\"\n\
             [[ask]]\nid = \"lab\"\nwhat = \"net\"\nhosts = [\"asked.test\"]\nports = [{port}]\n\
             private = true\n"
        );
        let policy = env.write("policy.toml", &policy).display().to_string();
        let known = [
            server.known_as("git.test,unused.corp.test"),
            server.known_as(&format!("[asked.test]:{port}")),
        ];
        env.write("home/.ssh/known_hosts", &known.concat());
        let config = format!(
            "Host work\n  HostName git.test\n  User {}\n  IdentityFile ~/.ssh/id_ed25519\n\
             Host unused\n  HostName db.corp.test\n",
            server.login()
        );
        env.write("home/.ssh/config", &config);
        let url = format!("work:{}", server.repository().display());
        repo.git(env, &["remote", "set-url", "origin", &url])
            .assert_success();
        Self {
            env,
            server,
            policy,
            repo,
        }
    }

    fn run(&self, line: &str) -> (stockade_testkit::Output, Vec<approvals::Asked>) {
        let options = ["--ask", "inbox", "--policy", self.policy.as_str()];
        let run = self
            .env
            .session_with(self.repo.path(), &options)
            .line(format!("export GIT_SSH_COMMAND='ssh -i ./key'; {line}"));
        approvals::answer_all(self.env, run.spawn(), |_| Answer::Allow {
            scope: "once".to_owned(),
        })
    }
}

/// A key in the workspace logs in if the caller knows the host, under the name that the caller
/// gives it; a push is asked about as usual, and so is a host that a rule asks about.
#[test]
fn git_over_ssh_reaches_the_hosts_that_the_caller_knows() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let (login, path) = (
            lab.server.login(),
            lab.server.repository().display().to_string(),
        );
        let port = lab.server.port();
        let line = format!(
            "git fetch -q && echo fetched; \
             git clone -q {login}@git.test:{path} copy && echo cloned $(git -C copy log --format=%s); \
             git ls-remote -q ssh://{login}@asked.test:{port}{path} main && echo asked; \
             git push -q origin HEAD:refs/heads/agent && echo pushed"
        );
        let (output, asked) = lab.run(&line);
        let record = events::summary(&env.record());
        output
            .assert_stdout("fetched\n")
            .assert_stdout("cloned Start the shop\n")
            .assert_stdout("asked\n")
            .assert_stdout("pushed\n");
        let about = |text: &str| asked.iter().filter(|asked| asked.mentions(text)).count();
        assert_eq!(
            (asked.len(), about("connect asked.test"), about("git push")),
            (2, 1, 1),
            "{asked:#?}\n{record}"
        );
        let pushed = lab.server.commit("agent");
        assert_eq!(
            pushed,
            Some(lab.repo.commit(env, "HEAD")),
            "{}",
            lab.server.log()
        );
    });
}

/// A host that the caller does not know, and a login without a key, fail as they do outside; `why`
/// says what is missing. Nothing else of `~/.ssh` is inside, neither keys nor names of other hosts,
/// and the files there cannot be changed.
#[test]
fn strangers_and_logins_without_a_key_are_refused_by_ssh_itself() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let (login, path) = (
            lab.server.login(),
            lab.server.repository().display().to_string(),
        );
        let line = format!(
            "git ls-remote {login}@stranger.test:{path}; echo stranger $?; \
             GIT_SSH_COMMAND=ssh git ls-remote {login}@git.test:{path}; echo keyless $?; \
             /run/stockade/why; grep -c '^|1|' ~/.ssh/known_hosts; \
             cat /etc/ssh/* ~/.ssh/* /run/stockade/ssh/*; ls -A ~/.ssh; \
             echo evil >> ~/.ssh/known_hosts; echo evil > /etc/ssh/ssh_config; \
             grep -c evil /etc/ssh/*"
        );
        let (output, asked) = lab.run(&line);
        assert!(asked.is_empty(), "{asked:#?}");
        output
            .assert_stderr("Host key verification failed")
            .assert_stdout("stranger 128\n")
            .assert_stderr("Permission denied (publickey)")
            .assert_stdout("keyless 128\n")
            .assert_stdout("ssh git.test:22 was allowed; if it fails:")
            // Both names of the first entry, and the other one.
            .assert_stdout("\n3\n")
            .assert_stdout("StrictHostKeyChecking yes")
            .assert_stdout("  HostName git.test\n")
            .assert_stdout("/etc/ssh/ssh_config:0\n/etc/ssh/ssh_known_hosts:0\n");
        for word in ["corp.test", "IdentityFile", "id_ed25519", "unused"] {
            assert!(!output.stdout.contains(word), "{word}: {output:?}");
        }
        env.assert_no_canary(&output.stdout);
        // A person's policy that hides `~/.ssh` hides this too.
        env.write(
            "policy.toml",
            &(std::fs::read_to_string(&lab.policy).expect("a policy")
                + "[filesystem]\nhide = [\"~/.ssh\"]\n"),
        );
        let (output, _) = lab.run(&format!(
            "git ls-remote {login}@git.test:{path}; echo hidden $?; grep -c '|1|' /etc/ssh/ssh_known_hosts"
        ));
        output.assert_stdout("hidden 128\n0\n");
    });
}

/// By default a host that no rule names is asked about on ssh's own port, and only there; if there
/// is no one to ask, it is closed.
#[test]
fn a_host_that_no_rule_names_is_a_question() {
    require_tool("ssh");
    for_each_user(|env| {
        let repo = env.repo();
        // An address that is never dialled here, because the answer is no.
        let fixed = "schema = 1\n[network.hosts]\n\"forge.test\" = \"93.184.216.34\"\n";
        let policy = env.write("policy.toml", fixed).display().to_string();
        for (ask, questions) in [("inbox", 1), ("deny", 0)] {
            let line = "git ls-remote git@forge.test:p.git; echo usual $?; \
                        git ls-remote ssh://git@forge.test:2222/p.git; echo other $?";
            let options = ["--ask", ask, "--policy", policy.as_str()];
            let run = env.session_with(repo.path(), &options).line(line);
            let (output, asked) = approvals::answer_all(env, run.spawn(), |_| Answer::Deny {
                reason: "no".to_owned(),
            });
            let record = env.record();
            output
                .assert_stdout("usual 128\n")
                .assert_stdout("other 128\n");
            assert_eq!(asked.len(), questions, "{asked:#?}");
            assert!(
                asked.iter().all(|asked| asked.mentions("forge.test:22\"")),
                "{asked:#?}"
            );
            let refused = |kind: &str, rule: &str| {
                record
                    .iter()
                    .filter(|event| {
                        event.kind() == kind && event.rule() == rule && event.is_refusal()
                    })
                    .count()
            };
            // Where nobody can be asked the name is not known.
            let expected = if ask == "deny" { (0, 0, 1) } else { (1, 1, 0) };
            assert_eq!(
                (
                    refused("connection.decided", "unfamiliar-ssh"),
                    refused("connection.decided", ""),
                    refused("name.decided", "unfamiliar-host")
                ),
                expected,
                "{}",
                events::summary(&record)
            );
        }
    });
}
