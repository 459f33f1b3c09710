//! Logins over ssh with a key that stays outside: where it signs, and where it does not.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use stockade_testkit::{
    Output, Repo, TestEnv,
    approvals::{self, Answer},
    events::{self, Event},
    lab::{SshServer, make_key, make_key_of},
    processes::{self, Signal},
    run::require_tool,
    wait,
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

/// Kinds of keys, as options of `ssh-keygen`.
const KINDS: [&[&str]; 4] = [
    &["-t", "ed25519"],
    &["-t", "rsa", "-b", "2048"],
    &["-t", "ecdsa", "-b", "256"],
    &["-t", "ecdsa", "-b", "384"],
];

/// Each kind of key logs in at a host with a host key of the same kind; each key only at its own host.
#[test]
fn each_kind_of_key_logs_in_at_its_own_host() {
    for_each_user(|env| {
        let repo = env.repo();
        env.write("home/.ssh/known_hosts", "");
        let (mut services, mut credentials) = (String::new(), String::new());
        let (mut known, mut publics) = (String::new(), String::new());
        for (number, kind) in KINDS.into_iter().enumerate() {
            let path = env.home().join(format!(".ssh/key{number}"));
            publics.push_str(&make_key_of(env, &path, kind));
        }
        // Every server admits every key: what keeps one from another host is the agent.
        let servers = KINDS.map(|kind| SshServer::with_host_key(&publics, kind));
        for (number, server) in servers.iter().enumerate() {
            let (host, port) = (format!("host{number}.test"), server.port());
            services.extend([format!("\"{host}:22\" = \"127.0.0.1:{port}\"\n")]);
            credentials.extend([format!(
                "[[credential]]\nid = \"key{number}\"\nkind = \"ssh-key\"\nhosts = [\"{host}\"]\n\
                 source = {{ file = \"~/.ssh/key{number}\" }}\nusers = [\"{}\"]\n",
                server.login()
            )]);
            known.push_str(&server.known_as(&host));
        }
        let policy = format!("schema = 1\n[network.services]\n{services}{credentials}");
        let policy = env.write("policy.toml", &policy).display().to_string();
        env.write("home/.ssh/known_hosts", &known);
        let login = servers[0].login();
        let line = format!(
            "ssh-add -L | while read -r kind key id; do echo \"$kind $key\" > $id.pub; done\n\
             for n in 0 1 2 3; do for k in 0 1 2 3; do \
             ssh -o IdentitiesOnly=yes -i key$k.pub {login}@host$n.test \"echo in $n $k\"; \
             done; done"
        );
        let options = ["--ask", "deny", "--policy", policy.as_str()];
        let output = env.session_with(repo.path(), &options).line(line).output();
        let text = events::summary(&env.record());
        let logins: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(
            logins,
            ["in 0 0", "in 1 1", "in 2 2", "in 3 3"],
            "{output:?}\n{text}"
        );
    });
}

/// A key of the caller's ssh-agent signs there, also one that its owner bound to the host; others of that
/// agent are not listed.
#[test]
fn a_key_of_the_callers_agent_stays_there() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let home = env.home();
        make_key(env, &home.join(".ssh/private-one"));
        let socket = env.root().join("agent");
        let agent = env
            .command("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .spawn();
        assert!(
            wait::until_true(Duration::from_secs(20), || socket.exists()),
            "{}",
            agent.stderr()
        );
        let add = |options: &[&str], key: &str| {
            let mut run = env.command("ssh-add").arg("-q").args(options);
            run = run.arg(home.join(".ssh").join(key));
            run.env("SSH_AUTH_SOCK", &socket).success();
        };
        add(&[], "private-one");
        let run = |source: &str, line: &str| {
            let text = fs::read_to_string(&lab.policy).expect("a policy");
            let text = text.replace("file = \"~/.ssh/deploy\"", &format!("agent = \"{source}\""));
            let policy = env.write("agent.toml", &text).display().to_string();
            let options = ["--ask", "deny", "--policy", policy.as_str()];
            let run = env.session_with(lab.repo.path(), &options);
            run.env("SSH_AUTH_SOCK", &socket)
                .line(line.replace("LOGIN", lab.server.login()))
                .output()
        };
        let fingerprint = env
            .command("ssh-keygen")
            .arg("-lf")
            .arg(home.join(".ssh/deploy.pub"))
            .success();
        let fingerprint = fingerprint
            .stdout
            .split(' ')
            .nth(1)
            .expect("a fingerprint")
            .to_owned();
        let line = "ssh-add -L | wc -l; echo $SSH_AUTH_SOCK; ssh LOGIN@git.test 'echo in'";
        let missing = run(&fingerprint, line);
        missing
            .assert_code(125)
            .assert_stderr("of your ssh-agent is not there");
        // A key that may be used at this host alone says so to its agent too.
        let bound = format!("{}@git.test", lab.server.login());
        add(
            &[
                "-h",
                &bound,
                "-H",
                &home.join(".ssh/known_hosts").display().to_string(),
            ],
            "deploy",
        );
        let output = run(&fingerprint, line);
        let text = events::summary(&env.record());
        assert_eq!(
            output.stdout, "1\n/run/stockade/ssh-agent\nin\n",
            "{output:?}\n{text}"
        );
    });
}

/// A key that cannot be used stops the start, with what to do.
#[test]
fn keys_that_cannot_be_used_stop_the_start() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let key = env.home().join(".ssh/deploy");
        let own = fs::read_to_string(&key).expect("a key");
        let start = |what: &str| {
            let options = ["--policy", lab.policy.as_str()];
            let run = env.session_with(lab.repo.path(), &options);
            let output = run.line("echo ran").output();
            output.assert_code(125).assert_stderr(what);
            assert!(output.stdout.is_empty(), "{output:?}");
        };
        let set_mode = |mode: u32| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(&key, mode).expect("a file of the test");
        };
        set_mode(0o644);
        start("make it `chmod 600`");
        set_mode(0o600);
        env.command("ssh-keygen")
            .args(["-q", "-p", "-P", "", "-N", "secret words", "-f"])
            .arg(&key)
            .success();
        start("add the key to your ssh-agent");
        fs::write(&key, own.replace("OPENSSH", "OTHER")).expect("a file of the test");
        start("has no private key that OpenSSH reads");
        fs::remove_file(&key).expect("a file of the test");
        start("the file `~/.ssh/deploy` cannot be read");
    });
}

/// Nothing of the private half is inside, neither as text nor as bytes, and the agent that has it ends
/// with the session, however that ends.
#[test]
fn the_private_half_is_nowhere_inside_and_ends_with_the_session() {
    for_each_user(|env| {
        let lab = Lab::new(env);
        let key = fs::read_to_string(env.home().join(".ssh/deploy")).expect("a key");
        // The lines with the private half; those before have the public one too.
        let secret = key.lines().rev().nth(2).expect("a line").to_owned();
        let line = "ssh LOGIN@git.test 'echo in'; echo started > started; sleep 1000";
        let line = line.replace("LOGIN", lab.server.login());
        let options = ["--ask", "deny", "--policy", lab.policy.as_str()];
        let running = env
            .session_with(lab.repo.path(), &options)
            .line(line)
            .spawn();
        let started = lab.repo.path().join("started");
        assert!(
            wait::until_true(Duration::from_secs(30), || started.exists()),
            "{}",
            running.stderr()
        );
        let session = env.session_id();
        // The agent outside has the id of its session as an argument.
        let agents = || processes::with_argument(&session).len();
        // Control: it is there, and can be found.
        assert_eq!(agents(), 1);
        let all = processes::descendants(running.pid());
        assert!(all.len() > 3, "{all:?}");
        let ours = || {
            all.iter()
                .filter(|pid| !processes::with_argument(&session).contains(pid))
        };
        for pid in ours() {
            assert_eq!(processes::memory_has(*pid, &[&secret]), [false], "{pid}");
        }
        // Control: it would be seen, as what is inside is.
        let seen = ours().any(|pid| processes::memory_has(*pid, &["SSH_AUTH_SOCK="]) == [true]);
        assert!(seen, "the memory was not read");
        let inside = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; \
                      cat ~/.ssh/* /run/stockade/* /run/stockade/*/* 2>/dev/null; env";
        let (output, record) = lab.run(&format!("{inside}; find / -xdev -type s 2>/dev/null"));
        assert!(
            output
                .stdout
                .contains("SSH_AUTH_SOCK=/run/stockade/ssh-agent")
        );
        for text in [&output.stdout, &events::summary(&record)] {
            assert!(!text.contains(&secret), "{text}");
        }
        running.signal(Signal::KILL);
        running.wait();
        assert!(wait::until_true(Duration::from_secs(20), || agents() == 0));
    });
}
