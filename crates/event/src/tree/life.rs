//! The session's own life: what it is, what of its boundary does not hold, and how it ended.

use std::collections::HashSet;

use stockade_types::{RawText, RuleId};

use super::words::{agent, not_held};
use crate::{
    event::Event,
    text::{cut, safe, words},
};

/// What is known of a session as a whole while its events are read.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Where it works.
    pub workspace: RawText,
    /// What the agent is called.
    pub agent: String,
    policies: u64,
    /// Rules whose refusals are counted in the summary alone.
    quiet_rules: HashSet<RuleId>,
}

/// Which moment of its life an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It began.
    Started,
    /// Something about its boundary.
    Noted,
    /// It ended.
    Ended,
}

impl Life {
    /// Takes an event of the session's own life; returns what a person reads of it. Of the command line it
    /// has `command_chars` characters.
    pub fn take(&mut self, event: &Event, command_chars: usize) -> Option<(Moment, String)> {
        if let Event::SessionStarted {
            command,
            workspace,
            tier,
            preset,
            ..
        } = event
        {
            self.workspace.clone_from(workspace);
            self.agent = agent(preset);
            let profile = if preset.is_empty() { "generic" } else { preset };
            let text = format!(
                "{} in {workspace} ({}, profile {})",
                cut(&words(command), command_chars),
                tier.as_str(),
                safe(profile)
            );
            return Some((Moment::Started, text));
        }
        if let Event::SessionEnded { outcome, .. } = event {
            return Some((Moment::Ended, outcome.text("the command")));
        }
        if let Event::GuaranteeStated {
            guarantee,
            holds: false,
            missing,
            waiver,
            ..
        } = event
        {
            let text = not_held(guarantee, waiver.as_deref().or(missing.as_deref()));
            return Some((Moment::Noted, text));
        }
        if let Event::PolicyLoaded {
            revision, quiet, ..
        } = event
        {
            self.policies += 1;
            self.quiet_rules = quiet.iter().flatten().cloned().collect();
            let text = format!("policy replaced by {}", revision.short());
            return (self.policies > 1).then_some((Moment::Noted, text));
        }
        None
    }

    /// Tells whether refusals by a rule are only counted.
    pub fn is_quiet(&self, rule: Option<&RuleId>) -> bool {
        rule.is_some_and(|rule| self.quiet_rules.contains(rule))
    }
}
