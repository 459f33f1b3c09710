//! What people do with a session: end it, and read what was said in it.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_types::UnixMillis;

use super::{
    super::{
        access::{self, Action, Circumstances},
        call::Call,
        page::{foreign, span_words, token},
        problem::Problem,
        serving::Answer,
    },
    Fleet, find,
};
use crate::{
    random,
    state::{ContentReadRow, SessionRow},
};

/// Characters of a reason, and how many it has at least.
pub(super) const REASON_CHARS_MAX: usize = 300;
pub(super) const REASON_CHARS_MIN: usize = 8;
/// How long what was said can be read for one reason.
const READ_MS: u64 = 15 * 60 * 1_000;

/// Whether the caller may read what people and models said in a session.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "may")]
pub(crate) enum Reading {
    /// It is the caller's own.
    Own,
    /// For a reason that was given, until then.
    Until {
        /// The reason.
        reason: String,
        /// When that ends.
        not_after: UnixMillis,
    },
    /// If the caller gives a reason.
    WithReason,
    /// Not at all.
    No,
}

impl Reading {
    pub(super) const fn is_yes(&self) -> bool {
        match self {
            Self::Own | Self::Until { .. } => true,
            Self::WithReason | Self::No => false,
        }
    }
}

/// Says whether the caller may read what was said.
///
/// # Errors
/// When the state cannot be read.
pub(super) async fn may_read(
    call: &Call,
    fleet: &Fleet,
    row: &SessionRow,
) -> Result<Reading, Problem> {
    if fleet.is_own(&row.key.node) {
        return Ok(Reading::Own);
    }
    let caller = call.caller()?;
    let by = &caller.user;
    let state = &call.web.server.state;
    let node = fleet.node(&row.key.node).ok_or_else(Problem::not_found)?;
    let thing = (state.org(), &access::session(node));
    if !caller.allows(Action::ReadContent, thing, Circumstances::BEST) {
        return Ok(Reading::No);
    }
    let given = state.may_read_content(&row.key, by, call.now).await?;
    Ok(given.map_or(Reading::WithReason, |given| Reading::Until {
        reason: given.reason,
        not_after: given.not_after,
    }))
}

/// Shows what the caller has to do to read what was said, if that is possible.
pub(super) fn reading(call: &Call, reading: &Reading, path: &str) -> Markup {
    html! {
        @match reading {
            Reading::Own => {}
            Reading::No => p.quiet {
                "What people and models said is not shown: that needs a role of its own, and a reason."
            },
            Reading::Until { reason, not_after } => p.quiet {
                "You read what was said, for this reason: " (foreign(reason)) ". This ends "
                (span_words(*not_after, call.now)) "."
            },
            Reading::WithReason => details.card {
                summary { "Read what was said" }
                form.fields method="post" action={ (path) "/content" } {
                    (token(call))
                    div {
                        label for="reason" {
                            "Reason" span.hint { "The person concerned sees it, with your name." }
                        }
                        input #reason name="reason" required minlength=(REASON_CHARS_MIN) maxlength=(REASON_CHARS_MAX);
                    }
                    .buttons { button { "Show it for 15 minutes" } }
                }
            },
        }
    }
}

/// `POST /sessions/{node}/{session}/content`
pub(crate) async fn read_content(call: Arc<Call>) -> Result<Answer, Problem> {
    let (fleet, row, session) = find(&call).await?;
    // Own sessions need no reason.
    if !fleet.is_own(&row.key.node) {
        let reason = call.form.get("reason").trim().to_owned();
        let length = reason.chars().count();
        let has_reason = (REASON_CHARS_MIN..=REASON_CHARS_MAX).contains(&length);
        let node = fleet.node(&row.key.node).ok_or_else(Problem::not_found)?;
        let how = |has_reason| Circumstances {
            has_reason,
            ..Circumstances::default()
        };
        let thing = access::session(node);
        call.permit(Action::ReadContent, &thing, how(true))?;
        if !has_reason {
            return Err(Problem::wrong(
                format!("a reason has {REASON_CHARS_MIN} to {REASON_CHARS_MAX} characters"),
                "say why you have to read what was said",
            ));
        }
        call.permit(Action::ReadContent, &thing, how(has_reason))?;
        let read = ContentReadRow {
            id: random::name("c-")?,
            key: row.key.clone(),
            owner: node.owner.clone(),
            by: call.caller()?.user.clone(),
            reason,
            at: call.now,
            not_after: UnixMillis(call.now.0.saturating_add(READ_MS)),
        };
        call.web.server.state.read_content(&read).await?;
    }
    let path = format!("/sessions/{}/{}", session.node, session.id.as_str());
    Ok(Answer::See(path, None))
}

/// `POST /sessions/{node}/{session}/stop`
pub(crate) async fn stop(call: Arc<Call>) -> Result<Answer, Problem> {
    let (fleet, row, session) = find(&call).await?;
    let node = fleet.node(&row.key.node).ok_or_else(Problem::not_found)?;
    let thing = access::session(node);
    call.permit(Action::StopSession, &thing, Circumstances::default())?;
    if session.closed {
        return Err(Problem::conflict(
            "the session has ended already",
            "load the page again",
        ));
    }
    let by = call.caller()?.user.clone();
    let server = &call.web.server;
    let is_told = server.stop(&row.key.node, &row.key.session, &by).await?;
    let done = if is_told { "stopped" } else { "waits" };
    let path = format!(
        "/sessions/{}/{}?done={done}",
        session.node,
        session.id.as_str()
    );
    Ok(Answer::See(path, None))
}

/// Tells whether the caller may end a session.
pub(super) fn may_stop(call: &Call, fleet: &Fleet, row: &SessionRow) -> bool {
    let node = fleet.node(&row.key.node);
    node.zip(call.caller.as_ref())
        .is_some_and(|(node, caller)| {
            let thing = (call.web.server.state.org(), &access::session(node));
            caller.allows(Action::StopSession, thing, Circumstances::BEST)
        })
}
