//! What an agent said, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stockade_types::Certainty;

use super::Summary;
use crate::event::Event;

/// How many tools are listed one by one. An agent has some dozens; whoever sends the bytes can invent any
/// number.
const TOOLS_MAX: usize = 64;

/// Prompts and tool calls: claims, as the agent and its model's service made them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimCounts {
    /// Prompts from which something could come.
    pub prompts: u64,
    /// Tool calls.
    pub calls: u64,
    /// Tool calls by tool.
    pub tools: BTreeMap<String, u64>,
    /// Commands of the agent whose call is known exactly.
    pub exact: u64,
    /// Commands of the agent whose call is inferred.
    pub inferred: u64,
}

impl Summary {
    /// Adds what was said, or what became known by it.
    pub(super) fn claimed(&mut self, event: &Event) {
        let claims = &mut self.claims;
        if let Event::PromptSubmitted { aside: false, .. } = event {
            claims.prompts += 1;
        } else if let Event::ToolCalled { name, .. } = event {
            claims.calls += 1;
            let name = name.display();
            if claims.tools.len() < TOOLS_MAX || claims.tools.contains_key(&name) {
                *claims.tools.entry(name).or_default() += 1;
            }
        } else if let Event::ScopeBound { certainty, .. } = event {
            match certainty {
                Certainty::Exact => claims.exact += 1,
                Certainty::Inferred => claims.inferred += 1,
            }
        }
    }
}
