//! Which tool calls a rule matches, and when it lies within another one.

use stockade_types::{ToolEffect, Verdict};

use super::{ToolBody, ToolFeatures, condition::Condition};
use crate::{
    kinds::{Fit, Miss, is_allow, join, list_within},
    pattern::{Glob, glob::Case},
};

impl ToolBody {
    /// Judges a tool call by one of the names.
    pub(crate) fn fit(
        &self,
        effect: Verdict,
        pattern: usize,
        features: &ToolFeatures<'_>,
    ) -> Result<Fit, Miss> {
        let own = self.tools.get(pattern).ok_or(Miss::Tool)?;
        let surely = is_allow(effect);
        let is_tool = if surely {
            features.is_surely(own, self.servers.is_some())
        } else {
            features.could_be(own)
        };
        if !is_tool {
            return Err(Miss::Tool);
        }
        if let Some(servers) = &self.servers {
            let is_of = if surely {
                features.is_surely_of(servers)
            } else {
                features.could_be_of(servers)
            };
            if !is_of {
                return Err(Miss::Server);
            }
        }
        if let Some(effects) = &self.effects {
            let is_for = features.request.effect;
            if !effects.contains(&is_for) && (surely || is_for != ToolEffect::Unknown) {
                return Err(Miss::Effect);
            }
        }
        let holds = |one: &Condition| {
            if surely {
                one.surely_holds(features)
            } else {
                one.could_hold(features)
            }
        };
        if !self.arguments.iter().all(holds) {
            return Err(Miss::Argument);
        }
        Ok(Fit::Now)
    }

    /// Returns whether the rule says anything of the call with this name.
    pub(crate) fn is_explicit(&self, pattern: usize) -> bool {
        let is_any = self.tools.get(pattern).is_none_or(Glob::is_any);
        let all = |servers: &Vec<Glob>| servers.iter().any(Glob::is_any);
        !is_any || self.servers.as_ref().is_some_and(|own| !all(own)) || !self.arguments.is_empty()
    }

    /// Returns each name of a tool that says a server which the rule's `servers` cannot be.
    pub(crate) fn impossible(&self) -> impl Iterator<Item = (&str, String)> {
        let servers = self.servers.iter();
        servers.flat_map(|servers| {
            let shown = join(servers.iter().map(Glob::text));
            let tools = self.tools.iter().filter(|tool| {
                let literal = tool.text().strip_prefix("mcp__");
                let server = literal.and_then(|rest| rest.split_once("__"));
                let server = server.map(|(server, _)| server.as_bytes());
                // A star, or a name with more than one reading, could be any of them.
                server.is_some_and(|server| {
                    let is_fixed =
                        !server.contains(&b'*') && Glob::is_plain(&tool.text().replace('*', ""));
                    let could = servers.iter().any(|own| {
                        own.matches(server, Case::Ignore)
                            || !Glob::is_plain(own.text())
                            || own.text().contains("__")
                    });
                    is_fixed && !could
                })
            });
            tools.map(move |tool| (tool.text(), shown.clone()))
        })
    }

    /// Returns whether everything that one name of this rule matches certainly lies within one of `outer`.
    pub(crate) fn lies_within(&self, pattern: usize, outer: &Self, outer_pattern: usize) -> bool {
        let (Some(x), Some(y)) = (self.tools.get(pattern), outer.tools.get(outer_pattern)) else {
            return false;
        };
        let servers = match (&self.servers, &outer.servers) {
            (_, None) => true,
            // A name that says its server has one.
            (None, Some(outer)) => outer.iter().any(Glob::is_any) && x.begins_with(b"mcp__"),
            (Some(_), Some(outer)) => {
                list_within(self.servers.as_deref(), Some(outer), Glob::covers)
            }
        };
        let effects = list_within(
            self.effects.as_deref(),
            outer.effects.as_deref(),
            PartialEq::eq,
        );
        let arguments = outer
            .arguments
            .iter()
            .all(|outer| self.arguments.iter().any(|own| outer.contains(own)));
        y.covers(x) && servers && effects && arguments
    }
}
