//! The readers of bodies against changed inputs.

use serde_json::Value;
use stockade_fuzz::{TRIES, Target};
use stockade_policy::{Forge, ForgeOperation, Git, GitOperation, HostedTool, Model, Provider};

use super::{git, graphql, model};

fn bytes(samples: &[&str]) -> Vec<Vec<u8>> {
    samples
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect()
}

fn push() -> Git {
    Git {
        repository: Some("a".to_owned()),
        operation: GitOperation::Push,
        changes: None,
        is_certain: true,
    }
}

/// More bytes never change what was read, and each ref that was read stands in the bytes.
#[test]
fn fuzz_push_commands() {
    let (id, none) = ("1".repeat(40), "0".repeat(40));
    let line = |text: String| format!("{:04x}{text}", text.len() + 4);
    let first = line(format!("{none} {id} refs/heads/main\0report-status"));
    let second = line(format!("{id} {none} refs/tags/v1"));
    let target = Target {
        name: "push-commands",
        samples: bytes(&[
            &format!("{first}{second}0000PACK"),
            &format!("{second}0000"),
            "0000",
        ]),
        words: &[
            b"0000",
            b"0001",
            b"0004",
            b"\0",
            b"\n",
            b" ",
            b"refs/heads/main",
            b"push-cert",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |body| {
        let mut whole = push();
        git::complete(&mut whole, body, true);
        for change in whole.changes.iter().flatten() {
            let name = change.name.as_bytes();
            assert!(body.windows(name.len()).any(|part| part == name));
        }
        for cut in 0..body.len() {
            let part = body.get(..cut).unwrap_or_default();
            let mut read = push();
            git::complete(&mut read, part, false);
            assert!(read.changes.is_none() || read.changes == whole.changes);
            if read.changes.is_some() {
                assert!(!git::wants_more(part));
            }
        }
    });
}

/// A tool that some reader of JSON sees is seen or nothing is said.
#[test]
fn fuzz_model_call() {
    let target = Target {
        name: "model-call",
        samples: bytes(&[
            r#"{"model":"m","stream":true,"tools":[{"type":"web_search_20250305"},{"name":"x","input_schema":{}}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"x"}],"mcp_servers":[{"url":"x"}]}"#,
            r#"{"tools":[{"googleSearch":{}},{"functionDeclarations":[]}]}"#,
        ]),
        words: &[
            b"\"tools\":",
            b"\"Tools\":",
            b"\"type\":\"mcp\"",
            b"\"web_search\"",
            b"\\u0074",
            b"{}",
            b"[]",
            b"\"model\":\"n\",",
            b"null",
            b",",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |body| {
        let mut read = Model::unclear();
        read.provider = Some(Provider::Anthropic);
        model::complete(&mut read, body);
        let Some(tools) = read.hosted_tools else {
            return;
        };
        // Text that is not kept is not looked at, and may be what other readers refuse.
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return;
        };
        let listed = value.get("tools").and_then(Value::as_array);
        for tool in listed.into_iter().flatten() {
            let sort = tool.get("type").and_then(Value::as_str).unwrap_or_default();
            if sort.starts_with("web_search") {
                let search = |one: &HostedTool| one.name == "web_search";
                assert!(tools.iter().any(search), "{tools:?}");
            }
        }
        assert_eq!(
            read.model.as_deref(),
            value.get("model").and_then(Value::as_str)
        );
    });
}

/// What begins with a mutation is one, or is no document.
#[test]
fn fuzz_graphql() {
    let target = Target {
        name: "graphql",
        samples: bytes(&[
            "mutation M($a: [A!]) { b: mergePullRequest(input: {x: \"y\"}) { id } }",
            "query Q { a(b: \"\"\"c\"\"\") { d } } # mutation",
            "{ a } fragment F on T { b }",
        ]),
        words: &[
            b"mutation",
            b"{",
            b"}",
            b"(",
            b")",
            b"\"",
            b"\"\"\"",
            b"#",
            b"\n",
            b"...",
            b"@skip",
            b":",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |text| {
        let Ok(text) = std::str::from_utf8(text) else {
            return;
        };
        let body = serde_json::json!({ "query": text }).to_string();
        let mut forge = Forge {
            operation: None,
            repository: None,
            actions: None,
            is_graphql: true,
        };
        graphql::complete(&mut forge, body.as_bytes());
        if text.starts_with("mutation {") || text.starts_with("mutation{") {
            assert_ne!(forge.operation, Some(ForgeOperation::Read), "{text:?}");
        }
        if !text.contains("mutation") {
            assert_ne!(forge.operation, Some(ForgeOperation::Mutation), "{text:?}");
        }
    });
}
