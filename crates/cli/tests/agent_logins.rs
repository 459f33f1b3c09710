//! The real agents with a login in their file: its tokens are in no process inside, also once the agent
//! has got new ones, and those are in the owner's file.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::{Value, json};
use stockade_testkit::{
    ModelServer, Step, agents,
    env::User,
    events,
    http::{Request, Response},
    lab::{Proxy, TlsServer},
    model::MODEL,
};

use crate::{
    agents::Scan,
    list::{self, Lab, Wish, denied},
};

/// A part of every token of the lab that is secret.
const MARKER: &str = "M4rk3rM4rk3r";
/// What the tokens of Codex say: an identity, an access that is over, and one that is not.
const IDENTITY: &str = "eyJhbGciOiJSUzI1NiJ9.eyJlbWFpbCI6ImxhYkBnb29kLnRlc3QiLCJleHAiOjQxMDI0NDQ4MDAsImh0dHBzOi8vYXBpLm9wZW5haS5jb20vYXV0aCI6eyJjaGF0Z3B0X3BsYW5fdHlwZSI6InBybyIsImNoYXRncHRfYWNjb3VudF9pZCI6ImFjY291bnQtb2YtdGhlLWxhYiIsImNoYXRncHRfdXNlcl9pZCI6InVzZXItb2YtdGhlLWxhYiJ9fQ";
const OVER: &str = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjEsImh0dHBzOi8vYXBpLm9wZW5haS5jb20vYXV0aCI6eyJjaGF0Z3B0X3BsYW5fdHlwZSI6InBybyIsImNoYXRncHRfYWNjb3VudF9pZCI6ImFjY291bnQtb2YtdGhlLWxhYiIsImNoYXRncHRfdXNlcl9pZCI6InVzZXItb2YtdGhlLWxhYiJ9fQ";
const VALID: &str = "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjQxMDI0NDQ4MDAsImh0dHBzOi8vYXBpLm9wZW5haS5jb20vYXV0aCI6eyJjaGF0Z3B0X3BsYW5fdHlwZSI6InBybyIsImNoYXRncHRfYWNjb3VudF9pZCI6ImFjY291bnQtb2YtdGhlLWxhYiIsImNoYXRncHRfdXNlcl9pZCI6InVzZXItb2YtdGhlLWxhYiJ9fQ";

/// An agent with a login.
struct Agent {
    name: &'static str,
    words: fn(&Path, &str) -> Vec<String>,
    /// The host of its model, and the one that gives new tokens.
    hosts: [&'static str; 2],
    /// The path by which it gets them.
    path: &'static str,
    file: &'static str,
    login: fn() -> Value,
    /// The fields with the access and the refresh token.
    fields: [&'static str; 2],
    /// Makes a token of a kind.
    token: fn(&str, u32) -> String,
    configure: fn(&Lab) -> PathBuf,
}

fn claude_token(kind: &str, number: u32) -> String {
    let start = if kind == "access_token" {
        "oat01"
    } else {
        "ort01"
    };
    format!("sk-ant-{start}-{number}{}", MARKER.repeat(7))
}

fn codex_token(kind: &str, number: u32) -> String {
    let said = match (kind, number) {
        ("refresh_token", _) => return format!("rt_{number}{}", MARKER.repeat(6)),
        ("id_token", _) => IDENTITY,
        (_, 0) => OVER,
        (_, _) => VALID,
    };
    format!("{said}.{kind}{number}{}", MARKER.repeat(5))
}

const CLAUDE: Agent = Agent {
    name: "claude",
    words: agents::claude_arguments,
    hosts: ["api.anthropic.com", "platform.claude.com"],
    path: "/v1/oauth/token",
    file: ".claude/.credentials.json",
    login: || {
        json!({"claudeAiOauth": {
            "accessToken": claude_token("access_token", 0),
            "refreshToken": claude_token("refresh_token", 0),
            "expiresAt": 1, "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }})
    },
    fields: ["/claudeAiOauth/accessToken", "/claudeAiOauth/refreshToken"],
    token: claude_token,
    configure: |lab| agents::claude_config(&lab.env.home()),
};

const CODEX: Agent = Agent {
    name: "codex",
    words: agents::codex_arguments,
    hosts: ["chatgpt.com", "auth.openai.com"],
    path: "/oauth/token",
    file: ".codex/auth.json",
    login: || {
        json!({
            "auth_mode": "chatgpt", "OPENAI_API_KEY": null,
            "tokens": {
                "id_token": codex_token("id_token", 0),
                "access_token": codex_token("access_token", 0),
                "refresh_token": codex_token("refresh_token", 0),
                "account_id": "account-of-the-lab",
            },
            "last_refresh": "2026-01-01T00:00:00Z",
        })
    },
    fields: ["/tokens/access_token", "/tokens/refresh_token"],
    token: codex_token,
    configure: |lab| {
        let text = format!(
            "model = \"{MODEL}\"\nmodel_provider = \"lab\"\n[model_providers.lab]\nname = \"Laboratory\"\n\
             base_url = \"https://chatgpt.com/backend-api/codex\"\nwire_api = \"responses\"\n\
             requires_openai_auth = true\n"
        );
        lab.env
            .write(lab.env.home().join(".codex/config.toml"), &text)
    },
};

/// Gives new tokens for the present one.
fn service(agent: &'static Agent, given: &Arc<AtomicU32>) -> TlsServer {
    let given = Arc::clone(given);
    TlsServer::with(&[agent.hosts[1]], move |request: &Request| {
        let number = given.load(Ordering::SeqCst);
        let is_known = request
            .text()
            .contains(&(agent.token)("refresh_token", number));
        if request.path() != agent.path || !is_known {
            return Response::json(400, &json!({"error": "invalid_grant"}));
        }
        given.store(number + 1, Ordering::SeqCst);
        let token = |kind: &str| (agent.token)(kind, number + 1);
        Response::json(
            200,
            &json!({
                "access_token": token("access_token"), "refresh_token": token("refresh_token"),
                "id_token": token("id_token"), "token_type": "Bearer", "expires_in": 28800,
                "scope": "user:inference user:profile",
            }),
        )
    })
}

fn works_with_a_login(agent: &'static Agent) {
    for user in User::all() {
        let lab = Lab::new(user.as_deref());
        let given = Arc::new(AtomicU32::new(0));
        let tokens = service(agent, &given);
        let [host, giver] = agent.hosts;
        let own = lab.env.home().join(agent.file);
        let search = format!(
            "cat ~/{}; env; cat /proc/*/environ 2> /dev/null | tr '\\0' '\\n'",
            agent.file
        );
        let again = format!(
            "r=$(grep -oi '\"refresh_\\?token\": *\"[^\"]*' ~/{} | sed 's/.*\"//'); \
             curl -sS -m 20 -d grant_type=refresh_token -d refresh_token=$r https://{giver}{}",
            agent.file, agent.path
        );
        let script = vec![
            Step::shell(search),
            Step::shell(again),
            Step::shell("echo still here"),
            Step::say("all steps are done"),
        ];
        let model = ModelServer::start_tls(host, script);
        let ways = [
            (format!("{host}:443"), model.port()),
            (format!("{giver}:443"), tokens.port()),
        ];
        let ways = ways.each_ref().map(|(to, port)| (to.as_str(), *port));
        let proxy = Proxy::leading(&ways);
        let text = (agent.login)().to_string();
        for path in [lab.env.write(&own, &text), (agent.configure)(&lab)] {
            lab.env.own(&path);
        }
        lab.env.own(own.parent().expect("it is in a directory"));
        let pem = [
            model.certificate_pem().unwrap_or_default(),
            tokens.certificate_pem(),
        ]
        .concat();
        let pem = lab.env.write("upstream.pem", &pem);
        let policy = lab.policy(&format!(
            "[network]\nupstream_ca = [\"{}\"]\nproxy = \"{}\"\n",
            pem.display(),
            proxy.url()
        ));
        let scan = Scan::start(&lab, MARKER);
        let session = list::run(
            &lab,
            Wish {
                words: &(agent.words)(&agents::require(agent.name), "do the steps"),
                policy,
                variables: Vec::new(),
                timeout: agents::AGENT_TIMEOUT,
                answer: denied(),
            },
        );
        let record = lab.env.events(&session.id);
        let done = session.output.assert_success();
        done.assert_stdout("all steps are done");
        scan.assert_outside(&lab, &model);
        model.assert_finished();
        for result in model.results() {
            assert!(!result.output.contains(MARKER), "{result:?}");
        }
        let results = model.results();
        let second = results.get(1).map(|result| result.output.as_str());
        assert!(
            second.is_some_and(|text| text.contains("28800")),
            "{results:?}"
        );
        // The agent got new tokens, and so did what it ran.
        assert_eq!(
            given.load(Ordering::SeqCst),
            2,
            "{}",
            events::summary(&record)
        );
        let now: Value = serde_json::from_str(&fs::read_to_string(&own).expect("it is there"))
            .expect("it is JSON");
        for (field, kind) in agent.fields.iter().zip(["access_token", "refresh_token"]) {
            let expected = json!((agent.token)(kind, 2));
            assert_eq!(now.pointer(field), Some(&expected), "{now}");
        }
        let renewed = record
            .iter()
            .filter(|event| event.kind() == "login.renewed");
        assert_eq!(renewed.count(), 2, "{}", events::summary(&record));
        assert!(!format!("{record:?}").contains(MARKER));
    }
}

#[test]
fn claude_works_with_a_login_that_is_not_inside() {
    works_with_a_login(&CLAUDE);
}

#[test]
fn codex_works_with_a_login_that_is_not_inside() {
    works_with_a_login(&CODEX);
}
