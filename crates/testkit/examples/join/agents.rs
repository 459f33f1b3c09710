//! The agents of the labelled run: how each is started, and what it needs of its user.

use std::path::PathBuf;

use stockade_testkit::model::MODEL;

/// One agent.
pub(crate) struct Agent {
    pub(crate) name: &'static str,
    /// Who makes what it says of itself, if anybody does: the run does not use it.
    pub(crate) protocol: &'static str,
    /// It has a tool for sub-agents that is offered to a model without a name.
    pub(crate) has_sub_agents: bool,
    /// A file below the home and its text, for a model at a URL.
    pub(crate) config: fn(&str) -> Option<(&'static str, String)>,
    pub(crate) variables: fn(&str) -> Vec<(&'static str, String)>,
    pub(crate) words: &'static [&'static str],
}

impl Agent {
    /// Returns its program, or nothing if it is not installed.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        stockade_testkit::agents::find(self.name)
    }
}

pub(crate) const AGENTS: [Agent; 4] = [
    Agent {
        name: "claude",
        protocol: "Messages",
        has_sub_agents: true,
        config: |_| None,
        variables: |url| {
            vec![
                ("ANTHROPIC_BASE_URL", url.to_owned()),
                ("ANTHROPIC_API_KEY", "opens-nothing".to_owned()),
                ("ANTHROPIC_MODEL", MODEL.to_owned()),
                ("ANTHROPIC_SMALL_FAST_MODEL", MODEL.to_owned()),
            ]
        },
        words: &["-p"],
    },
    Agent {
        name: "codex",
        protocol: "Responses",
        has_sub_agents: true,
        config: |url| {
            let text = format!(
                "model = \"{MODEL}\"\nmodel_provider = \"lab\"\n[model_providers.lab]\n\
                 name = \"Laboratory\"\nbase_url = \"{url}/v1\"\nwire_api = \"responses\"\n"
            );
            Some((".codex/config.toml", text))
        },
        variables: |_| Vec::new(),
        words: &["exec", "--skip-git-repo-check"],
    },
    Agent {
        name: "gemini",
        protocol: "Content",
        has_sub_agents: true,
        config: |_| {
            let text = r#"{"security":{"auth":{"selectedType":"gemini-api-key"}}}"#;
            Some((".gemini/settings.json", text.to_owned()))
        },
        variables: |url| {
            vec![
                ("GEMINI_API_KEY", "opens-nothing".to_owned()),
                ("GOOGLE_GEMINI_BASE_URL", url.to_owned()),
            ]
        },
        words: &["-m", MODEL, "-p"],
    },
    Agent {
        name: "opencode",
        protocol: "Chat Completions",
        has_sub_agents: true,
        config: |url| {
            let text = format!(
                r#"{{"model":"lab/{MODEL}","small_model":"lab/{MODEL}","provider":{{"lab":{{
                "npm":"@ai-sdk/openai-compatible","name":"Laboratory","options":{{
                "baseURL":"{url}/v1","apiKey":"opens-nothing"}},"models":{{"{MODEL}":{{
                "name":"Laboratory"}}}}}}}}}}"#
            );
            Some((".config/opencode/opencode.json", text))
        },
        variables: |_| Vec::new(),
        words: &["run"],
    },
];
