//! What agents export about themselves: it is in the record where traffic is not seen, stands behind
//! traffic where it is, and takes nothing from its owner.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken fixture must end the test"
)]

mod hostile;
mod owners;

use std::path::PathBuf;

use serde_json::Value;
use stockade_testkit::{
    ModelServer, Step, agents,
    agents::LAB_KEY,
    env::User,
    events::{self, Event},
    model::MODEL,
};

use crate::list::{self, Lab, Session, Wish, denied};

/// What the agent is told.
const PROMPT: &str = "put marmalade into a note";
/// What it runs for that.
const COMMANDS: [&str; 2] = [
    "echo marmalade > note.txt && sleep 1",
    "grep -c marmalade note.txt; true",
];

/// An agent, and the variable by which it trusts the model's server.
struct Agent {
    name: &'static str,
    words: fn(&std::path::Path, &str) -> Vec<String>,
    variables: fn(&str) -> Vec<(String, String)>,
    trusts_by: &'static str,
}

const CLAUDE: Agent = Agent {
    name: "claude",
    words: agents::claude_arguments,
    variables: agents::claude_variables,
    trusts_by: "NODE_EXTRA_CA_CERTS",
};

const CODEX: Agent = Agent {
    name: "codex",
    words: agents::codex_arguments,
    variables: |_| agents::codex_variables(),
    trusts_by: "SSL_CERT_FILE",
};

/// What becomes of the TLS to the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Spliced,
    Opened,
}

fn policy(lab: &Lab, model: &ModelServer, agent: &Agent, tls: Tls, more: &str) -> PathBuf {
    let certificate = model.certificate_pem().expect("the model speaks TLS");
    let authority = lab.env.write("model.pem", certificate);
    let inside = lab
        .env
        .write(lab.repo.path().join("model.pem"), certificate);
    let (port, trusts) = (model.port(), agent.trusts_by);
    let (word, trusted) = match tls {
        Tls::Spliced => (
            "splice",
            format!("[environment.set]\n{trusts} = \"{}\"\n", inside.display()),
        ),
        Tls::Opened => ("inspect", String::new()),
    };
    lab.policy(&format!(
        "{more}\n[environment]\npass = [\"LAB_KEY\"]\n{trusted}\n[network]\nupstream_ca = [\"{}\"]\n\
         [[allow]]\nid = \"lab-model\"\nwhat = \"net\"\nhosts = [\"model.test\"]\nports = [{port}]\n\
         private = true\ntls = \"{word}\"\nreason = \"the scripted model\"\n",
        authority.display()
    ))
}

/// Runs an agent, which does all that its model asks for.
fn run(lab: &Lab, model: &ModelServer, agent: &Agent, tls: Tls, more: &str) -> Session {
    let url = model.url_as("model.test");
    if agent.name == "codex" {
        lab.env.own(&agents::codex_config(&lab.env.home(), &url));
    }
    let session = list::run(
        lab,
        Wish {
            words: &(agent.words)(&agents::require(agent.name), PROMPT),
            policy: policy(lab, model, agent, tls, more),
            variables: (agent.variables)(&url),
            timeout: agents::AGENT_TIMEOUT,
            answer: denied(),
        },
    );
    session
        .output
        .assert_success()
        .assert_stdout("all steps are done");
    model.assert_finished();
    session
}

fn script() -> Vec<Step> {
    let commands = COMMANDS.iter().map(|command| Step::shell(*command));
    commands.chain([Step::say("all steps are done")]).collect()
}

fn of_kind<'e>(events: &'e [Event], kind: &'static str) -> Vec<&'e Event> {
    events.iter().filter(|event| event.kind() == kind).collect()
}

fn number(event: &Event, name: &str) -> Option<u64> {
    event.json.get(name).and_then(Value::as_u64)
}

/// Tells whether the agent told of it by itself: by its hook, which comes first, or by an export.
fn is_told(event: &Event) -> bool {
    ["hook", "otlp"].contains(&event.field("learned_from"))
}

/// So many claims at least were exported, whether or not a hook told of the same before.
fn assert_exported(events: &[Event], least: usize) {
    let exported = events.iter().filter(|event| {
        let source = event.json.get("learned_from");
        source.and_then(Value::as_str) == Some("otlp")
    });
    let exported: Vec<&str> = exported.map(Event::kind).collect();
    assert!(exported.len() >= least, "{exported:?}");
}

/// Nothing of the model's traffic is seen, and yet the record has the prompt, the tool calls and their
/// results, the calls of the model, and which command was for which call: inferred, and never more.
fn exports_what_traffic_does_not_show(agent: &Agent, user: Option<&str>) {
    let lab = Lab::new(user);
    let model = ModelServer::start_tls("model.test", script());
    let session = run(&lab, &model, agent, Tls::Spliced, "");
    let events = lab.env.events(&session.id);
    let summary = events::summary(&events);
    assert!(of_kind(&events, "http.decided").is_empty(), "{summary}");
    let prompts = of_kind(&events, "prompt.submitted");
    let [prompt] = prompts.as_slice() else {
        panic!("one prompt, saw {prompts:#?}\n{summary}");
    };
    assert!(is_told(prompt), "{prompt:?}");
    assert!(prompt.json.to_string().contains(PROMPT), "{prompt:?}");
    let calls = of_kind(&events, "tool.called");
    assert_eq!(calls.len(), COMMANDS.len(), "{calls:#?}");
    for (call, result) in calls.iter().zip(model.results()) {
        assert!(is_told(call), "{call:?}");
        assert_eq!(call.field("id"), result.call_id);
        let seq = number(call, "seq");
        let returned = of_kind(&events, "tool.returned");
        let returned = returned.iter().filter(|event| number(event, "call") == seq);
        assert_eq!(returned.count(), 1, "{}", result.call_id);
        let bound = of_kind(&events, "scope.bound");
        let bound: Vec<_> = bound
            .iter()
            .filter(|event| number(event, "call") == seq)
            .collect();
        assert_eq!(bound.len(), 1, "`{}`: {summary}", result.command);
    }
    assert_exported(&events, 1 + COMMANDS.len());
    let models = of_kind(&events, "model.called");
    assert_eq!(models.len(), model.bodies().len(), "{models:#?}");
    for call in models {
        assert_eq!(call.field("learned_from"), "otlp");
        assert!(call.json.to_string().contains(MODEL), "{call:?}");
        let usage = call.json.get("usage").expect("tokens");
        assert_eq!(usage.get("input").and_then(Value::as_u64), Some(100));
    }
    let record = events.iter().map(|event| event.json.to_string());
    let record: String = record.collect();
    assert!(!record.contains("\"exact\""), "{summary}");
    assert!(!record.contains(LAB_KEY));
    assert!(of_kind(&events, "finding.raised").is_empty(), "{summary}");
    assert!(of_kind(&events, "events.lost").is_empty(), "{summary}");
    let shown = lab.env.stockade().args(["show", &session.id]).success();
    shown.assert_stdout(PROMPT).assert_stdout(COMMANDS[0]);
}

#[test]
fn claude_exports_what_traffic_does_not_show() {
    for user in User::all() {
        exports_what_traffic_does_not_show(&CLAUDE, user.as_deref());
    }
}

#[test]
fn codex_exports_what_traffic_does_not_show() {
    for user in User::all() {
        exports_what_traffic_does_not_show(&CODEX, user.as_deref());
    }
}

/// Without the receiver there is nothing of that: the record says why.
#[test]
fn without_the_receiver_nothing_is_known_of_traffic_that_is_not_seen() {
    let lab = Lab::new(None);
    let model = ModelServer::start_tls("model.test", script());
    let session = run(
        &lab,
        &model,
        &CLAUDE,
        Tls::Spliced,
        "[record]\notlp = false\n",
    );
    let events = lab.env.events(&session.id);
    // The hook of the agent tells of prompts and calls, and of no model.
    assert!(of_kind(&events, "model.called").is_empty());
    for event in &events {
        let source = event.json.get("learned_from").and_then(Value::as_str);
        assert_ne!(source, Some("otlp"), "{event:?}");
    }
    let record: String = events.iter().map(|event| event.json.to_string()).collect();
    assert!(record.contains("the agent's telemetry is not recorded: off by"));
}

/// Where traffic is seen it leads, and what the agent exports beside it is noted and not shown twice.
fn stands_behind_traffic(agent: &Agent, user: Option<&str>) {
    let lab = Lab::new(user);
    let model = ModelServer::start_tls("model.test", script());
    let session = run(&lab, &model, agent, Tls::Opened, "");
    let events = lab.env.events(&session.id);
    let summary = events::summary(&events);
    for (kind, count) in [
        ("prompt.submitted", 1),
        ("tool.called", COMMANDS.len()),
        ("tool.returned", COMMANDS.len()),
        ("model.called", model.bodies().len()),
        ("scope.bound", COMMANDS.len()),
    ] {
        let found: Vec<_> = of_kind(&events, kind)
            .into_iter()
            .filter(|event| event.json.get("aside") != Some(&true.into()))
            .collect();
        assert_eq!(found.len(), count, "{kind}: {found:#?}\n{summary}");
    }
    for bound in of_kind(&events, "scope.bound") {
        assert_eq!(bound.field("certainty"), "exact");
    }
    let repeated = of_kind(&events, "claim.repeated");
    assert!(!repeated.is_empty(), "{summary}");
    for event in repeated {
        assert_eq!(event.json.get("agrees"), Some(&true.into()), "{event:?}");
    }
    assert!(of_kind(&events, "finding.raised").is_empty(), "{summary}");
}

#[test]
fn claude_says_nothing_twice() {
    for user in User::all() {
        stands_behind_traffic(&CLAUDE, user.as_deref());
    }
}

#[test]
fn codex_says_nothing_twice() {
    for user in User::all() {
        stands_behind_traffic(&CODEX, user.as_deref());
    }
}
