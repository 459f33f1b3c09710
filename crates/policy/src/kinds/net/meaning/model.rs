//! `what = "model"`: services of language models.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::Verdict;

use super::words::{Choice, Globs};
use crate::{
    fields::{Fields, File},
    kinds::{Fit, is_allow},
    request_path::RequestPath,
};

/// The fields of such a rule beside those of a rule about hosts.
pub(crate) const FIELDS: [&str; 3] = ["providers", "models", "hosted_tools"];

/// What a request asks of a model.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Whose protocol it speaks; `None` if its address is not that of a model.
    pub provider: Option<Provider>,
    /// The model; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The answer is to come in pieces; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streaming: Option<bool>,
    /// Tools that the provider runs, by their general names, in order; `None` if they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted_tools: Option<Vec<HostedTool>>,
}

/// A tool that the provider runs, so that nothing of its work is seen here.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostedTool {
    /// `web_search`, `web_fetch`, `code_execution`, `mcp`, `computer`, …, or the provider's own word.
    pub name: String,
    /// The word is one that is known; another could be any tool.
    pub is_known: bool,
}

/// A protocol of models.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The messages of Anthropic.
    Anthropic,
    /// The responses and chat completions of OpenAI, which others offer too.
    OpenAi,
    /// The content of Gemini.
    Gemini,
}

const PROVIDERS: [(&str, Provider); 3] = [
    ("anthropic", Provider::Anthropic),
    ("openai", Provider::OpenAi),
    ("gemini", Provider::Gemini),
];

impl Provider {
    pub(crate) fn as_str(self) -> &'static str {
        let found = PROVIDERS.iter().find(|(_, one)| *one == self);
        found.map_or("", |(word, _)| word)
    }
}

impl Model {
    /// Reads the head of a request; `None` if it certainly calls no model.
    pub(crate) fn of_head(method: &str, path: &RequestPath<'_>) -> Option<Self> {
        let unknown = |provider| Self {
            provider,
            model: None,
            streaming: None,
            hosted_tools: None,
        };
        if matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE") && path.ambiguity().is_none() {
            return None;
        }
        let plain = std::str::from_utf8(path.plain()).ok();
        let Some(plain) = plain.filter(|_| path.ambiguity().is_none() && method == "POST") else {
            return Some(unknown(None));
        };
        if let Some((before, call)) = plain.rsplit_once(':')
            && let Some((_, model)) = before.rsplit_once("/models/")
            && let Some(streaming) = match call {
                "generateContent" => Some(false),
                "streamGenerateContent" => Some(true),
                _ => None,
            }
        {
            return Some(Self {
                model: Some(model.to_owned()),
                streaming: Some(streaming),
                ..unknown(Some(Provider::Gemini))
            });
        }
        let provider = if plain.ends_with("/messages") {
            Some(Provider::Anthropic)
        } else if plain.ends_with("/responses") || plain.ends_with("/chat/completions") {
            Some(Provider::OpenAi)
        } else {
            None
        };
        Some(unknown(provider))
    }

    /// What could be a call of any model, with any tool.
    pub const fn unclear() -> Self {
        Self {
            provider: None,
            model: None,
            streaming: None,
            hosted_tools: None,
        }
    }

    /// Its address is not that of a model, and its whole body names neither a model nor a tool.
    fn is_no_call(&self) -> bool {
        let names_nothing = self.hosted_tools.as_ref().is_some_and(Vec::is_empty);
        self.provider.is_none() && self.model.is_none() && names_nothing
    }

    pub(crate) fn in_words(&self) -> String {
        let call = match (self.provider, &self.model) {
            (None, None) => "perhaps call a model".to_owned(),
            (None, Some(model)) => format!("perhaps call the model {model}"),
            (Some(provider), None) => format!("call a model of {}", provider.as_str()),
            (Some(provider), Some(model)) => format!("call {model} ({})", provider.as_str()),
        };
        let tools = match &self.hosted_tools {
            None => "which tools the provider runs is not known".to_owned(),
            Some(tools) if tools.is_empty() => "no tools of the provider".to_owned(),
            Some(tools) => {
                let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
                format!("the provider runs {}", names.join(", "))
            }
        };
        format!("{call}; {tools}")
    }

    pub(crate) fn bound(&self) -> Option<String> {
        let (provider, model, tools) = (
            self.provider?,
            self.model.as_ref()?,
            self.hosted_tools.as_ref()?,
        );
        Some(serde_json::json!(["model", provider, model, tools]).to_string())
    }
}

/// The conditions of a rule.
#[derive(Clone, Debug)]
pub(crate) struct ModelCondition {
    providers: Choice<Provider>,
    models: Globs,
    hosted_tools: Globs,
}

impl ModelCondition {
    pub(crate) fn read(file: &mut File<'_>, fields: &Fields<'_>) -> Self {
        Self {
            providers: Choice::read(file, fields, "providers", &PROVIDERS),
            models: Globs::read(file, fields, "models", str::to_owned),
            hosted_tools: Globs::read(file, fields, "hosted_tools", str::to_owned),
        }
    }

    pub(crate) fn fit(&self, effect: Verdict, model: &Model) -> Option<Fit> {
        if model.is_no_call() {
            return None;
        }
        let by_provider = match model.provider {
            Some(provider) => self.providers.has(provider),
            None => !is_allow(effect),
        };
        let by_model = self
            .models
            .fit(effect, model.model.as_deref().map(str::as_bytes));
        (by_provider && by_model && self.fit_tools(effect, model)).then_some(Fit::Now)
    }

    /// An allow names what may be used; an ask or a deny what it is about.
    fn fit_tools(&self, effect: Verdict, model: &Model) -> bool {
        if self.hosted_tools.is_any() {
            return true;
        }
        let Some(tools) = &model.hosted_tools else {
            return !is_allow(effect);
        };
        let named = |tool: &HostedTool| {
            let by_name = self.hosted_tools.fit(effect, Some(tool.name.as_bytes()));
            by_name || (!tool.is_known && !is_allow(effect))
        };
        if is_allow(effect) {
            tools.iter().all(named)
        } else {
            tools.iter().any(named)
        }
    }

    pub(crate) fn lies_within(&self, outer: &Self) -> bool {
        // An allow of certain tools is one of calls without tools too, which no other rule names.
        self.providers.lie_within(&outer.providers)
            && self.models.lie_within(&outer.models)
            && outer.hosted_tools.is_any()
    }
}

impl fmt::Display for ModelCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.providers.write(f, "providers", Provider::as_str)?;
        self.models.write(f, "models")?;
        self.hosted_tools.write(f, "tools of the provider")
    }
}
