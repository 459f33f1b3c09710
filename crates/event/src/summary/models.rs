//! Calls of models, in numbers.

use serde::{Deserialize, Serialize};
use stockade_types::RawText;

use super::Summary;
use crate::{event::Event, model::HostedToolSeen};

/// How many models, and how many tools of providers, are listed one by one. A session has a few; whoever
/// sends the bytes can invent any number.
const MODELS_MAX: usize = 64;

/// The calls of one model. The numbers are those that its service has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCalls {
    /// Calls.
    pub calls: u64,
    /// Those of them whose answer was an error.
    pub failed: u64,
    /// Tokens that were read, those from a cache too.
    pub tokens_in: u64,
    /// Those of them that came from a cache.
    pub tokens_cached: u64,
    /// Tokens that were made.
    pub tokens_out: u64,
}

/// A tool that providers run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedUse {
    /// Calls that let the provider run it.
    pub declared: u64,
    /// How often it ran, as the provider says.
    pub used: u64,
}

impl ModelCalls {
    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failed = self.failed.saturating_add(other.failed);
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_cached = self.tokens_cached.saturating_add(other.tokens_cached);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
    }
}

impl Summary {
    /// Adds a call of a model.
    pub(super) fn called(&mut self, event: &Event) {
        let Event::ModelCalled {
            provider,
            model,
            model_asked,
            usage,
            error,
            hosted_declared,
            hosted_used,
            ..
        } = event
        else {
            return;
        };
        let one = ModelCalls {
            calls: 1,
            failed: u64::from(error.is_some()),
            tokens_in: usage.input.unwrap_or(0),
            tokens_cached: usage.cached.unwrap_or(0),
            tokens_out: usage.output.unwrap_or(0),
        };
        let name = model
            .as_ref()
            .or(model_asked.as_ref())
            .map(RawText::display);
        let name = name.unwrap_or_else(|| format!("a model of {provider}"));
        if self.models.len() < MODELS_MAX || self.models.contains_key(&name) {
            self.models.entry(name).or_default().add(one);
        } else {
            self.models_more.add(one);
        }
        for tool in hosted_declared {
            self.hosted(tool, |known| {
                known.declared = known.declared.saturating_add(1);
            });
        }
        for tool in hosted_used {
            self.hosted(tool, |known| {
                known.used = known.used.saturating_add(tool.count);
            });
        }
    }

    /// Adds to a tool of a provider, if there is room for it.
    fn hosted(&mut self, tool: &HostedToolSeen, add: impl FnOnce(&mut HostedUse)) {
        let name = tool.name.display();
        if self.hosted_tools.len() < MODELS_MAX || self.hosted_tools.contains_key(&name) {
            add(self.hosted_tools.entry(name).or_default());
        }
    }
}
