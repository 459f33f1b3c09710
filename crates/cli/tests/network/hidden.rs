//! S06, S08: a secret in what is asked about is in no question, no record, no refusal and no rule that
//! is kept; what only looks like one stays as it is.

use std::{cell::RefCell, fs, path::Path};

use stockade_testkit::{
    TestEnv,
    approvals::{self, Answer},
    lab::HttpServer,
    run::require_tool,
};

use crate::network::{asked_about, for_each_user};

/// A token of a known format that nobody has, in two parts so that no scanner of sources finds it.
const TOKEN: (&str, &str) = ("ghp_", "k3Xv9QmZ2rT7bNw4Yc8LpD1sHf6GjA5uEoKq");
/// What lock files and addresses of packages have, and is no secret.
const PLAIN: &str = "/blobs/sha256:0c4b5a6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b\
     /123e4567-e89b-12d3-a456-426614174000/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b";

/// Fails if a secret of the test is in a text, in any part that tells it.
fn assert_hidden(what: &str, text: &str) {
    assert!(
        !text.contains(&TOKEN.1[8..24]),
        "{what} has the secret: {text}"
    );
}

/// Reads all files below a directory as text.
fn texts(directory: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(directory).expect("it is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.push_str(&texts(&path));
        } else if path.is_file() {
            let bytes = fs::read(&path).expect("it is readable");
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    all
}

/// Whatever shows or keeps what was asked about: the list and its JSON, the question, the list of
/// answers, the rules and their files, what was refused, and the record.
struct Seen<'e> {
    env: &'e TestEnv,
    all: RefCell<String>,
}

impl<'e> Seen<'e> {
    fn new(env: &'e TestEnv) -> Self {
        Self {
            env,
            all: RefCell::default(),
        }
    }

    fn add(&self, text: &str) {
        self.all.borrow_mut().push_str(text);
    }

    fn command(&self, words: &[&str]) -> String {
        let output = self.env.stockade().args(words).output();
        let text = format!("{}{}", output.stdout, output.stderr);
        self.add(&text);
        text
    }
}

/// A request with a token in its path and its query, and one beside it that has none.
#[test]
fn s06_a_secret_of_a_request_is_in_nothing_that_shows_or_keeps_it() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let token = [TOKEN.0, TOKEN.1].concat();
        let policy = asked_about(env, "api", port);
        let text = fs::read_to_string(&policy).expect("the policy");
        let policy = env.write("policy.toml", &format!("{text}paths = [\"/**\"]\n"));
        let policy = policy.display().to_string();
        let repo = env.repo();
        let at = format!("http://api.test:{port}");
        // In files: arguments of programs are shown too.
        let secret = format!("url = \"{at}/bot{token}/send?key={token}&page=2\"\n");
        env.write(repo.path().join("secret"), &secret);
        env.write(
            repo.path().join("plain"),
            &format!("url = \"{at}{PLAIN}?x=1\"\n"),
        );
        let line = "curl -s -o /dev/null -w '%{http_code} ' -K secret; \
             curl -s -o /dev/null -w '%{http_code} ' -K plain";
        let session = |ask: &str| {
            let options = ["--ask", ask, "--policy", policy.as_str()];
            env.session_with(repo.path(), &options)
        };
        let seen = Seen::new(env);
        let (output, asked) =
            approvals::answer_all(env, session("inbox").line(line).spawn(), |one| {
                seen.add(&one.json.to_string());
                let shown = seen.command(&["approvals", "show", &one.id]);
                assert!(
                    shown.contains("[github-token:") || shown.contains(PLAIN),
                    "{shown}"
                );
                seen.command(&["approvals", "allow", &one.id, "--scope", "always"]);
                seen.command(&["approvals", "grants"]);
                Answer::Deny {
                    reason: "late".to_owned(),
                }
            });
        assert_eq!(output.stdout, "200 200 ", "{asked:?} {output:?}");
        let arrived = server.requests();
        assert_eq!(
            arrived[0].target,
            format!("/bot{token}/send?key={token}&page=2")
        );
        let rules = seen.command(&["rules", "list"]);
        assert!(rules.contains("\"/*/send\""), "{rules}");
        assert!(rules.contains(PLAIN), "{rules}");
        assert!(!rules.contains("page="), "{rules}");
        seen.add(&texts(&env.home().join(".config")));
        seen.add(&format!("{:?}", env.record()));

        // The next session does not ask; without the rules everything is refused, and says so.
        let again = session("deny").line(line).output();
        assert_eq!(again.stdout, "200 200 ", "{rules}\n{again:?}");
        for rule in rules
            .split_whitespace()
            .filter(|word| word.starts_with("always-"))
        {
            env.stockade().args(["rules", "remove", rule]).output();
        }
        let line = "curl -s -K secret; curl -s -K plain; /run/stockade/why";
        let refused = session("deny").line(line).output();
        assert!(refused.stdout.contains(PLAIN), "{refused:?}");
        seen.add(&format!("{}{}", refused.stdout, refused.stderr));
        seen.command(&["policy", "learn", "last"]);
        seen.command(&["show", "last"]);
        seen.add(&format!("{:?}", env.record()));
        assert_eq!(server.requests().len(), 4, "{refused:?}");
        let seen = seen.all.borrow();
        assert!(
            seen.contains("[github-token:") && seen.contains(PLAIN),
            "{seen}"
        );
        assert_hidden("what was seen", &seen);
    });
}

/// A command with tokens in its arguments, in addresses and in fields, and the same command line of the
/// session itself. What runs gets its arguments as they are.
#[test]
fn s06_a_secret_in_a_command_is_in_nothing_that_shows_or_keeps_it() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let token = [TOKEN.0, TOKEN.1].concat();
        let text = format!(
            "schema = 1\n[network.hosts]\n\"api.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"api\"\n\
             what = \"net\"\nhosts = [\"api.test\"]\nports = [{port}]\nprivate = true\n[[ask]]\n\
             id = \"curl\"\nwhat = \"exec\"\ncommand = [\"curl\", \"**\"]\n[[deny]]\nid = \"id\"\n\
             what = \"exec\"\ncommand = [\"id\", \"**\"]\n"
        );
        let policy = env.write("policy.toml", &text).display().to_string();
        let repo = env.repo();
        let at = format!("http://me:{}@api.test:{port}", "open-sesame-77");
        let line = format!(
            "curl -s -o /dev/null -w '%{{http_code}} ' -H 'X-Note: {token}' {at}{PLAIN}; \
             curl -s -o /dev/null -w '%{{http_code}} ' -H 'Authorization: Bearer open-sesame-77' {at}/b; \
             id {token} {at} 2>/dev/null; /run/stockade/why"
        );
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let run = env.session_with(repo.path(), &options).line(&line);
        let seen = Seen::new(env);
        let (output, asked) = approvals::answer_all(env, run.spawn(), |one| {
            seen.add(&one.json.to_string());
            seen.command(&["approvals", "show", &one.id]);
            // No rule keeps such a command.
            let kept = seen.command(&["approvals", "allow", &one.id, "--scope", "always"]);
            assert!(!kept.contains("saved"), "{kept}");
            seen.command(&["approvals", "allow", &one.id, "--scope", "session"]);
            seen.command(&["approvals", "grants"]);
            Answer::Deny {
                reason: "late".to_owned(),
            }
        });
        assert!(
            output.stdout.starts_with("200 200 "),
            "{asked:?} {output:?}"
        );
        seen.add(output.stdout.trim_start_matches("200 200 "));
        let arrived = server.requests();
        let field = |at: usize, name: &str| arrived[at].header(name).map(str::to_owned);
        assert_eq!(field(0, "x-note").as_deref(), Some(token.as_str()));
        assert_eq!(arrived[0].target, PLAIN);
        assert_eq!(
            field(1, "authorization").as_deref(),
            Some("Bearer open-sesame-77")
        );
        seen.command(&["policy", "learn", "last"]);
        seen.command(&["show", "last"]);
        seen.command(&["sessions", "--json"]);
        seen.command(&["rules", "list"]);
        seen.add(&texts(&env.home().join(".config")));
        seen.add(&format!("{:?}", env.record()));
        let seen = seen.all.borrow();
        for part in [
            "[github-token:",
            "me:(hidden)@api.test",
            "Bearer (hidden)",
            PLAIN,
        ] {
            assert!(seen.contains(part), "{part}: {seen}");
        }
        assert!(!seen.contains("open-sesame-77"), "{seen}");
        assert_hidden("what was seen", &seen);
    });
}
