//! What an owner has set up himself stays as it is.

use std::fs;

use serde_json::Value;
use stockade_testkit::{Repo, TestEnv, run::require_tool};

/// Returns the plan of a run of `claude`, with options.
fn plan((env, repo): (&TestEnv, &Repo), variables: &[(&str, &str)], options: &[&str]) -> Value {
    let bin = env.home().join("bin");
    fs::create_dir_all(&bin).expect("a directory");
    let program = env.write(bin.join("claude"), "#!/bin/sh\n");
    let made = std::process::Command::new("chmod")
        .arg("755")
        .arg(&program)
        .status();
    assert!(made.expect("chmod runs").success());
    let output = env
        .stockade()
        .envs(variables.iter().copied())
        .current_dir(repo.path())
        .args(["run", "--plan", "--json"])
        .args(options)
        .arg("--")
        .arg(&program)
        .success();
    serde_json::from_str(&output.stdout).expect("a plan is JSON")
}

/// Returns the endpoint that the agent inside is told, and what the record says of its telemetry.
fn told(plan: &Value) -> (Option<String>, String) {
    let text = plan.to_string();
    let variables = plan
        .pointer("/command/environment")
        .and_then(Value::as_array);
    let endpoint = variables.into_iter().flatten().find_map(|pair| {
        let name = pair.get(0).and_then(Value::as_str)?;
        let value = pair.get(1).and_then(Value::as_str)?;
        (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| value.to_owned())
    });
    let at = text.find("the agent's telemetry").expect("it is stated");
    let said = text.get(at..).expect("a place in the text");
    let said = said.split('"').next().unwrap_or_default();
    (endpoint, said.to_owned())
}

const OURS: &str = "http://198.19.255.1:4318";
const OWN: &str = "https://collector.test:4318";

#[test]
fn an_owner_who_exports_elsewhere_keeps_that() {
    let on = || {
        (
            Some(OURS.to_owned()),
            "the agent's telemetry is recorded".to_owned(),
        )
    };
    let env = TestEnv::of(None);
    let repo = env.repo();
    let here = (&env, &repo);
    assert_eq!(told(&plan(here, &[], &[])), on());
    // A variable that is not passed does not reach the agent, as before.
    let own = [("OTEL_EXPORTER_OTLP_ENDPOINT", OWN)];
    assert_eq!(told(&plan(here, &own, &[])), on());
    let (endpoint, said) = told(&plan(here, &own, &["--env", "OTEL_EXPORTER_OTLP_ENDPOINT"]));
    assert_eq!(endpoint.as_deref(), Some(OWN));
    assert!(
        said.ends_with("OTEL_EXPORTER_OTLP_ENDPOINT sets up the agent's own"),
        "{said}"
    );
    let (endpoint, said) = told(&plan(here, &[], &["--offline"]));
    assert_eq!(
        (endpoint, said.ends_with("there is no network")),
        (None, true),
        "{said}"
    );
    let policy = env.write("off.toml", "schema = 1\n[record]\notlp = false\n");
    let policy = policy.display().to_string();
    let (endpoint, said) = told(&plan(here, &[], &["--policy", &policy]));
    assert_eq!((endpoint, said.contains("off by")), (None, true), "{said}");
    // What his configuration says of it counts, and what it says of other things does not.
    let settings = env.home().join(".claude/settings.json");
    fs::create_dir_all(settings.parent().expect("a directory")).expect("a directory");
    env.write(&settings, "{\"env\":{\"EDITOR\":\"vi\"}}");
    assert_eq!(told(&plan(here, &[], &[])), on());
    env.write(
        &settings,
        &format!("{{\"env\":{{\"OTEL_EXPORTER_OTLP_ENDPOINT\":\"{OWN}\"}}}}"),
    );
    let (endpoint, said) = told(&plan(here, &[], &[]));
    assert_eq!(endpoint, None);
    assert!(
        said.contains("settings.json sets up the agent's own"),
        "{said}"
    );
}

/// A collector inside has its usual ports, on all addresses, also while the receiver takes exports.
#[test]
fn a_collector_inside_has_its_ports() {
    require_tool("python3");
    let env = TestEnv::of(None);
    let repo = env.repo();
    env.write(
        repo.path().join("own.py"),
        r#"
import http.server, threading, urllib.request
seen = []
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        seen.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *a): pass
for port in (4317, 4318):
    s = http.server.ThreadingHTTPServer(("0.0.0.0", port), H)
    threading.Thread(target=s.serve_forever, daemon=True).start()
def post(to):
    r = urllib.request.Request(to, b"{}", {"content-type": "application/json"})
    return urllib.request.urlopen(r, timeout=20).status
print(post("http://127.0.0.1:4318/v1/logs"), post("http://localhost:4317/v1/logs"), len(seen))
print(post("http://198.19.255.1:4318/v1/logs"), post("http://198.19.255.1:4317/v1/logs"), len(seen))
"#,
    );
    let output = env.session(repo.path()).line("python3 own.py").success();
    assert_eq!(output.stdout, "200 200 2\n200 200 2\n", "{output:?}");
}
