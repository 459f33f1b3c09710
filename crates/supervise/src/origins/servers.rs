//! Calls as servers of tools get them, and whom who passes them on speaks for.
//!
//! A server knows neither the model's id of a call nor the agent's name of its tool. So a call that was
//! passed on is found among the open ones by the tool and what it is called with, and is never exact.

use std::collections::VecDeque;

use stockade_event::Said;
use stockade_types::{ClaimSource, RawText};

use super::open::Open;

/// Calls whose result the server still owes; clients have some dozens.
const PASSED_MAX: usize = 512;
/// What stands in front of the tools of servers, and between a server and its tool.
const MCP: &[u8] = b"mcp__";
const BETWEEN: &[u8] = b"__";
/// What agents write in front of a tool of a server.
const MARKS: [u8; 4] = [b'_', b'-', b'.', b'/'];

/// A call as a claim tells of it.
#[derive(Clone, Copy)]
pub(super) struct Called<'c> {
    pub(super) id: &'c RawText,
    pub(super) name: &'c RawText,
    pub(super) arguments: Option<&'c Said>,
}

/// Calls that a server got and that are in the record by another source, by the id that they have there.
#[derive(Default)]
pub(super) struct Passed(VecDeque<(RawText, u64)>);

impl Passed {
    fn note(&mut self, id: &RawText, call: u64) {
        if self.0.len() >= PASSED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id.clone(), call));
    }

    /// Returns the call whose result a server has given, and forgets it.
    pub(super) fn returned(&mut self, id: &RawText) -> Option<u64> {
        let at = self.0.iter().position(|(own, _)| own == id)?;
        self.0.remove(at).map(|(_, call)| call)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Finds the open call that a server gets as `called`, and remembers it.
    pub(super) fn passes(
        &mut self,
        open: &mut VecDeque<Open>,
        called: Called<'_>,
    ) -> Option<usize> {
        let mut at = None;
        for (index, one) in open.iter().enumerate() {
            let is_other = one.source != ClaimSource::Mcp && !one.is_passed;
            if !is_other || !is_same_tool(one.name.as_bytes(), called.name.as_bytes()) {
                continue;
            }
            if one.id == *called.id {
                at = Some(index);
                break;
            }
            if at.is_none() && is_same(one.arguments.as_ref(), called.arguments) {
                at = Some(index);
            }
        }
        let found = open.get_mut(at?)?;
        found.is_passed = true;
        self.note(called.id, found.number);
        at
    }

    /// Finds the open call that only a server was seen to get so far, which another source tells of now.
    pub(super) fn is_told(
        &mut self,
        open: &mut VecDeque<Open>,
        called: Called<'_>,
    ) -> Option<usize> {
        let at = open.iter().position(|one| {
            one.source == ClaimSource::Mcp
                && !one.is_passed
                && is_same_tool(called.name.as_bytes(), one.name.as_bytes())
                && is_same(one.arguments.as_ref(), called.arguments)
        })?;
        let found = open.get_mut(at)?;
        found.is_passed = true;
        self.note(&found.id, found.number);
        if !called.id.as_bytes().is_empty() {
            found.id = called.id.clone();
        }
        Some(at)
    }
}

/// Tells whether two calls have the same arguments, as far as both say some.
fn is_same(one: Option<&Said>, other: Option<&Said>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => (one.bytes, one.digest) == (other.bytes, other.digest),
        (None, _) | (_, None) => true,
    }
}

/// Tells whether an agent's name of a tool is for that of a server, which is written `mcp__SERVER__TOOL`.
fn is_same_tool(own: &[u8], name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(MCP).filter(|_| own != name) else {
        return own == name;
    };
    let mut pairs = rest.windows(BETWEEN.len()).enumerate();
    pairs.any(|(at, pair)| {
        let tool = rest.get(at + BETWEEN.len()..).unwrap_or_default();
        let before = own.strip_suffix(tool).unwrap_or(b"?");
        pair == BETWEEN && !tool.is_empty() && before.last().is_none_or(|mark| MARKS.contains(mark))
    })
}

#[cfg(test)]
mod tests {
    use super::is_same_tool;

    #[test]
    fn each_agents_name_of_a_tool_is_known_again() {
        for own in [
            "mcp__notes__add",
            "mcp_notes_add",
            "notes_add",
            "notes-add",
            "mcp__other__add",
            "add",
        ] {
            assert!(is_same_tool(own.as_bytes(), b"mcp__notes__add"), "{own}");
        }
        for own in ["padd", "Bash", "mcp__notes__", "mcp__notes__list", ""] {
            assert!(!is_same_tool(own.as_bytes(), b"mcp__notes__add"), "{own}");
        }
    }
}
