//! Plans of agents in the record, as far as policy lets their words into it.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::time::Duration;

use stockade_testkit::{TestEnv, events::Event, lab::TlsServer, run::require_tool};

use crate::network::for_each_user;

/// What looks like a secret of a provider that the search for secrets knows.
fn token() -> String {
    format!("ghp_{}", "a1B2c3D4e5F6".repeat(3))
}

/// A call whose answer, here the same text, asks for three tools; one of them is for no plan, although
/// its arguments look like one.
fn body() -> String {
    let steps = |state: &str| {
        format!(
            r#"{{"todos":[{{"content":"read {}","status":"completed","activeForm":"x"}},{{"content":"mend","status":"{state}","activeForm":"x"}}]}}"#,
            token()
        )
    };
    format!(
        r#"{{"type":"message","id":"msg-1","model":"lab-1","messages":[{{"role":"user","content":"hi"}}],"usage":{{"input_tokens":3,"output_tokens":5}},"stop_reason":"tool_use","tools":[{{"name":"TodoWrite","input_schema":{{}}}}],"content":[{{"type":"tool_use","id":"c-1","name":"TodoWrite","input":{}}},{{"type":"tool_use","id":"c-2","name":"TaskUpdate","input":{{"taskId":"2","status":"completed"}}}},{{"type":"tool_use","id":"c-3","name":"Other","input":{}}}]}}"#,
        steps("in_progress"),
        steps("pending")
    )
}

fn number(event: &Event, path: &str) -> Option<u64> {
    event.json.pointer(path)?.as_u64()
}

#[test]
fn plans_are_recorded_as_policy_lets_their_words() {
    for_each_user(|env| {
        require_tool("curl");
        let server = TlsServer::writing(&["one.test"], |request, out| {
            let length = request.body.len();
            let head = format!("HTTP/1.1 200 Lab\r\nContent-Length: {length}\r\n\r\n");
            out.write_all(head.as_bytes())?;
            out.write_all(&request.body)?;
            out.flush()
        });
        let repo = env.repo();
        let pem = env.write("one.pem", server.certificate_pem());
        let kept = ["redacted", "digest", "none"];
        for (content, has_text) in kept.into_iter().zip([true, false, false]) {
            let policy = env.write(
                "policy.toml",
                &format!(
                    "schema = 1\n[record]\ncontent = \"{content}\"\n[network]\nupstream_ca = [\"{}\"]\n\
                     [network.hosts]\n\"one.test\" = \"127.0.0.1\"\n[[allow]]\nid = \"lab\"\n\
                     what = \"net\"\nhosts = [\"one.test\"]\nports = [{}]\nprivate = true\n\
                     tls = \"inspect\"\n",
                    pem.display(),
                    server.port()
                ),
            );
            env.write(repo.path().join("body.json"), &body());
            let line = format!(
                "curl -sS -m 60 -o got --data-binary @body.json https://one.test:{}/v1/messages",
                server.port()
            );
            env.session_with(repo.path(), &["--ask", "deny"])
                .args(&["--policy".to_owned(), policy.display().to_string()])
                .line(&line)
                .timeout(Duration::from_mins(2))
                .output()
                .assert_code(0);
            let record = env.record();
            check(&record, has_text, content);
            assert_shown(env, has_text);
        }
    });
}

fn check(record: &[Event], has_text: bool, content: &str) {
    let of_kind = |kind: &'static str| record.iter().filter(move |event| event.kind() == kind);
    let plans: Vec<_> = of_kind("plan.changed").collect();
    let [whole, one] = plans.as_slice() else {
        panic!("two of the calls change the plan: {plans:#?}");
    };
    assert_eq!(whole.field("change"), "replaced");
    assert_eq!(one.field("change"), "updated");
    for (plan, id) in [(whole, "c-1"), (one, "c-2")] {
        let mut calls = of_kind("tool.called");
        let call = calls.find(|call| call.field("id") == id).expect("the call");
        let seq = number(call, "/seq");
        assert!(seq.is_some() && number(plan, "/call") == seq, "{plan:?}");
        assert_eq!(number(plan, "/cause/call"), seq, "{plan:?}");
        assert!(number(plan, "/cause/turn").is_some(), "{plan:?}");
    }
    let states = ["/steps/first/0/state", "/steps/first/1/state"].map(|at| whole.json.pointer(at));
    assert_eq!(states, [Some(&"done".into()), Some(&"active".into())]);
    let text = whole.json.pointer("/steps/first/0/text/text");
    assert_eq!(text.is_some(), has_text, "{content}: {whole:?}");
    let bytes = number(whole, "/steps/first/0/text/bytes");
    assert!(bytes > Some(40), "{whole:?}");
    let digest = whole.json.pointer("/steps/first/0/text/digest");
    assert_eq!(digest.is_some(), content != "none");
    for event in record {
        assert!(!event.json.to_string().contains(&token()), "{event:?}");
    }
}

fn assert_shown(env: &TestEnv, has_text: bool) {
    let words = if has_text { "mend" } else { "(4 B, not kept)" };
    for form in [&["show"][..], &["show", "--tree"], &["replay"]] {
        let shown = env.stockade().args(form).success();
        let line = format!("1 of 2 done, active: {words}");
        assert!(shown.stdout.contains(&line), "{form:?}: {}", shown.stdout);
    }
    let page = env.stockade().args(["show", "--html", "-"]).success();
    assert!(page.stdout.contains("1 of 2 done"), "{}", page.stdout);
    assert!(!page.stdout.contains(&token()));
}
