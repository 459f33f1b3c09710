//! What effects came of: the calls of the real agents, and what the kernel saw.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

use std::collections::BTreeMap;

use serde_json::Value;
use stockade_testkit::{ModelServer, events};

use crate::list::Lab;

/// Each command of the script is bound to its call, exactly, and all that came of it names the call; a
/// question shows why the tool was called, if the agent `says` it.
pub(crate) fn assert_effects_name_their_calls(
    lab: &Lab,
    session: &str,
    model: &ModelServer,
    says: bool,
) {
    let events = lab.env.events(session);
    let number = |event: &events::Event, path: &[&str]| {
        let value = path
            .iter()
            .try_fold(&event.json, |value, name| value.get(name));
        value.and_then(Value::as_u64)
    };
    let of_kind = |kind: &'static str| events.iter().filter(move |event| event.kind() == kind);
    let prompts: Vec<_> = of_kind("prompt.submitted")
        .filter(|event| event.json.get("aside") == Some(&false.into()))
        .collect();
    let [prompt] = prompts.as_slice() else {
        panic!("one prompt, saw {prompts:#?}");
    };
    assert!(prompt.json.to_string().contains("do the steps"));
    let turn = number(prompt, &["seq"]);
    let mut calls = BTreeMap::new();
    for result in model.results() {
        let call = of_kind("tool.called").find(|event| event.field("id") == result.call_id);
        let call = call.unwrap_or_else(|| panic!("no call {}", result.call_id));
        assert_eq!(number(call, &["cause", "turn"]), turn);
        let seq = number(call, &["seq"]).expect("each event has a number");
        let returned =
            of_kind("tool.returned").filter(|event| number(event, &["call"]) == Some(seq));
        assert_eq!(returned.count(), 1, "{}", result.call_id);
        let bound: Vec<_> = of_kind("scope.bound")
            .filter(|event| number(event, &["call"]) == Some(seq))
            .collect();
        let [bound] = bound.as_slice() else {
            panic!("`{}` is bound to one scope, saw {bound:#?}", result.command);
        };
        assert_eq!(bound.field("certainty"), "exact", "{}", result.command);
        calls.insert(bound.field("scope").to_owned(), seq);
    }
    assert_eq!(of_kind("scope.bound").count(), calls.len());
    let mut seen = 0;
    for event in &events {
        let Some(call) = calls.get(event.field("scope")) else {
            continue;
        };
        assert_eq!(number(event, &["cause", "call"]), Some(*call), "{event:?}");
        seen += 1;
    }
    assert!(seen > 50, "{seen} effects");
    for question in of_kind("approval.requested").filter(|_| says) {
        let shown = question.field("shown");
        assert!(
            shown.contains("\"Runs a step\" (its own words, not checked)"),
            "{shown}"
        );
    }
    let findings: Vec<_> = of_kind("finding.raised").collect();
    assert!(findings.is_empty(), "what was said is done: {findings:#?}");
    let refused = events.iter().filter(|event| event.is_refusal());
    for event in refused.filter(|event| event.targets("unfamiliar.test")) {
        assert!(calls.contains_key(event.field("scope")), "{event:?}");
    }
}
