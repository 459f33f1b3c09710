//! Questions about single requests: what their answers reach, and how many there are.

use std::{cell::Cell, time::Duration};

use stockade_testkit::{
    approvals::{self, Answer, Asked},
    lab::{HttpServer, Registry},
    run::require_tool,
    wait,
};

use crate::network::{asked_about, for_each_user};

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

/// Returns what was asked about, without what all questions here have.
fn summaries(asked: &[Asked]) -> Vec<String> {
    let summary = |one: &Asked| Some(one.json.get("summary")?.as_str()?.to_owned());
    asked.iter().filter_map(summary).collect()
}

/// An answer about paths lets the same methods reach what is below the path, and nothing beside it:
/// another directory, another method and a path that leads out of it are asked about again, and nothing
/// of what was refused has arrived.
#[test]
fn an_answer_about_paths_reaches_what_was_shown() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let policy = asked_about(env, "api", port).display().to_string();
        let text = std::fs::read_to_string(&policy).expect("the policy");
        env.write("policy.toml", &format!("{text}paths = [\"/**\"]\n"));
        let line = "get() { curl -s -o /dev/null --path-as-is -w '%{http_code} ' \"$@\"; }; \
             at=http://api.test:PORT/v1; get $at/items/7; get $at/items/8?all; get -I $at/items/7/x; \
             get $at/users; get -d x $at/items/7; get $at/items/../users; get $at/items/%2e%2e/users"
            .replace("PORT", &port.to_string());
        let repo = env.repo();
        let run = env.session_with(repo.path(), &["--ask", "inbox", "--policy", &policy]);
        let first = Cell::new(true);
        let (output, asked) = approvals::answer_all(env, run.line(&line).spawn(), |asked| {
            if !first.replace(false) {
                return no();
            }
            let shown = env.stockade().args(["approvals", "show", &asked.id]);
            let words =
                format!("paths     any program here, GET, HEAD of api.test:{port}/v1/items/**");
            shown.success().assert_stdout(&words);
            yes("paths")
        });
        assert_eq!(
            output.stdout.trim(),
            "200 200 200 403 403 403 403",
            "{asked:?}"
        );
        let expected = [
            "GET api.test:PORT/v1/items/7",
            "GET api.test:PORT/v1/users",
            "POST api.test:PORT/v1/items/7",
            "GET api.test:PORT/v1/items/../users",
            "GET api.test:PORT/v1/items/%2e%2e/users",
        ];
        let expected =
            expected.map(|line| format!("request {}", line.replace("PORT", &port.to_string())));
        assert_eq!(summaries(&asked), expected);
        let arrived = server.requests();
        let arrived: Vec<String> = arrived
            .iter()
            .map(|one| format!("{} {}", one.method, one.path()))
            .collect();
        assert_eq!(arrived.len(), 3, "{arrived:?}");
    });
}

/// However many connections wait for the same, it is one question; a yes for the session lets all of them
/// go on, and a no refuses all, of which nothing arrives.
#[test]
fn twenty_connections_ask_once() {
    require_tool("curl");
    for_each_user(|env| {
        let server = HttpServer::start();
        let port = server.port();
        let policy = asked_about(env, "api", port).display().to_string();
        let text = std::fs::read_to_string(&policy).expect("the policy");
        env.write("policy.toml", &format!("{text}paths = [\"/**\"]\n"));
        let line = "for path in yes no; do for i in $(seq 20); do \
             curl -s -o /dev/null -w '%{http_code}\\n' http://api.test:PORT/$path >> $path & done; wait; \
             sort $path | uniq -c; done"
            .replace("PORT", &port.to_string());
        let repo = env.repo();
        let run = env.session_with(repo.path(), &["--ask", "inbox", "--policy", &policy]);
        let (output, asked) = approvals::answer_all(env, run.line(&line).spawn(), |asked| {
            let all = || {
                let open = approvals::pending(env);
                let own = open.iter().find(|one| one.id == asked.id);
                own.is_some_and(|one| one.mentions("\"waiting\":20"))
            };
            assert!(wait::until_true(Duration::from_secs(20), all), "{asked:?}");
            if asked.mentions("/yes") {
                yes("session")
            } else {
                no()
            }
        });
        let lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
        assert_eq!(lines, ["20 200", "20 403"], "{asked:?}");
        assert_eq!(asked.len(), 2, "{asked:?}");
        let arrived = server.requests();
        let all = arrived.iter().all(|one| one.path() == "/yes");
        assert!(all && arrived.len() == 20, "{}", arrived.len());
    });
}

/// The hosts of a registry and of a repository, about whose requests the user is asked.
const LEARNED: &str = "schema = 1\n[network.hosts]\n\"web.test\" = \"127.0.0.1\"\n\"git.test\" = \
     \"127.0.0.1\"\n[[ask]]\nid = \"web\"\nwhat = \"net\"\nhosts = [\"web.test\"]\nports = [PORT]\nprivate = \
     true\npaths = [\"/**\"]\n[[ask]]\nid = \"git\"\nwhat = \"git\"\nhosts = [\"git.test\"]\nports = \
     [PORT]\nprivate = true\n";

/// What people allowed in a session becomes rules: with them the same session asks nothing and refuses
/// nothing, and a request beside it is still refused, of which nothing arrives. What opens much is
/// written as a comment.
#[test]
fn what_was_allowed_is_learned_as_rules_about_requests() {
    for tool in ["curl", "git", "npm"] {
        require_tool(tool);
    }
    for_each_user(|env| {
        let repo = env.repo();
        let registry = Registry::new(env, &repo);
        let server = HttpServer::with(move |request| registry.answer(request));
        let port = server.port().to_string();
        let text = LEARNED.replace("PORT", &port);
        env.write("home/.config/stockade/policy.toml", &text);
        let same = "curl -s -o /dev/null -w '%{http_code}\\n' http://web.test:PORT/items/7; \
             curl -s -o /dev/null http://web.test:PORT/items/8; \
             npm view demo name --registry http://web.test:PORT/npm/ --fetch-retries 0; \
             git ls-remote http://git.test:PORT/origin.git HEAD >/dev/null && echo read"
            .replace("PORT", &port);
        let name = repo.origin().file_name().expect("it has a name");
        let same = same.replace("origin.git", &name.to_string_lossy());
        let other = "; curl -s -o /dev/null -d x http://web.test:PORT/items".replace("PORT", &port);
        let run = env.session_with(repo.path(), &["--ask", "inbox"]);
        let line = format!("{same}{other}");
        let (output, asked) =
            approvals::answer_all(env, run.line(&line).spawn(), |_| yes("session"));
        output.assert_stdout("demo").assert_stdout("read");
        assert!(asked.len() >= 5, "{asked:?}");

        let learn = env.stockade().args(["policy", "learn", "last", "--write"]);
        let learned = learn.success();
        learned.assert_stdout("commented out, it can change something there");
        learned
            .assert_stdout("/items/*")
            .assert_stderr("1 rule opens much");
        let again = env.stockade().args(["policy", "learn", "last", "--write"]);
        let again = again.success();
        again.assert_stdout("is there already, commented out");
        assert!(!again.stdout.contains("it can change"), "{again:?}");
        let rules = env.stockade().args(["rules", "list"]).success().stdout;
        let before = server.requests().len();
        let again = env.session_with(repo.path(), &["--ask", "deny"]);
        let again = again.line(&same).output();
        let (said, asked) = (again.stdout.clone(), again.stderr.clone());
        assert_eq!(said, output.stdout, "{rules}\n{asked}");
        assert!(
            env.record().iter().all(|event| !event.is_refusal()),
            "{rules}"
        );
        let between = server.requests().len();
        assert!(between > before, "{said}");

        let beside = "for more in '-d x http://web.test:PORT/items/7' http://web.test:PORT/users/7 \
             http://web.test:PORT/items/7/x; do curl -s -o /dev/null -w '%{http_code} ' $more; done; \
             git ls-remote http://git.test:PORT/other.git 2>&1; true"
            .replace("PORT", &port);
        let run = env
            .stockade()
            .args(["run", "--ask", "deny", "--", "/bin/bash", "-c"]);
        let refused = run.arg(&beside).current_dir(repo.path()).output();
        refused.assert_stdout("403 403 403 fatal");
        // The end names the rules that would have let it pass.
        refused.assert_stderr("paths = [\"/items/7/x\", \"/users/7\"]");
        refused.assert_stderr("repositories = [\"other\"]");
        refused
            .assert_stderr("# careful: it can change something there\n# [[allow]]\n# id = \"from-");
        assert_eq!(server.requests().len(), between, "{refused:?}");
    });
}
