//! From a request to a verdict: the policy, and the people behind an ask.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use stockade_policy::{
    Approvals, AsRequest, Control, Decision, LooksFor, Meaning, NameRequest, NetRequest, Permitted,
    Policy, Problems, RecordContent, Request, Source, ToolRequest,
};
use stockade_types::{
    ApprovalId, AskMode, Circumstance, DecisionRecord, Host, HostName, Port, RawText, Subject,
    Verdict,
};
use tokio::time::sleep;

use crate::{
    limits::WAITER_BEAT,
    stream::Stream,
    wire::{Client, Closing, Decided, No, Protocol, Unanswered},
};

/// Ports at which a name can belong to a command.
const WEB_PORTS: [u16; 2] = [443, 80];

/// Why a question of a session without people is refused.
const NOBODY: &str = "nobody could be asked";

/// A request that was judged; nothing is recorded yet.
#[derive(Debug)]
pub(crate) enum Judgement<T> {
    /// It may happen once it is recorded.
    Permitted(Box<Allowed<T>>),
    /// It must not happen.
    Denied(Box<Decision>),
}

/// A request that may happen once it is recorded.
#[derive(Debug)]
pub(crate) struct Allowed<T> {
    /// The proof, with what it is for.
    pub(crate) permitted: Permitted<T>,
    /// The decision with verdict allow.
    pub(crate) decision: Decision,
    /// The approvals it rests on; empty where the policy allows by itself.
    pub(crate) approvals: Approvals,
}

impl<T> Allowed<T> {
    /// Returns the ids of the approvals.
    pub(crate) fn approval_ids(&self) -> Vec<ApprovalId> {
        self.approvals.ids().cloned().collect()
    }
}

/// Judges requests.
#[derive(Debug)]
pub(crate) struct Judge {
    policy: Policy,
    supervisor: Arc<Client>,
    ask: AskMode,
}

/// Whose program waits while somebody is asked.
#[derive(Clone, Copy)]
pub(crate) enum Waiter<'a> {
    /// A connection.
    Connection {
        /// The program's end.
        client: &'a Stream,
        /// Where it wanted to go.
        destination: SocketAddr,
    },
    /// One of several requests of a connection.
    Request(&'a dyn Withdrawn),
}

/// A request that its program can take back without closing its connection.
pub(crate) trait Withdrawn: Sync {
    /// Waits until it is taken back.
    fn poll_withdrawn(&self, context: &mut Context<'_>) -> Poll<()>;
}

impl Judge {
    pub(crate) const fn new(policy: Policy, supervisor: Arc<Client>, ask: AskMode) -> Self {
        Self {
            policy,
            supervisor,
            ask,
        }
    }

    /// Says what the record keeps of what is said.
    pub(crate) fn record_content(&self) -> RecordContent {
        self.policy.record_content()
    }

    /// Tells whether a rule asks about tool calls or denies them.
    pub(crate) fn restricts_tools(&self) -> bool {
        self.policy.restricts_tools()
    }

    /// Decides about a tool call, and has that recorded; the error says to the model why it is denied.
    pub(crate) async fn tool(&self, request: &ToolRequest) -> Result<(), String> {
        let request = Request::Tool(request.clone());
        let first = self.look(&request);
        if Control::ToolCall.allows_by_default(&first) {
            return Ok(());
        }
        let (decision, approvals) = if first.verdict == Verdict::Ask {
            let asked = self.supervisor.ask(request.clone(), first.clone()).await;
            match asked
                .map_err(|error| cannot_ask(&error))
                .and_then(|answer| answer)
            {
                Ok(approvals) => (self.policy.decide(&request, &approvals), approvals),
                Err(no) => (*refused(first, no), Approvals::none()),
            }
        } else {
            (first, Approvals::none())
        };
        let is_allowed = decision.verdict == Verdict::Allow;
        let entry = Decided {
            approvals: approvals.ids().cloned().collect(),
            ..decided(request, decision)
        };
        match self.record(entry).await {
            Ok(_) if is_allowed => Ok(()),
            Ok(record) => Err(record.why_not()),
            Err(error) => Err(format!(
                "denied: the decision could not be recorded: {error}"
            )),
        }
    }

    /// Tells whether a question can get an answer of a person in this session.
    pub(crate) const fn asks_people(&self) -> bool {
        match self.ask {
            AskMode::Tty | AskMode::Inbox | AskMode::Server => true,
            AskMode::Deny => false,
        }
    }

    /// Loads the policy that the session would have with another layer of the organisation.
    pub(crate) fn with_layer(
        &self,
        before: Option<&str>,
        layer: Source,
    ) -> Result<Policy, Problems> {
        self.policy.with_layer(before, layer)
    }

    /// Has a newer policy deny beside that of the session.
    pub(crate) fn tighten(&self, newer: Option<Policy>) {
        self.policy.tighten(newer);
    }

    /// Returns what a newer policy says against something that is open.
    pub(crate) fn denies_open(&self, request: &Request, own: &Decision) -> Option<Decision> {
        self.policy.newer_denies(request, own)
    }

    /// Records that something that was open is closed, if a policy denies it by now.
    pub(crate) async fn closed(&self, request: Request, closing: Closing) {
        let Closing::Denied(decision) = closing else {
            return;
        };
        let entry = Decided {
            detail: Some("cut while it was open".to_owned()),
            ..decided(request, *decision)
        };
        // It is closed in any case; a journal that failed denies what comes next.
        drop(self.record(entry).await);
    }

    /// Decides without asking anyone.
    pub(crate) fn look(&self, request: &Request) -> Decision {
        self.policy.decide(request, &Approvals::none())
    }

    /// Returns what the head of a request means, as far as rules about its host need it.
    pub(crate) fn meaning(&self, host: &Host, method: &str, path: &RawText) -> Vec<Meaning> {
        self.policy.meaning(host, method, path.as_bytes())
    }

    /// Returns which meanings rules about a host look for.
    pub(crate) fn looks_for(&self, host: &Host) -> LooksFor {
        self.policy.looks_for(host)
    }

    /// Returns the deny of an address to which the host of a request leads.
    pub(crate) fn denied_address(&self, request: &NetRequest, address: IpAddr) -> Option<Decision> {
        self.policy.denies_address(request, address)
    }

    /// Decides whether a name is known to a program: if a connection to it could be allowed or, where
    /// there is somebody to ask, asked about; or if it belongs to a command that may run.
    pub(crate) async fn name(&self, request: &NameRequest) -> Decision {
        let asked = Request::Name(request.clone());
        let decision = self.look(&asked);
        if decision.verdict == Verdict::Deny || self.asks_people() {
            return decision;
        }
        let best = self.policy.prospect(request);
        if best.verdict == Verdict::Allow || self.is_covered(request).await {
            return decision;
        }
        *refused(
            best,
            No {
                reason: NOBODY.to_owned(),
                by: Some(Circumstance::NoOne.into()),
            },
        )
    }

    /// Tells whether a connection of the program to the name belongs to a command that was allowed.
    async fn is_covered(&self, name: &NameRequest) -> bool {
        for port in WEB_PORTS.into_iter().filter_map(Port::new) {
            let request = Request::Net(NetRequest {
                host: Host::Name(name.name.clone()),
                port,
                subject: name.subject.clone(),
            });
            if self.supervisor.covered(request).await.is_ok_and(|is| is) {
                return true;
            }
        }
        false
    }

    /// Judges a connection whose program knows nothing of it yet. `None` if somebody is to be asked:
    /// the program waits for that once it is connected.
    pub(crate) async fn judge_early(&self, value: &NetRequest) -> Option<Judgement<NetRequest>> {
        let decision = match self.try_permit(value, &Approvals::none()) {
            Ok(allowed) => return Some(Judgement::Permitted(Box::new(allowed))),
            Err(decision) if decision.verdict == Verdict::Deny => {
                return Some(Judgement::Denied(decision));
            }
            Err(decision) if self.asks_people() => {
                drop(decision);
                return None;
            }
            Err(decision) => decision,
        };
        // What belongs to a command that was allowed needs no person.
        let asked = self.supervisor.ask(value.as_request(), (*decision).clone());
        let answer = asked
            .await
            .map_err(|error| cannot_ask(&error))
            .and_then(|answer| answer);
        Some(match answer {
            Ok(approvals) => self.settle(value, &approvals),
            Err(no) => Judgement::Denied(refused(*decision, no)),
        })
    }

    /// Tells whether programs that want a proxy have one on a port of loopback.
    pub(crate) fn is_inside_proxy(&self, port: Port) -> bool {
        self.policy.settings().network.is_inside_proxy(port)
    }

    /// Tells whether a host is open to a program as a whole, without a question.
    pub(crate) fn reaches(&self, host: &HostName, by: &Subject) -> bool {
        self.policy.reaches(host, by)
    }

    /// Judges `value`, and gives the proof for a copy of it; `held` are the approvals of the connection
    /// that carries it. Waits, for a bounded time and as long as the program does, if someone must be
    /// asked.
    pub(crate) async fn judge<T: AsRequest + Clone>(
        &self,
        value: &T,
        held: &Approvals,
        waiter: Waiter<'_>,
    ) -> Judgement<T> {
        let decision = match self.try_permit(value, held) {
            Ok(allowed) => return Judgement::Permitted(Box::new(allowed)),
            Err(decision) if decision.verdict == Verdict::Ask => decision,
            Err(decision) => return Judgement::Denied(decision),
        };
        match self.ask(&value.as_request(), &decision, waiter).await {
            Ok(approvals) => self.settle(value, &approvals),
            Err(no) => Judgement::Denied(refused(*decision, no)),
        }
    }

    /// Judges again, with the answer.
    fn settle<T: AsRequest + Clone>(&self, value: &T, approvals: &Approvals) -> Judgement<T> {
        match self.try_permit(value, approvals) {
            Ok(allowed) => Judgement::Permitted(Box::new(allowed)),
            // An answer that does not cover the request is not asked about a second time.
            Err(again) if again.verdict == Verdict::Ask => Judgement::Denied(refused(
                *again,
                no("the approval does not cover this request"),
            )),
            Err(again) => Judgement::Denied(again),
        }
    }

    fn try_permit<T: AsRequest + Clone>(
        &self,
        value: &T,
        held: &Approvals,
    ) -> Result<Allowed<T>, Box<Decision>> {
        // Without approvals first: what the policy allows by itself uses none of them up.
        let bare = self.policy.permit(value.clone(), &Approvals::none());
        match bare {
            Ok((permitted, decision)) => Ok(Allowed {
                permitted,
                decision,
                approvals: Approvals::none(),
            }),
            Err(decision) if held.is_empty() => Err(Box::new(decision)),
            Err(_) => match self.policy.permit(value.clone(), held) {
                Ok((permitted, decision)) => Ok(Allowed {
                    permitted,
                    decision,
                    approvals: held.clone(),
                }),
                Err(decision) => Err(Box::new(decision)),
            },
        }
    }

    /// Asks for this request alone: each answer is counted where it is used. Those who wait for the
    /// same thing share a question at the desk.
    async fn ask(
        &self,
        request: &Request,
        decision: &Decision,
        waiter: Waiter<'_>,
    ) -> Result<Approvals, No> {
        const LEFT: &str = "the program did not wait for the answer";
        let asked = self.supervisor.ask(request.clone(), decision.clone());
        let answer = tokio::select! {
            answer = asked => answer,
            () = self.until_left(waiter) => return Err(no(LEFT)),
        };
        match answer {
            // It may have gone since it was looked at last.
            Ok(Ok(_)) if self.has_left(waiter).await => Err(no(LEFT)),
            Ok(settled) => settled,
            Err(error) => Err(cannot_ask(&error)),
        }
    }

    /// Waits until nobody holds the program's end of the connection any more.
    async fn until_left(&self, waiter: Waiter<'_>) {
        if let Waiter::Request(request) = waiter {
            return poll_fn(|context| request.poll_withdrawn(context)).await;
        }
        loop {
            sleep(WAITER_BEAT).await;
            if self.has_left(waiter).await {
                return;
            }
        }
    }

    async fn has_left(&self, waiter: Waiter<'_>) -> bool {
        let (client, destination) = match waiter {
            Waiter::Connection {
                client,
                destination,
            } => (client, destination),
            Waiter::Request(request) => {
                let now = |context: &mut Context<'_>| {
                    Poll::Ready(request.poll_withdrawn(context).is_ready())
                };
                return poll_fn(now).await;
            }
        };
        let Ok(ready) = client.ready().await else {
            return true;
        };
        ready.is_write_closed()
            || (ready.is_read_closed() && self.is_left(client, destination).await)
    }

    /// Tells a closed socket from one that only will not send any more.
    async fn is_left(&self, client: &Stream, destination: SocketAddr) -> bool {
        let Ok(peer) = client.peer_addr() else {
            return true;
        };
        let holder = self
            .supervisor
            .attribute(Protocol::Tcp, peer, destination)
            .await;
        holder.is_ok_and(|subject| subject.id.is_none())
    }

    /// Has a decision journaled; only then may it take effect.
    pub(crate) async fn record(&self, decided: Decided) -> Result<DecisionRecord, Unanswered> {
        self.supervisor.decided(decided).await
    }
}

/// Makes a no that is nobody's answer.
fn no(reason: &str) -> No {
    No {
        reason: reason.to_owned(),
        by: None,
    }
}

fn cannot_ask(error: &Unanswered) -> No {
    match error {
        Unanswered::Late => no("no answer came in time"),
        Unanswered::Gone
        | Unanswered::Busy
        | Unanswered::Failed(_)
        | Unanswered::Mismatch
        | Unanswered::Frame(_) => no(&format!("the question could not be asked: {error}")),
    }
}

/// Turns an ask that was not granted into the deny that it is.
fn refused(mut decision: Decision, no: No) -> Box<Decision> {
    decision.verdict = Verdict::Deny;
    decision.answered = no.by;
    decision.reason = match decision.reason.as_str() {
        "" => no.reason,
        why => format!("{} (asked because: {why})", no.reason),
    };
    Box::new(decision)
}

/// Makes a message for the journal.
pub(crate) fn decided(request: Request, decision: Decision) -> Decided {
    Decided {
        request,
        decision,
        shown: None,
        address: None,
        sni: None,
        detail: None,
        approvals: Vec::new(),
    }
}
