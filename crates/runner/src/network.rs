//! The supervisor's side of the network: records, questions, and the owners of sockets.

mod comparing;

use std::{
    collections::HashMap,
    iter,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
};

use stockade_egress::wire::{
    Answer, Decided, FromSupervisor, Protocol, Renewed, Replies, Requests, ToSupervisor, WireError,
    Word,
};
use stockade_event::{Durability, Event, spool::Lease};
use stockade_journal::SinkError;
use stockade_policy::{Approvals, Decision, Policy, RecordSync, Request};
use stockade_sys::net::{self, HeldConnections};
use stockade_types::{ApprovalId, DecisionId, Digest, Verdict, ignored};

use self::comparing::compare_aside;
use crate::{credentials::HeldLogins, holding, pins::Comparing, ssh::agent::Proofs};
use stockade_approval::{Asker, CoveredBy, Desk, Outcome};
use stockade_supervise::{EGRESS, Owners, Processes, Recorder, Wanted, lock};

/// Requests that are served together. The egress process has about as many in progress.
const QUEUE_MAX: usize = 128;

/// Programs that wait for an answer at a time, each with a thread here: more than any installation
/// opens connections while its first one is asked about. Any more are denied at once.
const ASKS_MAX: usize = 256;
/// Answers whose final decision is still to come; beyond this, decisions get numbers of their own.
const SETTLED_MAX: usize = 4096;

/// State shared by the threads that answer the egress process.
pub(crate) struct NetworkSupervision {
    pub(crate) policy: Arc<Policy>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) processes: Arc<Processes>,
    /// Connections that wait for a decision, if the kernel holds them.
    pub(crate) holding: Option<Arc<HeldConnections>>,
    pub(crate) abort: Arc<dyn Fn(&str) + Send + Sync>,
    /// Where proofs of hosts of ssh go, if the session has keys.
    pub(crate) proofs: Option<Arc<Proofs>>,
    /// The open asks, and the results of the others.
    pub(crate) asks: Mutex<Asks>,
    /// Logins whose tokens stay outside.
    pub(crate) logins: Arc<HeldLogins>,
    /// Compares the tools of servers with what is known of them.
    pub(crate) comparing: Arc<Comparing>,
}

/// The asks of the egress process.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    /// Asks whose program waits, by the number of the request.
    waiting: HashMap<u64, Waiting>,
    /// Numbers of questions whose final decision comes back from the egress process, by the request
    /// and the approval that was used for it.
    settled: HashMap<(Digest, Option<ApprovalId>), Vec<DecisionId>>,
}

/// One ask whose program waits.
#[derive(Debug)]
struct Waiting {
    request: Digest,
    number: DecisionId,
    wanted: Arc<AtomicBool>,
}

impl Asks {
    /// Records an ask; `None` if too many wait.
    fn begin(&mut self, id: u64, waiting: Waiting) -> Option<()> {
        if self.waiting.len() >= ASKS_MAX {
            return None;
        }
        self.waiting.insert(id, waiting);
        Some(())
    }

    /// Records that nobody waits for an answer any more, and that no decision rests on it.
    fn leave(&mut self, id: u64) {
        if let Some(waiting) = self.waiting.get(&id) {
            waiting.wanted.store(false, Ordering::Release);
        }
    }

    /// Records that an ask is over; its decision is about to arrive.
    fn end(&mut self, id: u64, used: Option<ApprovalId>) {
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        waiting.wanted.store(false, Ordering::Release);
        if self.settled.len() >= SETTLED_MAX {
            self.settled.clear();
        }
        let numbers = self.settled.entry((waiting.request, used)).or_default();
        numbers.push(waiting.number);
    }

    /// Takes the number of the question that a final decision answers.
    fn number(&mut self, decided: &Decided) -> Option<DecisionId> {
        let request = decided.request.digest();
        let used = decided.approvals.iter().cloned().map(Some);
        let mut keys = used.chain([None]).map(|approval| (request, approval));
        let key = keys.find(|key| self.settled.contains_key(key))?;
        let numbers = self.settled.get_mut(&key)?;
        let number = numbers.pop();
        if numbers.is_empty() {
            self.settled.remove(&key);
        }
        number
    }
}

/// Safe methods, whose requests normally send no content (RFC 9110 section 9.2.1).
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// How safe the record of a decision must be before a program learns it: a decision by which an
/// answer lets data out is on the disk first, and so is every one that lets data out if policy
/// wants that.
fn durability(decided: &Decided, sync: RecordSync) -> Durability {
    let lets_out = decided.decision.verdict == Verdict::Allow
        && match &decided.request {
            Request::Net(_) => true,
            Request::Http(http) => !SAFE_METHODS.contains(&http.method.as_str()),
            Request::Exec(_)
            | Request::Name(_)
            | Request::File(_)
            | Request::Port(_)
            | Request::Tool(_)
            | Request::Definition(_) => false,
        };
    match (lets_out, sync) {
        (true, RecordSync::Each) => Durability::Synced,
        (true, RecordSync::Second) if !decided.approvals.is_empty() => Durability::Synced,
        (true, RecordSync::Second) | (false, _) => Durability::Written,
    }
}

/// Answers the egress process until its connection closes.
pub(crate) fn serve(
    shared: &Arc<NetworkSupervision>,
    requests: Requests,
    replies: &Arc<Replies>,
    mut owners: Owners,
) {
    let (sender, queue) = mpsc::sync_channel(QUEUE_MAX);
    thread::scope(|scope| {
        let spawned = thread::Builder::new()
            .name("requests".to_owned())
            .spawn_scoped(scope, move || take_in(shared, requests, &sender));
        if let Err(error) = spawned {
            return (shared.abort)(&format!("the requests cannot be read: {error}"));
        }
        while let Ok(first) = queue.recv() {
            let arrived = iter::once(first).chain(queue.try_iter()).take(QUEUE_MAX);
            let (wanted, others): (Vec<_>, Vec<_>) =
                arrived.partition(|request| matches!(request, ToSupervisor::Attribute { .. }));
            // Serve owners first: once a program knows a decision, it can close its socket.
            let wanted: Vec<Wanted> = wanted.iter().filter_map(wanted_of).collect();
            for (id, subject) in owners.find(&wanted) {
                if let Some(process) = subject.id {
                    shared.recorder.origins().note(process);
                }
                shared.reply(replies, &FromSupervisor::Subject { id, subject });
            }
            for request in others {
                answer(shared, request, replies);
            }
        }
    });
}

/// Reads requests ahead, so that those that arrived together can be served together.
fn take_in(shared: &NetworkSupervision, mut requests: Requests, queue: &SyncSender<ToSupervisor>) {
    loop {
        match requests.next() {
            Ok(Some(request)) => {
                if queue.send(request).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                return (shared.abort)(&format!(
                    "the egress process cannot be understood: {error}"
                ));
            }
        }
    }
}

fn wanted_of(request: &ToSupervisor) -> Option<Wanted> {
    let ToSupervisor::Attribute {
        id,
        protocol,
        source,
        destination,
    } = *request
    else {
        return None;
    };
    Some(Wanted {
        id,
        protocol: match protocol {
            Protocol::Tcp => net::Protocol::Tcp,
            Protocol::Udp => net::Protocol::Udp,
        },
        source,
        destination,
    })
}

fn answer(shared: &Arc<NetworkSupervision>, request: ToSupervisor, replies: &Arc<Replies>) {
    match request {
        // These were served before the others.
        ToSupervisor::Attribute { .. } => {}
        ToSupervisor::Decided { id, lease, decided } => {
            let reply = shared.decided(id, lease, &decided);
            shared.reply(replies, &reply);
        }
        ToSupervisor::Record {
            id,
            event,
            durability,
        } => {
            let written = shared.recorder.write_from(EGRESS, &event, durability);
            shared.recorded(id, written, replies);
        }
        ToSupervisor::Claimed { id, event, intent } => {
            let written = shared.recorder.write_claim(EGRESS, event, intent);
            shared.recorded(id, written, replies);
        }
        ToSupervisor::Ask {
            id,
            request,
            decision,
        } => ask_aside(shared, id, (request, decision), replies),
        ToSupervisor::Compare { id, defined } => compare_aside(shared, id, defined, replies),
        ToSupervisor::Covered { id, request } => {
            let covered = shared.is_covered(&request);
            shared.reply(replies, &FromSupervisor::Covered { id, covered });
        }
        ToSupervisor::Proved { id, proof } => {
            if let Some(proofs) = &shared.proofs {
                proofs.add(*proof);
            }
            shared.reply(replies, &FromSupervisor::Noted { id });
        }
        ToSupervisor::Tokens { id, login } => {
            let tokens = shared.logins.tokens(&login);
            shared.reply(replies, &FromSupervisor::Tokens { id, tokens });
        }
        ToSupervisor::Renewed { id, renewed } => {
            let reply = shared.renewed(id, renewed);
            shared.reply(replies, &reply);
        }
        ToSupervisor::Release { id, word } => shared.release(id, word),
        // The decision that nothing happens comes next.
        ToSupervisor::Withdraw { id } => lock(&shared.asks).leave(id),
    }
}

/// Asks on a thread of its own, which waits for the answer.
fn ask_aside(
    shared: &Arc<NetworkSupervision>,
    id: u64,
    (request, decision): (Request, Decision),
    replies: &Arc<Replies>,
) {
    let reply = |answer| FromSupervisor::Answer { id, answer };
    let wanted = Arc::new(AtomicBool::new(true));
    let waiting = Waiting {
        request: request.digest(),
        number: shared.recorder.new_decision(),
        wanted: Arc::clone(&wanted),
    };
    let number = waiting.number;
    if lock(&shared.asks).begin(id, waiting).is_none() {
        let reason = format!("{ASKS_MAX} connections wait for an answer already");
        return shared.reply(replies, &reply(refused(reason)));
    }
    let (shared_there, replies_there) = (Arc::clone(shared), Arc::clone(replies));
    let spawned = thread::Builder::new()
        .name("ask".to_owned())
        .spawn(move || {
            let (answer, used) = shared_there.ask(&request, &decision, number, &wanted);
            lock(&shared_there.asks).end(id, used);
            let answer = FromSupervisor::Answer { id, answer };
            shared_there.reply(&replies_there, &answer);
        });
    if spawned.is_err() {
        lock(&shared.asks).end(id, None);
        let reason = "no thread to ask on".to_owned();
        shared.reply(replies, &reply(refused(reason)));
    }
}

/// A refusal that is nobody's answer.
const fn refused(reason: String) -> Answer {
    Answer::Refused { reason, by: None }
}

impl NetworkSupervision {
    /// Records that somebody waits for definitions to be compared; `None` if too many wait.
    pub(crate) fn waits(&self, id: u64, number: DecisionId) -> Option<Arc<AtomicBool>> {
        let wanted = Arc::new(AtomicBool::new(true));
        let waiting = Waiting {
            request: Digest::of(&[]),
            number,
            wanted: Arc::clone(&wanted),
        };
        lock(&self.asks).begin(id, waiting)?;
        Some(wanted)
    }

    /// Records that definitions were compared.
    pub(crate) fn waits_no_more(&self, id: u64) {
        lock(&self.asks).waiting.remove(&id);
    }

    /// Sends a reply; if the egress process is gone, no connection is left to protect.
    #[expect(clippy::unused_self, reason = "reads as what the supervisor does")]
    pub(crate) fn reply(&self, replies: &Replies, reply: &FromSupervisor) {
        if let (Err(error @ WireError::TooLong(_)), Some(id)) = (replies.send(reply), reply.id()) {
            let reason = error.to_string();
            ignored(
                replies.send(&FromSupervisor::Failed { id, reason }),
                "the egress process is gone, which ends the session",
            );
        }
    }

    /// Lets a held connection proceed, or reports the refusal to its program.
    fn release(&self, id: u64, word: Word) {
        let (Some(holding), Ok(packet)) = (&self.holding, u32::try_from(id)) else {
            return;
        };
        ignored(
            holding.answer(packet, holding::word(word)),
            "the program may have given up, or the session's network may be gone",
        );
    }

    fn recorded(&self, id: u64, written: Result<u64, SinkError>, replies: &Replies) {
        let reply = match written {
            Ok(seq) => FromSupervisor::Recorded { id, seq },
            Err(error) => self.failed(id, &error),
        };
        self.reply(replies, &reply);
    }

    fn failed(&self, id: u64, error: &SinkError) -> FromSupervisor {
        (self.abort)(&format!("the journal cannot be written: {error}"));
        FromSupervisor::Failed {
            id,
            reason: error.to_string(),
        }
    }

    /// Keeps new tokens of a login, and has that journaled.
    fn renewed(&self, id: u64, renewed: Renewed) -> FromSupervisor {
        let written = self.logins.renewed(&renewed);
        let event = Event::LoginRenewed {
            login: renewed.login,
            decision: renewed.decision,
            written: written.is_ok(),
            reason: written.err(),
        };
        match self.recorder.write_from(EGRESS, &event, Durability::Synced) {
            Ok(seq) => FromSupervisor::Recorded { id, seq },
            Err(error) => self.failed(id, &error),
        }
    }

    fn decided(&self, id: u64, lease: u64, decided: &Decided) -> FromSupervisor {
        let asked = lock(&self.asks).number(decided);
        let number = asked.unwrap_or_else(|| self.recorder.new_decision());
        let record = self
            .recorder
            .record(number, &decided.request, &decided.decision);
        let event = decided.event(record.clone());
        let sync = self.policy.settings().record.sync.value;
        let durability = durability(decided, sync);
        let written = self.recorder.write_from(EGRESS, &event, durability);
        match written.and_then(|_| self.lease(lease)) {
            Ok(lease) => FromSupervisor::Decided {
                id,
                record: Box::new(record),
                lease,
            },
            Err(error) => self.failed(id, &error),
        }
    }

    /// Lets the egress process record decisions by itself, where policy does not want each on the disk
    /// first.
    fn lease(&self, count: u64) -> Result<Option<Lease>, SinkError> {
        match self.policy.settings().record.sync.value {
            RecordSync::Second if count > 0 => self.recorder.lease(count),
            RecordSync::Second | RecordSync::Each => Ok(None),
        }
    }

    /// Returns the cover of a connection that would be asked about. A cover answers only questions
    /// of presets; a question of a file is always asked. An answer to a push, which shows repository and
    /// branches, answers for its own requests whatever asks, except for the organisation.
    fn covered(&self, request: &Request, decision: &Decision) -> Option<CoveredBy> {
        if let Request::Http(http) = request {
            let by = self.processes.cover_of_request(http)?;
            return (!self.policy.asks_for_organisation(decision)).then_some(by);
        }
        let by = self.processes.cover_of_connection(request)?;
        self.policy.asks_by_default(decision).then_some(by)
    }

    /// Tells whether [`Self::covered`] would open a connection.
    fn is_covered(&self, request: &Request) -> bool {
        let decision = self.policy.decide(request, &Approvals::none());
        decision.verdict == Verdict::Ask && self.covered(request, &decision).is_some()
    }

    /// Returns the answer, and the approval that was used for it.
    fn ask(
        &self,
        request: &Request,
        decision: &Decision,
        number: DecisionId,
        wanted: &AtomicBool,
    ) -> (Answer, Option<ApprovalId>) {
        // Do not trust another process's verdict: evaluate the policy again here.
        let own = self.policy.decide(request, &Approvals::none());
        if own.verdict != Verdict::Ask || decision.verdict != Verdict::Ask {
            return (refused(own.reason), None);
        }
        let decide = |approvals: &Approvals| self.policy.decide(request, approvals);
        let outcome = self.desk.ask(&Asker {
            request,
            decision: &own,
            decision_id: number,
            revision: self.recorder.revision(),
            intent: self.recorder.says(request.subject()),
            decide: &decide,
            wanted: &|| wanted.load(Ordering::Acquire),
            covered: self.covered(request, &own),
            lasting: self.policy.lasting(request, &own),
        });
        match outcome {
            Outcome::Granted { approvals, id } => (Answer::Granted { approvals }, Some(id)),
            Outcome::Refused { by, reason, .. } => {
                let refused = stockade_supervise::refused(&own, &by, &reason);
                let answer = Answer::Refused {
                    reason: refused.reason,
                    by: Some(by),
                };
                (answer, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_egress::wire::Decided;
    use stockade_event::Durability;
    use stockade_policy::{Control, HttpRequest, NetRequest, RecordSync, Request};
    use stockade_types::{ApprovalId, Port, RawText, Subject, Verdict};

    use super::durability;

    fn decided(method: Option<&str>, verdict: Verdict, approved: bool) -> Decided {
        let (host, port) = ("good.test".parse().unwrap(), Port::new(80).unwrap());
        let subject = Subject::default();
        let request = match method {
            Some(method) => Request::Http(HttpRequest {
                host,
                port,
                method: method.to_owned(),
                path: RawText::from("/"),
                meaning: Vec::new(),
                shown: None,
                subject,
            }),
            None => Request::Net(NetRequest {
                host,
                port,
                subject,
            }),
        };
        let mut decision = Control::NotHttp.denies("test", "none");
        decision.verdict = verdict;
        Decided {
            request,
            decision,
            shown: None,
            address: None,
            sni: None,
            detail: None,
            approvals: approved
                .then(|| ApprovalId::from_random(1))
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn what_lets_data_out_by_an_answer_is_on_the_disk_first() {
        use Durability::{Synced, Written};
        for (method, verdict, approved, second, each) in [
            (None, Verdict::Allow, false, Written, Synced),
            (None, Verdict::Allow, true, Synced, Synced),
            (None, Verdict::Deny, false, Written, Written),
            (Some("GET"), Verdict::Allow, false, Written, Written),
            (Some("POST"), Verdict::Allow, false, Written, Synced),
            (Some("POST"), Verdict::Allow, true, Synced, Synced),
            (Some("POST"), Verdict::Deny, true, Written, Written),
        ] {
            let one = decided(method, verdict, approved);
            assert_eq!(durability(&one, RecordSync::Second), second, "{one:?}");
            assert_eq!(durability(&one, RecordSync::Each), each, "{one:?}");
        }
    }
}
