//! Every operation of the API with requests that schemathesis makes of its description: whatever comes, the
//! server does not fail.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use stockade_testkit::{agents, invented};
use stockade_trust::Strength;

use super::{
    inbox,
    lab::{Lab, Person},
};
use crate::now;

const ROLES: [&str; 8] = [
    "admin",
    "policy-approver",
    "incident-lead",
    "developer",
    "content-reader",
    "auditor",
    "analyst",
    "security",
];
/// Requests of each operation and phase.
const EXAMPLES: &str = "12";

/// Calls all operations as a person, and returns what schemathesis reports.
fn call(origin: &str, person: &Person, ids: &Value, folder: &Path) -> (bool, String, Value) {
    let report = folder.join("report.json");
    std::fs::write(folder.join("hooks.py"), include_str!("hooks.py")).unwrap();
    let output = Command::new("/usr/bin/python3")
        .current_dir(folder)
        .env("PYTHONPATH", agents::python())
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("LAB_TOKEN", &person.token)
        .env("LAB_IDS", ids.to_string())
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("{origin}/api/openapi.json"))
        .args(["--tls-verify", "false", "--no-color", "--no-shrink"])
        .args(["--seed", "1", "--generation-database", "none"])
        .args(["--phases", "coverage,fuzzing", "--workers", "2"])
        .args(["--max-examples", EXAMPLES, "--continue-on-failure"])
        .args(["--checks", "not_a_server_error", "--request-timeout", "20"])
        // The stream does not end, and who signs out has nothing left to call.
        .args([
            "--exclude-path",
            "/api/v1/stream",
            "--exclude-path",
            "/logout",
        ])
        .args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .args(["-H", &format!("Cookie: {}", person.cookie)])
        .args(["-H", &format!("Origin: {origin}")])
        .args(["-H", "Sec-Fetch-Site: same-origin"])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let report = std::fs::read_to_string(&report).unwrap_or_default();
    let report = serde_json::from_str(&report).unwrap_or_default();
    (output.status.success(), said, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_the_server_fail() {
    let lab = Lab::start().await;
    let person = lab.person("ann", &ROLES).await;
    let ben = lab.person("ben", &["admin"]).await;
    let machine = lab.machine("laptop", Some(&ben)).await;
    let sessions = invented::week(&machine.dir, 0, now().0 * 1_000_000);
    lab.take(&machine, u64::MAX).await;
    lab.indexed().await;
    let question = inbox::ask(&lab, &ben, Strength::Session).await;
    let text = "schema = 1\n";
    let proposal = lab.server.propose(text, "why", &ben.id, 0).await;
    // What the description calls the parts of a path, with what is there.
    let ids = json!({
        "node": machine.id.to_string(),
        "session": sessions[0],
        "seq": "1",
        "decision": "1",
        "question": question.id,
        "user": ben.id,
        "proposal": proposal.unwrap().unwrap().id,
    });
    let folder = tempfile::tempdir().unwrap();
    let (path, origin) = (folder.path().to_owned(), lab.origin.clone());
    let again = Person {
        id: person.id.clone(),
        cookie: person.cookie.clone(),
        token: person.token.clone(),
    };
    let called = tokio::task::spawn_blocking(move || call(&origin, &again, &ids, &path));
    let (passed, said, report) = called.await.unwrap();
    assert!(passed, "{said}");
    let operations = &report["operations"];
    assert_eq!(operations["tested"], operations["selected"], "{report}");
    assert_eq!(report["test_cases"]["errored"], 0, "{report}");
    assert!(
        report["test_cases"]["generated"].as_u64() > Some(800),
        "{report}"
    );
    // Every page about something was read with something that is there, but rollouts, equal
    // questions and the provider's. Changes
    // are not among these: one takes away what the next one is about.
    let missing = report["warnings"]["missing_test_data"].as_array().unwrap();
    let missing = missing.iter().filter_map(Value::as_str);
    let apart = ["POST ", "rollout", "together", "oidc", "/assets/"];
    let is_apart = |path: &&str| apart.iter().any(|word| path.contains(word));
    let missing: Vec<&str> = missing.filter(|path| !is_apart(path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // The person was signed in to the end, so the requests did reach what is behind the sign-in.
    lab.get(&person, "/api/v1/people").await.is(200);
}
