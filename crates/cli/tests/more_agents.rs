//! More real agents in the boundary, with only the model configured: they work without a question,
//! get the text about the boundary, and continue a conversation in a later session.
#![expect(clippy::expect_used, reason = "a broken fixture must end the test")]

use crate::list::{self, Lab, Wish, denied};
use stockade_testkit::{ModelServer, Step, agents, approvals::Asked, env::User, model::MODEL};

/// One agent: what it needs of its user, and how a person starts it.
struct Agent {
    name: &'static str,
    /// A file below the home and its text, for a model at a URL.
    config: fn(&str) -> Option<(&'static str, String)>,
    variables: fn(&str) -> Vec<(&'static str, String)>,
    words: fn(&str) -> Vec<String>,
    /// Words that continue the last conversation.
    again: fn(&str) -> Vec<String>,
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

const OPENCODE: Agent = Agent {
    name: "opencode",
    config: |url| {
        let text = format!(
            r#"{{"model":"lab/{MODEL}","small_model":"lab/{MODEL}","provider":{{"lab":{{
            "npm":"@ai-sdk/anthropic","name":"Laboratory","options":{{"baseURL":"{url}/v1",
            "apiKey":"opens-nothing"}},"models":{{"{MODEL}":{{"name":"Laboratory"}}}}}}}}}}"#
        );
        Some((".config/opencode/opencode.json", text))
    },
    variables: |_| Vec::new(),
    words: |prompt| words(&["run", prompt]),
    again: |prompt| words(&["run", "--continue", prompt]),
};

const QWEN: Agent = Agent {
    name: "qwen",
    config: |_| None,
    variables: |url| {
        vec![
            ("ANTHROPIC_API_KEY", "opens-nothing".to_owned()),
            ("ANTHROPIC_BASE_URL", url.to_owned()),
            ("ANTHROPIC_MODEL", MODEL.to_owned()),
        ]
    },
    words: |prompt| words(&["--auth-type", "anthropic", "-p", prompt]),
    again: |prompt| words(&["--auth-type", "anthropic", "--continue", "-p", prompt]),
};

const COPILOT: Agent = Agent {
    name: "copilot",
    config: |_| None,
    variables: |url| {
        vec![
            ("COPILOT_PROVIDER_BASE_URL", url.to_owned()),
            ("COPILOT_PROVIDER_TYPE", "anthropic".to_owned()),
            ("COPILOT_PROVIDER_API_KEY", "opens-nothing".to_owned()),
            ("COPILOT_MODEL", MODEL.to_owned()),
        ]
    },
    words: |prompt| words(&["-p", prompt]),
    again: |prompt| words(&["--continue", "-p", prompt]),
};

const CODEX: Agent = Agent {
    name: "codex",
    config: |url| {
        let text = format!(
            "model = \"{MODEL}\"\nmodel_provider = \"lab\"\n[model_providers.lab]\nname = \"Laboratory\"\n\
             base_url = \"{url}/v1\"\nwire_api = \"responses\"\n"
        );
        Some((".codex/config.toml", text))
    },
    variables: |_| Vec::new(),
    words: |prompt| words(&["exec", "--skip-git-repo-check", prompt]),
    again: |prompt| words(&["exec", "--skip-git-repo-check", "resume", "--last", prompt]),
};

const CLAUDE: Agent = Agent {
    name: "claude",
    config: |_| None,
    variables: |url| {
        vec![
            ("ANTHROPIC_BASE_URL", url.to_owned()),
            ("ANTHROPIC_API_KEY", "opens-nothing".to_owned()),
            ("ANTHROPIC_MODEL", MODEL.to_owned()),
            ("ANTHROPIC_SMALL_FAST_MODEL", MODEL.to_owned()),
        ]
    },
    words: |prompt| words(&["-p", prompt]),
    again: |prompt| words(&["--continue", "-p", prompt]),
};

/// Returns the host that the installed package manager uses by default: opencode gets its own
/// plugin from there, which causes a question if no policy allows that host.
fn registry() -> String {
    let npm = std::process::Command::new("npm")
        .args(["config", "get", "registry"])
        .args(["--userconfig", "/dev/null", "--globalconfig", "/dev/null"])
        .env_remove("npm_config_registry")
        .env_remove("NPM_CONFIG_REGISTRY")
        .current_dir("/")
        .output()
        .expect("npm is there wherever the agents are");
    let url = String::from_utf8_lossy(&npm.stdout);
    let host = url.trim().split('/').nth(2).unwrap_or_default();
    host.to_owned()
}

fn is_at_home(agent: &Agent) {
    for user in User::all() {
        let lab = Lab::new(user.as_deref());
        let model = ModelServer::start(Vec::new());
        let url = model.url_as("model.test");
        if let Some((path, text)) = (agent.config)(&url) {
            lab.env.write(lab.env.home().join(path), &text);
        }
        let policy = lab.policy(&format!(
            "[[allow]]\nid = \"lab-model\"\nwhat = \"net\"\nhosts = [\"model.test\"]\nports = [{}]\nprivate = true\n",
            model.port()
        ));
        let program = agents::require(agent.name);
        let registry = registry();
        let variables: Vec<(String, String)> = (agent.variables)(&url)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let session = |rest: Vec<String>| {
            let program = program.to_str().expect("the path of an agent is text");
            let words = [vec![program.to_owned()], rest].concat();
            let wish = Wish {
                words: &words,
                policy: policy.clone(),
                variables: variables.clone(),
                timeout: agents::AGENT_TIMEOUT,
                answer: denied(),
            };
            let session = list::run(&lab, wish);
            let own = |asked: &&Asked| !asked.mentions(&registry);
            let others: Vec<&Asked> = session.asked.iter().filter(own).collect();
            assert!(others.is_empty(), "{others:#?}");
            session
        };
        model.play(vec![
            Step::shell("cat ~/.secret-of-nobody; echo by the agent > made.txt && echo it is made"),
            Step::say("all steps are done"),
        ]);
        let first = session((agent.words)("make the file of the first day"));
        first.output.assert_success();
        model.assert_finished();
        let results = model.results();
        let is_made = results
            .iter()
            .any(|result| result.output.contains("it is made"));
        assert!(is_made, "{results:#?}");
        let made = std::fs::read_to_string(lab.repo.path().join("made.txt"));
        assert_eq!(made.unwrap_or_default(), "by the agent\n");
        // Whatever the agent, and without TLS too.
        let shown = lab.env.stockade().args(["show", &first.id]).success();
        shown.assert_stdout(&format!("model  {MODEL} 100 in (30 cached) 10 out"));
        let bodies = |model: &ModelServer| {
            let bodies = model.bodies();
            bodies.iter().map(ToString::to_string).collect::<String>()
        };
        let told = "/run/stockade/boundary.md";
        assert!(bodies(&model).contains(told), "{}", bodies(&model));
        model.play(vec![Step::say("it was made")]);
        let second = session((agent.again)("what was made"));
        second.output.assert_success();
        assert!(
            bodies(&model).contains("the first day"),
            "{second:?}",
            second = second.output
        );
    }
}

#[test]
fn opencode_is_at_home() {
    is_at_home(&OPENCODE);
}

#[test]
fn qwen_is_at_home() {
    is_at_home(&QWEN);
}

#[test]
fn copilot_is_at_home() {
    is_at_home(&COPILOT);
}

#[test]
fn codex_is_at_home() {
    is_at_home(&CODEX);
}

#[test]
fn claude_is_at_home() {
    is_at_home(&CLAUDE);
}

/// A model server of the machine, as people run them: the agent's configuration has its address,
/// the start names the option, and with it the real agent works.
#[test]
fn a_local_model_is_offered() {
    for user in User::all() {
        let lab = Lab::new(user.as_deref());
        let model = ModelServer::start(Vec::new());
        if let Some((path, text)) = (CODEX.config)(&model.url()) {
            lab.env.write(lab.env.home().join(path), &text);
        }
        let program = agents::require(CODEX.name);
        let service = format!("localhost:{}", model.port());
        let run = |options: &[&str], seconds| {
            let run = lab.env.session(lab.repo.path()).args(options).arg("--");
            let run = run.arg(&program).args((CODEX.words)("say it"));
            run.timeout(std::time::Duration::from_secs(seconds)).spawn()
        };
        model.play(vec![Step::say("it is said")]);
        let control = run(&[], 60);
        let named = format!("--service {service}");
        let is_named = || control.stderr().contains(&named);
        assert!(stockade_testkit::wait::until_true(
            std::time::Duration::from_secs(30),
            is_named
        ));
        // Without it the agent tries for as long as it may.
        control.signal(rustix::process::Signal::TERM);
        assert!(!control.wait().stdout.contains("it is said"));
        assert!(!model.is_finished());
        let offered = run(&["--service", &service], 120).wait();
        offered.assert_success().assert_stdout("it is said");
        assert!(!offered.stderr.contains(&named), "{offered:?}");
        model.assert_finished();
    }
}
