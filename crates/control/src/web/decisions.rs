//! One decision: why something was allowed or refused, in words.

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_event::{Envelope, Event};
use stockade_policy::{Approvals, Policy, Request, Width};
use stockade_types::{DecisionRecord, RawText, RequestKind, Target, UnixMillis, Verdict};

use super::{
    call::Call,
    page::{Page, foreign, lines, time, verdict},
    problem::Problem,
    serving::View,
    sessions,
};
use crate::{
    policy::{NOTHING, check, check_as},
    state::BundleRow,
};

/// Published policies that are looked through for the one of a session.
const BUNDLES: u32 = 200;
/// Events behind a decision that are looked through for what became of it.
const AFTER: usize = 20_000;
/// Words of a command, and parents, that the page has.
const WORDS_MAX: usize = 200;
const PARENTS_MAX: usize = 20;

/// A decision.
#[derive(Debug, Serialize)]
pub(crate) struct Decision {
    node: String,
    session: String,
    machine: String,
    /// The number of the event, and the kind of it.
    seq: u64,
    kind: &'static str,
    at: UnixMillis,
    decision: DecisionRecord,
    /// What the organisation's policy of that session says about the rule.
    rule: Option<RuleText>,
    /// Who answered, if someone was asked.
    answer: Option<Answer>,
    /// What the policy of the organisation that is in force now would decide.
    now: Option<Now>,
    /// The narrowest rule that would allow it.
    draft: Option<Draft>,
}

/// A rule of a policy.
#[derive(Debug, Serialize)]
struct RuleText {
    id: String,
    /// Where it stands, as `file:line`.
    source: String,
    conditions: String,
    reason: String,
}

/// What a person answered.
#[derive(Debug, Serialize)]
struct Answer {
    approval: String,
    verdict: Verdict,
    scope: Option<String>,
    by: String,
    reason: Option<String>,
}

/// A verdict of the policy in force.
#[derive(Debug, Serialize)]
struct Now {
    serial: u64,
    verdict: Verdict,
    rule: Option<String>,
    reason: String,
}

/// A rule to begin with.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Draft {
    /// TOML.
    pub(super) text: String,
    /// The same in a few words.
    pub(super) words: String,
    /// Why a person should think twice.
    pub(super) risk: Option<String>,
    /// A test of the policy for what was seen.
    pub(super) test: String,
}

/// `GET /decisions/{node}/{session}/{decision}`
pub(crate) async fn show(call: Arc<Call>) -> Result<Decision, Problem> {
    let (fleet, row, session) = sessions::find(&call).await?;
    let number: u64 = call.named("decision")?;
    let server = &call.web.server;
    let found = server.index.decision(&row.key, number).await?;
    let seq = found.ok_or_else(Problem::not_found)?.seq;
    let until = session.events;
    let read = sessions::read(&call, &row.key, move |dir| story(dir, seq, until));
    let (envelope, answer, bundle) = read.await?.ok_or_else(Problem::not_found)?;
    let record = envelope.event.decision().cloned();
    let record = record.ok_or_else(Problem::not_found)?;
    let bundles = server.state.bundles(BUNDLES).await?;
    let current = bundles.first().cloned();
    let then = bundle.and_then(|serial| bundles.into_iter().find(|one| one.serial == serial));
    let (kind, target, id) = (
        record.kind,
        record.target.clone(),
        record.rule.as_ref().map(ToString::to_string),
    );
    let judged = super::blocking(move || {
        let policy = current.as_ref().and_then(policy_of);
        let rule = then.and_then(|then| rule_of(&policy_of(&then)?, id.as_deref()?));
        let now = current.zip(policy.as_ref());
        let now = now.and_then(|(bundle, policy)| judge(policy, bundle.serial, kind, &target));
        let draft = draft(policy.as_ref(), &[(kind, &target)]);
        (rule, now, draft)
    });
    let (rule, now, draft) = judged.await?;
    Ok(Decision {
        machine: fleet.machine(&row.key.node),
        node: row.key.node.to_string(),
        session: row.key.session.as_str().to_owned(),
        seq,
        kind: envelope.event.kind(),
        at: UnixMillis(envelope.time_unix_ns / 1_000_000),
        rule,
        answer,
        now,
        draft: draft.filter(|_| record.verdict != Verdict::Allow),
        decision: record,
    })
}

type Story = (Envelope, Option<Answer>, Option<u64>);

/// Reads the event of a decision, who answered, and the serial of the organisation's policy at that time.
fn story(dir: &std::path::Path, seq: u64, until: u64) -> Option<Story> {
    let events = stockade_journal::read(dir).ok()?.flatten();
    let (mut told, mut serial, mut asked, mut answer) = (None::<Envelope>, None, None, None);
    let mut left = AFTER;
    for envelope in events.take_while(|one| one.seq <= until) {
        if let Event::PolicyLoaded { bundle, .. } = &envelope.event
            && envelope.seq <= seq
        {
            serial = bundle.as_ref().map(|bundle| bundle.serial);
        }
        if envelope.seq == seq {
            told = Some(envelope);
            continue;
        }
        let Some(decision) = told.as_ref().and_then(|told| told.event.decision()) else {
            continue;
        };
        if let Event::ApprovalRequested {
            approval,
            decision: own,
            ..
        } = &envelope.event
            && own.decision == decision.decision
        {
            asked = Some(approval.clone());
        } else if let Event::ApprovalDecided {
            approval,
            verdict,
            scope,
            by,
            reason,
            // Who wants to check it looks at the event.
            statement: _,
        } = &envelope.event
            && asked.as_ref() == Some(approval)
        {
            answer = Some(Answer {
                approval: approval.to_string(),
                verdict: *verdict,
                scope: scope.clone(),
                by: by.to_string(),
                reason: reason.clone(),
            });
            break;
        }
        left -= 1;
        if left == 0 || (decision.verdict != Verdict::Ask && asked.is_none() && left < AFTER - 100)
        {
            break;
        }
    }
    Some((told?, answer, serial))
}

/// Loads a policy of the organisation as it is checked when it is published.
pub(super) fn policy_of(bundle: &BundleRow) -> Option<Policy> {
    let name = format!("policy.toml (serial {})", bundle.serial);
    check_as(&name, &bundle.text).ok()
}

fn rule_of(policy: &Policy, id: &str) -> Option<RuleText> {
    let rules = policy.rules();
    let rule = rules.into_iter().find(|rule| rule.id.as_str() == id)?;
    Some(RuleText {
        id: rule.id.to_string(),
        source: rule.source,
        conditions: rule.conditions,
        reason: rule.reason,
    })
}

fn judge(policy: &Policy, serial: u64, kind: RequestKind, target: &Target) -> Option<Now> {
    let request = Request::of_target(kind, target)?;
    let decision = policy.decide(&request, &Approvals::none());
    Some(Now {
        serial,
        verdict: decision.verdict,
        rule: decision.rule.as_ref().map(ToString::to_string),
        reason: decision.reason,
    })
}

/// Writes the narrowest rule that would allow what was seen; `None` if the policy allows it, or no allow
/// lifts what denies it.
pub(super) fn draft(policy: Option<&Policy>, targets: &[(RequestKind, &Target)]) -> Option<Draft> {
    let loaded;
    let policy = if let Some(policy) = policy {
        policy
    } else {
        loaded = check(NOTHING).ok()?;
        &loaded
    };
    let proposed = policy.propose(targets, Width::Ids).into_iter().next()?;
    let rule = proposed.rule;
    let (kind, target) = targets.first()?;
    Some(Draft {
        text: rule.to_toml("drafted", "seen in a session; say why"),
        test: test_of(*kind, target),
        words: rule.words,
        risk: rule.risk,
    })
}

/// Writes a test of a policy for a target, as far as a test can name it.
fn test_of(kind: RequestKind, target: &Target) -> String {
    let host = target.host.as_deref().unwrap_or_default();
    let quoted = serde_json::Value::from(format!("net {host}:{}", target.port.unwrap_or(443)));
    match kind {
        RequestKind::Net | RequestKind::Http | RequestKind::Name => {
            format!("[tests.drafted]\nallow = [{quoted}]\n")
        }
        RequestKind::Exec
        | RequestKind::File
        | RequestKind::Call
        | RequestKind::Port
        | RequestKind::Credential
        | RequestKind::Tool
        | RequestKind::Definition => String::new(),
    }
}

impl View for Decision {
    fn page(&self, call: &Call) -> Page {
        let record = &self.decision;
        let path = format!("/sessions/{}/{}", self.node, self.session);
        let body = html! {
            p.verdict-line {
                (verdict(record.verdict.as_str())) ": " (foreign(&record.effect()))
            }
            dl.facts {
                dt { "Why" } dd { (foreign(&record.reason)) @if record.reason.is_empty() { "–" } }
                dt { "Rule" } dd {
                    @match &record.rule {
                        Some(rule) => code { (foreign(rule.as_str())) },
                        None => "No rule matched, and what no rule allows is denied.",
                    }
                }
                @if let Some(failed) = &record.failed_condition { dt { "Failed condition" } dd { (foreign(failed)) } }
                @if let Some(nearest) = &record.nearest_allow { dt { "Nearest allow" } dd { (foreign(nearest)) } }
                @if !record.remedy.is_empty() { dt { "Next step" } dd { (foreign(&record.remedy)) } }
                dt { "Program" } dd { (subject(record)) }
                dt { "When" } dd { (time(self.at, call.now)) " on " (foreign(&self.machine)) }
                dt { "Policy" } dd { code { (record.policy_revision.short()) } }
            }
            p {
                a href={ (path) "?at=" (self.seq) "#e" (self.seq) } { "In the timeline" } " · "
                a href={ (path) "/events/" (self.seq) } { "The event, with all fields" }
            }
            (self.rule_text())
            (self.answered())
            (self.today())
            @if let Some(draft) = &self.draft { (show_draft(draft)) }
        };
        let title = format!("Decision {}", record.decision);
        Page::new(title, body).lead("Why this was allowed or refused.")
    }
}

impl Decision {
    fn rule_text(&self) -> Markup {
        html! {
            @if let Some(rule) = &self.rule {
                h2 { "The rule" }
                dl.facts {
                    dt { "Where" } dd { code { (foreign(&rule.source)) } }
                    dt { "Conditions" } dd { (foreign(&rule.conditions)) }
                    dt { "Reason" } dd { (foreign(&rule.reason)) }
                }
            }
        }
    }

    fn answered(&self) -> Markup {
        html! {
            @if let Some(answer) = &self.answer {
                h2 { "The answer" }
                p {
                    (verdict(answer.verdict.as_str())) " by " (foreign(&answer.by))
                    @if let Some(scope) = &answer.scope { ", " (foreign(scope)) }
                    @if let Some(reason) = &answer.reason { ": " (foreign(reason)) }
                    span.hint { (foreign(&answer.approval)) }
                }
            }
        }
    }

    fn today(&self) -> Markup {
        html! {
            @if let Some(now) = &self.now {
                h2 { "With the policy in force now" }
                p {
                    (verdict(now.verdict.as_str())) " with serial " (now.serial)
                    @if let Some(rule) = &now.rule { ", by " code { (foreign(rule)) } }
                    @if !now.reason.is_empty() { ": " (foreign(&now.reason)) }
                }
                p.quiet { "This is what the policy of the organisation says to the target alone; machines may add rules of their own." }
            }
        }
    }
}

fn subject(record: &DecisionRecord) -> Markup {
    let subject = &record.subject;
    let command: Vec<String> = (subject.argv.iter().take(WORDS_MAX))
        .map(RawText::display)
        .collect();
    html! {
        (foreign(&subject.exe.display()))
        @if !command.is_empty() { span.hint { code { (foreign(&command.join(" "))) } } }
        @for parent in subject.ancestry.iter().take(PARENTS_MAX) {
            span.hint { "started by " code { (foreign(&stockade_event::text::cut(&parent.display(), 300))) } }
        }
    }
}

/// Shows a draft of a rule.
pub(super) fn show_draft(draft: &Draft) -> Markup {
    html! {
        section #draft aria-labelledby="draft-title" {
            h2 #draft-title { "Draft of a rule" }
            p { "The narrowest rule that would allow this: " (foreign(&draft.words)) "." }
            @if let Some(risk) = &draft.risk { p.bad { "Think twice: " (foreign(risk)) "." } }
            pre tabindex="0" aria-label="Draft of a rule" {
                (lines(&draft.text)) @if !draft.test.is_empty() { "\n" (lines(&draft.test)) }
            }
            p.quiet { "Copy it into a proposal, with an id and a reason of your own." }
        }
    }
}
