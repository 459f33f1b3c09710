//! One session after the other: which decision an event tells of, and what the proposed policy says of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stockade_event::{Envelope, Event};
use stockade_policy::{
    AddressClass, Approvals, Control, Decision, FileContent, NetRequest, Policy, Request, classify,
};
use stockade_types::{
    Access, DecisionId, DecisionRecord, Digest, Host, ProcessId, RawText, RequestKind, RuleId,
    SessionId, Subject, Target, Verdict,
};

use crate::{
    Missing, Report,
    facts::{APPROVED, by_facts, is_by, is_unanswered, is_wall},
    rebuild::{self, Rebuilt, Started},
    report::{Groups, Judged},
    shown::{endpoint, line, target_of},
};

/// Decisions of one session whose answers are remembered: each until its own event comes, which is soon.
const ASKED_MAX: usize = 4_096;
/// Executions of one session that wait for the event of their process, which is the next one.
const STARTING_MAX: usize = 64;
/// Hosts of one session whose connections are remembered.
const HOSTS_MAX: usize = 1_024;

/// A replay of any number of sessions.
#[derive(Debug, Default)]
pub struct Replay {
    groups: Groups,
}

impl Replay {
    /// Begins a replay.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a session under the policy that it would have had. `missing` is what is not known of that policy:
    /// no verdict of the session is exact then.
    pub fn session<'r>(&'r mut self, policy: &'r Policy, missing: Option<Missing>) -> Session<'r> {
        self.groups.totals.sessions += 1;
        Session {
            groups: &mut self.groups,
            policy,
            missing,
            workspace: RawText::default(),
            asked: Bounded::default(),
            answered: BTreeSet::new(),
            starting: VecDeque::new(),
            unseen: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Returns what came of it so far.
    pub fn report(&self) -> Report {
        self.groups.report()
    }
}

/// A set that forgets the oldest.
#[derive(Debug, Default)]
struct Bounded {
    all: BTreeSet<DecisionId>,
    order: VecDeque<DecisionId>,
}

impl Bounded {
    fn add(&mut self, id: DecisionId) {
        if self.all.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > ASKED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }

    fn has(&self, id: DecisionId) -> bool {
        self.all.contains(&id)
    }
}

/// Where an event stands.
#[derive(Clone, Debug)]
struct Place {
    session: SessionId,
    seq: u64,
    /// A field of the decision was too long for the record.
    is_cut: bool,
}

impl Place {
    fn of(envelope: &Envelope) -> Self {
        Self {
            session: envelope.session.clone(),
            seq: envelope.seq,
            is_cut: !envelope.truncated.is_empty(),
        }
    }
}

/// A connection on which the proposed policy looks at each request.
#[derive(Debug)]
struct Unseen {
    recorded_rule: Option<RuleId>,
    /// Its host and port.
    target: Target,
    proposed_rule: Option<RuleId>,
    recorded: Verdict,
    place: Place,
    count: u64,
}

/// A session in the course of a replay; [`Self::end`] ends it.
#[derive(Debug)]
pub struct Session<'r> {
    groups: &'r mut Groups,
    policy: &'r Policy,
    missing: Option<Missing>,
    workspace: RawText,
    /// Decisions about which a person was asked.
    asked: Bounded,
    /// Hosts and ports for which a person opened a connection.
    answered: BTreeSet<(String, u16)>,
    /// Executions that were allowed, and whose process comes next.
    starting: VecDeque<(ProcessId, DecisionRecord, Place)>,
    /// Connections whose requests would be judged one by one, by host and port.
    unseen: BTreeMap<(String, u16), Unseen>,
    /// Hosts and ports whose requests are in the record.
    seen: BTreeSet<(String, u16)>,
}

impl Session<'_> {
    /// Takes the next event of the session.
    pub fn take(&mut self, envelope: &Envelope) {
        self.groups.totals.events += 1;
        let place = Place::of(envelope);
        match &envelope.event {
            Event::SessionStarted { workspace, .. } => self.workspace.clone_from(workspace),
            Event::ApprovalRequested { decision, .. } => self.asks(decision, &place),
            Event::ApprovalUsed { decision, .. } => self.asked.add(*decision),
            Event::ExecDecided { decision } => self.execution(decision, place),
            Event::ProcessStarted {
                process,
                digest,
                interpreter,
            } => self.started(process, *digest, interpreter.is_some()),
            Event::ConnectionDecided {
                decision, address, ..
            } => self.connection(decision, address.map(Host::Address).as_ref(), place),
            Event::HttpDecided { decision } => {
                self.requests_are_seen(&decision.target);
                self.judge(decision, None, &place);
            }
            Event::NameDecided { decision }
            | Event::FileDenied { decision }
            | Event::ToolDecided { decision, .. } => self.judge(decision, None, &place),
            Event::FileChanged {
                path,
                access,
                by,
                decision,
            } => match decision {
                Some(decision) => self.judge(decision, None, &place),
                None => self.change((path, *access), by, &place),
            },
            Event::CallRefused { .. } | Event::CredentialRefused { .. } => {
                self.groups.totals.not_judged += 1;
            }
            Event::SessionEnded { .. }
            | Event::GuaranteeStated { .. }
            | Event::PolicyLoaded { .. }
            | Event::PolicyDiffered { .. }
            | Event::PolicyCompared { .. }
            | Event::PolicyTightened { .. }
            | Event::ApprovalReviewed { .. }
            | Event::ProcessEnded { .. }
            | Event::ScopeEnded { .. }
            | Event::ResourcesSampled { .. }
            | Event::ExecUnconfirmed { .. }
            | Event::RefusalRepeated { .. }
            | Event::ConnectionClosed { .. }
            | Event::PortPublished { .. }
            | Event::SecretSent { .. }
            | Event::LimitReached { .. }
            | Event::ApprovalDecided { .. }
            | Event::CredentialUsed { .. }
            | Event::LoginRenewed { .. }
            | Event::EventsLost { .. }
            | Event::TerminalRecorded { .. }
            | Event::OperatorActed { .. }
            | Event::FindingRaised { .. }
            | Event::ModelCalled { .. }
            | Event::PromptSubmitted { .. }
            | Event::ToolCalled { .. }
            | Event::ToolReturned { .. }
            | Event::PlanChanged { .. }
            | Event::AgentStarted { .. }
            | Event::AgentEnded { .. }
            | Event::ClaimRepeated { .. }
            | Event::ToolsPinned { .. }
            | Event::ScopeBound { .. } => {}
        }
    }

    /// Ends the session: what waited for a later event is judged by what is known.
    pub fn end(mut self) {
        while let Some((_, record, place)) = self.starting.pop_front() {
            self.judge(&record, None, &place);
        }
        for (key, unseen) in std::mem::take(&mut self.unseen) {
            let is_seen = self.seen.contains(&key);
            self.put_unseen(&unseen, is_seen);
        }
    }

    /// Takes a question. The decision about most requests comes as an event of its own.
    fn asks(&mut self, record: &DecisionRecord, place: &Place) {
        self.asked.add(record.decision);
        match record.kind {
            RequestKind::Port => self.judge(record, None, place),
            RequestKind::Definition => self.groups.totals.not_judged += 1,
            RequestKind::Exec
            | RequestKind::Net
            | RequestKind::Http
            | RequestKind::Name
            | RequestKind::File
            | RequestKind::Call
            | RequestKind::Credential
            | RequestKind::Tool => {}
        }
    }

    /// Takes an execution; one that was allowed is judged when it is known what started.
    fn execution(&mut self, record: &DecisionRecord, place: Place) {
        let Some(process) = record
            .subject
            .id
            .filter(|_| record.verdict == Verdict::Allow)
        else {
            return self.judge(record, None, &place);
        };
        let same = self.starting.iter().position(|(id, ..)| *id == process);
        let oldest = (self.starting.len() >= STARTING_MAX).then_some(0);
        if let Some((_, record, place)) = same.or(oldest).and_then(|at| self.starting.remove(at)) {
            self.judge(&record, None, &place);
        }
        self.starting.push_back((process, record.clone(), place));
    }

    fn started(&mut self, process: &Subject, digest: Option<Digest>, is_script: bool) {
        let waits = |(id, ..): &(ProcessId, DecisionRecord, Place)| process.id == Some(*id);
        let at = self.starting.iter().position(waits);
        let Some((_, record, place)) = at.and_then(|at| self.starting.remove(at)) else {
            return;
        };
        let started = Started {
            exe: process.exe.clone(),
            digest,
            is_script,
        };
        self.judge(&record, Some(&started), &place);
    }

    /// Takes a change about which no rule said anything.
    fn change(&mut self, (path, access): (&RawText, Access), by: &Subject, place: &Place) {
        let record = Recorded {
            verdict: Verdict::Allow,
            rule: None,
            kind: RequestKind::File,
        };
        let Rebuilt::Request(request, missing) = rebuild::file((path, access), &self.workspace, by)
        else {
            return;
        };
        let decision = self.decide(&request);
        // A directory that was moved is recorded as two changes, and judged as one.
        let moved = match &*request {
            Request::File(file) if matches!(access, Access::Create | Access::Remove) => {
                let mut file = file.clone();
                file.access = Access::Rename;
                self.decide(&Request::File(file)).verdict != decision.verdict
            }
            _ => false,
        };
        let missing = missing.or(moved.then_some(Missing::Place));
        let target = Target {
            path: Some(path.clone()),
            access: Some(access),
            ..Target::default()
        };
        self.put(&record, (&request, &decision), &target, missing, place);
    }

    fn connection(&mut self, record: &DecisionRecord, address: Option<&Host>, place: Place) {
        if self.was_asked(record)
            && let Some(key) = endpoint(&record.target)
            && self.answered.len() < HOSTS_MAX
        {
            self.answered.insert(key);
        }
        let Some((request, missing)) = self.rebuilt(record, None) else {
            return;
        };
        let mut decision = self.decide(&request);
        let recorded = self.recorded(record);
        let mut missing = missing;
        if let (Request::Net(net), Verdict::Allow) = (&*request, decision.verdict) {
            match self.leads(net, &decision, address) {
                Some(denied) => decision = denied,
                None => {
                    missing = missing.or_else(|| self.unresolved(record, net, address));
                }
            }
        }
        let (decision, fact) = by_facts(record, decision);
        let missing = missing.or(fact);
        if decision.verdict == Verdict::Allow && decision.http_only {
            return self.wait_for_requests(record, &decision, recorded.verdict, place);
        }
        self.put(
            &recorded,
            (&request, &decision),
            &record.target,
            missing,
            &place,
        );
    }

    /// Returns the denial of the address to which an allowed name led.
    fn leads(
        &self,
        net: &NetRequest,
        decision: &Decision,
        address: Option<&Host>,
    ) -> Option<Decision> {
        let Some(Host::Address(address)) = address else {
            return None;
        };
        if let Some(denied) = self.policy.denies_address(net, *address) {
            return Some(denied);
        }
        let is_private = classify(*address) == AddressClass::Private && !decision.terms.private;
        is_private
            .then(|| Control::PrivateAddress.denies("the name leads to a private address", ""))
    }

    /// Tells whether a name that was denied could have been denied because of its addresses.
    fn unresolved(
        &self,
        record: &DecisionRecord,
        net: &NetRequest,
        address: Option<&Host>,
    ) -> Option<Missing> {
        let is_name = matches!(net.host, Host::Name(_));
        let unknown = is_name && address.is_none() && record.verdict == Verdict::Deny;
        (unknown && record.rule.is_some() && self.policy.names_denied_addresses())
            .then_some(Missing::Addresses)
    }

    /// Keeps a connection until it is known whether its requests are in the record.
    fn wait_for_requests(
        &mut self,
        record: &DecisionRecord,
        decision: &Decision,
        recorded: Verdict,
        place: Place,
    ) {
        let unseen = Unseen {
            recorded_rule: record.rule.clone(),
            target: Target {
                host: record.target.host.clone(),
                port: record.target.port,
                ..Target::default()
            },
            proposed_rule: decision.rule.clone(),
            recorded,
            place,
            count: 1,
        };
        let Some(key) = endpoint(&record.target) else {
            return self.put_unseen(&unseen, false);
        };
        let has_room = self.unseen.len() < HOSTS_MAX;
        match self.unseen.get_mut(&key) {
            Some(waiting)
                if waiting.recorded == recorded && waiting.recorded_rule == record.rule =>
            {
                waiting.count += 1;
            }
            None if has_room => {
                self.unseen.insert(key, unseen);
            }
            Some(_) | None => {
                let is_seen = self.seen.contains(&key);
                self.put_unseen(&unseen, is_seen);
            }
        }
    }

    fn put_unseen(&mut self, unseen: &Unseen, is_seen: bool) {
        let Unseen {
            recorded_rule,
            target,
            proposed_rule,
            recorded,
            place,
            count,
        } = unseen;
        // What was refused has had no requests.
        let needs_requests = *recorded == Verdict::Allow && !is_seen;
        let missing = needs_requests.then_some(Missing::Requests);
        let cut = place.is_cut.then_some(Missing::Cut);
        self.groups.add(&Judged {
            kind: RequestKind::Net,
            recorded: *recorded,
            proposed: Verdict::Allow,
            recorded_rule: recorded_rule.as_ref(),
            proposed_rule: proposed_rule.as_ref(),
            target: target_of(RequestKind::Net, target),
            line: line(RequestKind::Net, target),
            inexact: self.missing.or(cut).or(missing),
            count: *count,
            session: &place.session,
            seq: place.seq,
        });
    }

    fn requests_are_seen(&mut self, target: &Target) {
        if let Some(key) = endpoint(target).filter(|_| self.seen.len() < HOSTS_MAX) {
            self.seen.insert(key);
        }
    }

    /// Judges a recorded decision again.
    fn judge(&mut self, record: &DecisionRecord, started: Option<&Started>, place: &Place) {
        let Some((mut request, missing)) = self.rebuilt(record, started) else {
            return;
        };
        if let Request::File(file) = &mut *request
            && is_by(record, Control::ProtectedContent)
        {
            // The verdict does not depend on what the content is.
            file.content = Some(FileContent::new([], Vec::new()));
        }
        let decision = self.decide(&request);
        let (decision, fact) = by_facts(record, decision);
        // The strictest of several programs counts, so a deny needs no other one.
        let missing = missing.filter(|missing| {
            *missing != Missing::Interpreter || decision.verdict != Verdict::Deny
        });
        let recorded = self.recorded(record);
        self.put(
            &recorded,
            (&request, &decision),
            &record.target,
            missing.or(fact),
            place,
        );
    }

    /// Makes the request again; `None` if no rule is about it, which is counted.
    fn rebuilt(
        &mut self,
        record: &DecisionRecord,
        started: Option<&Started>,
    ) -> Option<(Box<Request>, Option<Missing>)> {
        if is_wall(record) {
            self.groups.totals.not_judged += 1;
            return None;
        }
        match rebuild::request(record, &self.workspace, started) {
            Rebuilt::Request(request, missing) => Some((request, missing)),
            Rebuilt::NotOfRules | Rebuilt::Lost => {
                self.groups.totals.not_judged += 1;
                None
            }
        }
    }

    fn decide(&self, request: &Request) -> Decision {
        self.policy.decide(request, &Approvals::none())
    }

    /// Returns the recorded verdict as the policy gave it, before people answered.
    fn recorded<'e>(&self, record: &'e DecisionRecord) -> Recorded<'e> {
        // A name is known if a connection to it could be asked about.
        let asked = match record.kind {
            RequestKind::Name if record.answered.is_some() => Verdict::Allow,
            _ if self.was_asked(record) => Verdict::Ask,
            _ => record.verdict,
        };
        Recorded {
            verdict: asked,
            rule: record.rule.as_ref(),
            kind: record.kind,
        }
    }

    fn was_asked(&self, record: &DecisionRecord) -> bool {
        let by_connection = || {
            let key = endpoint(&record.target);
            let is_answer = record.reason.starts_with(APPROVED);
            let is_full = self.answered.len() >= HOSTS_MAX;
            is_answer && key.is_some_and(|key| is_full || self.answered.contains(&key))
        };
        record.verdict == Verdict::Ask
            || record.answered.is_some()
            || self.asked.has(record.decision)
            || is_unanswered(record)
            || (record.kind == RequestKind::Http && by_connection())
    }

    fn put(
        &mut self,
        recorded: &Recorded<'_>,
        (request, decision): (&Request, &Decision),
        target: &Target,
        missing: Option<Missing>,
        place: &Place,
    ) {
        let cut = place.is_cut.then_some(Missing::Cut);
        let fact = || self.policy.unrecorded(request).map(Missing::Fact);
        let inexact = self.missing.or(cut).or(missing).or_else(fact);
        self.groups.add(&Judged {
            kind: recorded.kind,
            recorded: recorded.verdict,
            proposed: decision.verdict,
            recorded_rule: recorded.rule,
            proposed_rule: decision.rule.as_ref(),
            target: target_of(recorded.kind, target),
            line: line(recorded.kind, target),
            inexact,
            count: 1,
            session: &place.session,
            seq: place.seq,
        });
    }
}

/// A recorded verdict, as the policy gave it.
struct Recorded<'e> {
    verdict: Verdict,
    rule: Option<&'e RuleId>,
    kind: RequestKind,
}
