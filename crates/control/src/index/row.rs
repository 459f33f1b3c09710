//! What the index keeps of one event.

use stockade_event::{Envelope, Event, text::cut};
use stockade_types::{DecisionId, DecisionRecord, RawText, RequestKind, Severity, Target, Verdict};

/// Characters of the text of an event, and of names in it.
const TEXT_CHARS_MAX: usize = 600;
const NAME_CHARS_MAX: usize = 250;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// An event of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: u64,
    /// In milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) kind: &'static str,
    pub(crate) request: Option<&'static str>,
    pub(crate) verdict: Option<&'static str>,
    pub(crate) rule: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) exe: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) decision: Option<u64>,
    pub(crate) text: String,
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) kind: &'static str,
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) detail: String,
}

/// Who talked to whom, with what verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    pub(crate) exe: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) verdict: &'static str,
    pub(crate) rule: String,
}

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) decision: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
}

/// Tells whether an event is in the index: decisions, approvals, connections, changes, findings and what
/// happens to the session as a whole. Of what people and models say, nothing is.
const fn is_kept(event: &Event) -> bool {
    match event {
        Event::SessionStarted { .. }
        | Event::SessionEnded { .. }
        | Event::PolicyLoaded { .. }
        | Event::PolicyTightened { .. }
        | Event::ApprovalReviewed { .. }
        | Event::PolicyDiffered { .. }
        | Event::ExecDecided { .. }
        | Event::ExecUnconfirmed { .. }
        | Event::RefusalRepeated { .. }
        | Event::FileDenied { .. }
        | Event::CallRefused { .. }
        | Event::NameDecided { .. }
        | Event::ConnectionDecided { .. }
        | Event::HttpDecided { .. }
        | Event::ToolDecided { .. }
        | Event::FileChanged { .. }
        | Event::PortPublished { .. }
        | Event::SecretSent { .. }
        | Event::LimitReached { .. }
        | Event::ApprovalRequested { .. }
        | Event::ApprovalDecided { .. }
        | Event::ApprovalUsed { .. }
        | Event::CredentialUsed { .. }
        | Event::CredentialRefused { .. }
        | Event::LoginRenewed { .. }
        | Event::ToolsPinned { .. }
        | Event::EventsLost { .. }
        | Event::TerminalRecorded { .. }
        | Event::OperatorActed { .. }
        | Event::FindingRaised { .. } => true,
        Event::GuaranteeStated { holds, .. } => !*holds,
        Event::ProcessStarted { .. }
        | Event::ProcessEnded { .. }
        | Event::ScopeEnded { .. }
        | Event::PolicyCompared { .. }
        | Event::ResourcesSampled { .. }
        | Event::ConnectionClosed { .. }
        | Event::ModelCalled { .. }
        | Event::PromptSubmitted { .. }
        | Event::ToolCalled { .. }
        | Event::ToolReturned { .. }
        | Event::PlanChanged { .. }
        | Event::AgentStarted { .. }
        | Event::AgentEnded { .. }
        | Event::ClaimRepeated { .. }
        | Event::ScopeBound { .. } => false,
    }
}

impl Row {
    /// Makes the row of an event, if it is kept.
    pub(crate) fn of(envelope: &Envelope) -> Option<Self> {
        let event = &envelope.event;
        if !is_kept(event) {
            return None;
        }
        let decision = event.decision();
        let own = event.own_target();
        let target = decision.map(|decision| &decision.target).or(own.as_ref());
        let subject = decision.map(|decision| &decision.subject);
        let subject = subject
            .or_else(|| event.subject())
            .or(envelope.process.as_ref());
        let path = target.and_then(|target| target.path.as_ref()).map(name);
        Some(Self {
            seq: envelope.seq,
            at: envelope.time_unix_ns / NANOS_PER_MILLI,
            kind: event.kind(),
            request: request(event, decision),
            verdict: verdict(event, decision).map(Verdict::as_str),
            rule: decision.and_then(|decision| Some(decision.rule.as_ref()?.as_str().to_owned())),
            host: target.and_then(host),
            port: target.and_then(|target| target.port),
            exe: subject
                .map(|subject| program(&subject.exe))
                .filter(|exe| !exe.is_empty()),
            path,
            decision: number(event, decision).map(DecisionId::get),
            text: cut(&event.line(), TEXT_CHARS_MAX),
        })
    }

    /// Returns the flow that the event is one of: a connection that was judged, or a refusal on the way to
    /// one.
    pub(crate) fn flow(&self, event: &Event) -> Option<FlowKey> {
        let is_connection = matches!(event, Event::ConnectionDecided { .. });
        let is_refused = matches!(event,
            Event::NameDecided { decision } | Event::HttpDecided { decision }
                if decision.verdict == Verdict::Deny);
        let is_flow = is_connection || is_refused;
        Some(FlowKey {
            exe: self.exe.clone().unwrap_or_default(),
            host: self.host.clone().filter(|_| is_flow)?,
            port: self.port.unwrap_or_default(),
            verdict: self.verdict?,
            rule: self.rule.clone().unwrap_or_default(),
        })
    }
}

fn verdict(event: &Event, decision: Option<&DecisionRecord>) -> Option<Verdict> {
    if let Event::ApprovalDecided { verdict, .. } = event {
        return Some(*verdict);
    }
    if let Event::RefusalRepeated { .. } = event {
        return Some(Verdict::Deny);
    }
    decision.map(|decision| decision.verdict)
}

/// Returns the sort of request that an event is about.
fn request(event: &Event, decision: Option<&DecisionRecord>) -> Option<&'static str> {
    let own = || matches!(event, Event::FileChanged { .. }).then_some(RequestKind::File);
    let kind = decision.map(|decision| decision.kind).or_else(own);
    kind.map(RequestKind::as_str)
}

/// Returns the decision that an event tells first. A question and its later decision have the same number;
/// what only refers to one has none.
fn number(event: &Event, decision: Option<&DecisionRecord>) -> Option<DecisionId> {
    let is_told = !matches!(event, Event::ApprovalRequested { .. });
    decision
        .filter(|_| is_told)
        .map(|decision| decision.decision)
}

fn host(target: &Target) -> Option<String> {
    let host = target.host.as_ref()?;
    Some(cut(&RawText::from(host.as_str()).display(), NAME_CHARS_MAX))
}

fn name(text: &RawText) -> String {
    cut(&text.display(), NAME_CHARS_MAX)
}

/// Returns the name of a program without its directory.
fn program(exe: &RawText) -> String {
    let shown = exe.display();
    cut(shown.rsplit('/').next().unwrap_or_default(), NAME_CHARS_MAX)
}

impl Raised {
    /// Makes a finding of an event that is one.
    pub(crate) fn of(envelope: &Envelope) -> Option<Self> {
        let event = &envelope.event;
        let (severity, title, detail) = if let Event::FindingRaised {
            severity,
            title,
            detail,
            ..
        } = event
        {
            (*severity, title.as_str(), detail.clone())
        } else if matches!(event, Event::SecretSent { .. }) {
            (Severity::Medium, "a secret was sent", event.line())
        } else if matches!(event, Event::ExecUnconfirmed { suspicious, .. } if *suspicious) {
            let title = "a program ran that was not verified";
            (Severity::High, title, event.line())
        } else if matches!(event, Event::EventsLost { .. }) {
            let title = "events could not be recorded";
            (Severity::Medium, title, event.line())
        } else {
            return None;
        };
        let safe = |text: &str| cut(&RawText::from(text).display(), TEXT_CHARS_MAX);
        Some(Self {
            seq: envelope.seq,
            at: envelope.time_unix_ns / NANOS_PER_MILLI,
            kind: event.kind(),
            severity,
            title: safe(title),
            detail: safe(&detail),
        })
    }
}

impl Closed {
    /// Makes the end of a connection of its event.
    pub(crate) const fn of(event: &Event) -> Option<Self> {
        if let Event::ConnectionClosed {
            decision,
            bytes_out,
            bytes_in,
            failed: None,
            ..
        } = event
        {
            return Some(Self {
                decision: decision.get(),
                bytes_out: *bytes_out,
                bytes_in: *bytes_in,
            });
        }
        None
    }
}
