//! The whole way: the real Claude Code pushes, three people answer with passkeys in browsers of their own, and
//! server and agent are killed again and again meanwhile.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use stockade_testkit::{ModelServer, Step, agents, browser::Browser, lab::Forge, run::Running};

use super::{
    Joined, PATIENCE, authority_of, until,
    votes::{Person, asked},
};

const BRANCH: &str = "agent/fix-1";

impl Joined {
    /// Opens the browser of a person, who comes with a link and makes a passkey.
    fn browser(&self, link: &str) -> Browser {
        let mut browser = Browser::start_for(&self.origin, Some(&authority_of(&self.data)));
        browser.add_authenticator();
        browser.size(1440, 900);
        browser.go(&format!("{}/setup?token={link}", self.origin));
        browser.follow("document.querySelector('[data-passkey=create]').click()");
        browser
    }

    /// A session of Claude Code that pushes, on the machine.
    fn pushes(&self, model: &ModelServer, forge: &Forge) -> Running {
        let (model_port, forge_port) = (model.port(), forge.server.port());
        let policy = format!(
            r#"schema = 1

[stages.owner]
who = "role:code-owner"
strength = "passkey"

[stages.security]
who = "role:security"
need = 2
strength = "passkey"

[[ask]]
id = "reviewed-push"
what = "exec"
command = ["git", "push", "**"]
stages = ["owner", "security"]
reason = "pushes leave the machine"

[[allow]]
id = "lab"
what = "net"
hosts = ["model.test", "forge.test"]
ports = [{model_port}, {forge_port}]
private = true
reason = "the model and the code host of the laboratory"

[environment]
pass = ["LAB_KEY"]

[network.hosts]
"model.test" = "127.0.0.1"
"forge.test" = "127.0.0.1"
"#
        );
        let policy = self.env.write("policy.toml", &policy).display().to_string();
        let options = ["--ask", "server", "--policy", policy.as_str(), "--"];
        let run = self.env.session_with(self.repo.path(), &options);
        let run = run.envs(agents::claude_variables(&model.url_as("model.test")));
        let program = agents::require("claude");
        let run = run.args(agents::claude_arguments(&program, "push the branch"));
        run.timeout(PATIENCE * 5).spawn()
    }

    /// Kills both, and starts both again.
    fn kills_both(&mut self) {
        self.kill_agent();
        self.kill_server();
        self.start_server();
        self.start_agent();
    }
}

/// Has a person say yes in the browser, with the passkey, and returns what the page says then.
fn says_yes(browser: &mut Browser, joined: &Joined, question: &str) -> String {
    let lee = joined.person("lee");
    until("the server answers", || lee.curl(&["/healthz"]).is_ok());
    browser.go(&format!("{}/inbox/{question}", joined.origin));
    let yes = "document.querySelector('[data-choice=allow]')";
    let shown = browser.eval("document.querySelector('main').textContent");
    assert_ne!(browser.eval(yes), Value::Null, "{shown}");
    browser.follow(&format!("{yes}.click()"));
    let said = browser.eval("document.querySelector('main').textContent");
    said.as_str().unwrap_or_default().to_owned()
}

/// Returns how the passkeys of the one statement in a journal were used: the people and their stages.
fn signed(journal: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(journal);
    let kind = "application/vnd.stockade.grant.1+json";
    let mut lines = text.lines().filter(|line| line.contains(kind));
    let line = lines.next().expect("a statement");
    assert!(lines.next().is_none(), "it is written down once");
    let event: Value = serde_json::from_str(line).expect("JSON");
    let mut open = vec![&event];
    let mut payload = None;
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                if members.get("payloadType") == Some(&json!(kind)) {
                    payload = members.get("payload").and_then(Value::as_str);
                }
                open.extend(members.values());
            }
            Value::Array(members) => open.extend(members),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let payload = STANDARD
        .decode(payload.expect("a payload"))
        .expect("base64");
    let grant: Value = serde_json::from_slice(&payload).expect("JSON");
    let votes = grant["votes"].as_array().expect("votes");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    votes
        .iter()
        .map(|vote| {
            assert!(vote["proof"].to_string().contains("signature"), "{vote}");
            (text(&vote["user"]), text(&vote["stage"]))
        })
        .collect()
}

#[test]
fn three_people_with_passkeys_let_claude_push_though_server_and_agent_are_killed() {
    let mut joined = Joined::new();
    Person::new(&joined, "lee", &joined.link);
    joined.enrol_for(&["--owner", "lee"]);
    joined.start_agent();
    let forge = Forge::start(&joined.env, &joined.repo);
    let url = format!("http://forge.test:{}/shop.git", forge.server.port());
    for line in [
        vec!["remote", "set-url", "origin", &url],
        vec!["checkout", "-q", "-b", BRANCH],
        vec!["commit", "-q", "--allow-empty", "-m", "two"],
    ] {
        joined.repo.git(&joined.env, &line).assert_success();
    }
    let [ann, ben, cara] = [
        ("ann", "code-owner"),
        ("ben", "security"),
        ("cara", "security"),
    ]
    .map(|(name, role)| joined.person("lee").invitation(name, role));
    let [mut ann, mut ben, mut cara] = [ann, ben, cara].map(|link| joined.browser(&link));
    let model = ModelServer::start(vec![
        Step::shell(format!("git push -q origin {BRANCH} && echo pushed")),
        Step::say("all steps are done"),
    ]);
    let session = joined.pushes(&model, &forge);
    let question = asked(&joined.person("lee"));

    assert!(says_yes(&mut ann, &joined, &question).contains("Your answer counts"));
    joined.kill_server();
    joined.start_server();
    assert!(says_yes(&mut ben, &joined, &question).contains("Your answer counts"));
    joined.kills_both();
    assert_eq!(
        forge.commit(&joined.env, "shop.git", BRANCH),
        None,
        "one of security is not enough"
    );
    says_yes(&mut cara, &joined, &question);
    // The answer may be on its way, or not be carried yet.
    joined.kills_both();

    let output = session.wait();
    output.assert_success().assert_stdout("all steps are done");
    model.assert_finished();
    assert!(
        model
            .results()
            .iter()
            .any(|result| result.output.contains("pushed"))
    );
    let pushed = forge.commit(&joined.env, "shop.git", BRANCH);
    assert_eq!(pushed, Some(joined.repo.commit(&joined.env, "HEAD")));
    for browser in [&ann, &ben, &cara] {
        // Pages that are open when a server is killed say that their stream broke; that is as it should be.
        let broke = |said: &&String| !said.contains("net::ERR_");
        let complaints: Vec<&String> = browser.complaints.iter().filter(broke).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }

    let id = joined.env.session_id();
    until("the server has the record", || joined.is_held(&id));
    assert!(joined.verified(&id).contains("intact"));
    let votes = signed(&joined.journals(&id).0);
    let stages: Vec<&str> = votes.iter().map(|(_, stage)| stage.as_str()).collect();
    assert_eq!(stages, ["owner", "security", "security"]);
    let people: std::collections::BTreeSet<&String> = votes.iter().map(|(user, _)| user).collect();
    assert_eq!(people.len(), 3, "{votes:?}");
}
