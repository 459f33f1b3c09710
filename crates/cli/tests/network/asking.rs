//! Questions about single requests: what their answers reach, and how many there are.

use std::cell::Cell;

use stockade_testkit::{
    approvals::{self, Answer, Asked},
    lab::HttpServer,
    run::require_tool,
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
