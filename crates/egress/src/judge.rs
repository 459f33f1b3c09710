//! From a request to a verdict: the policy, and the people behind an ask.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use stockade_event::Durability;
use stockade_policy::{Approvals, Decision, Permitted, Policy, Request};
use stockade_types::{ApprovalId, DecisionRecord, Digest, Verdict};
use tokio::sync::watch;

use crate::wire::{Client, Decided, Unanswered};

/// A request that was judged; nothing is recorded yet.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// It may happen once it is recorded.
    Permitted(Box<Allowed>),
    /// It must not happen.
    Denied(Box<Decision>),
}

/// A request that may happen once it is recorded.
#[derive(Debug)]
pub(crate) struct Allowed {
    /// The proof.
    pub(crate) permitted: Permitted<Request>,
    /// The decision with verdict allow.
    pub(crate) decision: Decision,
    /// The approvals it rests on; empty where the policy allows by itself.
    pub(crate) approvals: Approvals,
}

impl Allowed {
    /// Returns the ids of the approvals.
    pub(crate) fn approval_ids(&self) -> Vec<ApprovalId> {
        self.approvals.ids().cloned().collect()
    }
}

type Answered = Option<Result<Approvals, String>>;

/// Judges requests.
#[derive(Debug)]
pub(crate) struct Judge {
    policy: Policy,
    supervisor: Arc<Client>,
    asks: Arc<Mutex<HashMap<Digest, watch::Receiver<Answered>>>>,
}

impl Judge {
    pub(crate) fn new(policy: Policy, supervisor: Arc<Client>) -> Self {
        Self {
            policy,
            supervisor,
            asks: Arc::default(),
        }
    }

    /// Decides without asking anyone.
    pub(crate) fn look(&self, request: &Request) -> Decision {
        self.policy.decide(request, &Approvals::none())
    }

    /// Judges `request`; `held` are the approvals of the connection that carries it. Waits, for a
    /// bounded time, where someone must be asked.
    pub(crate) async fn judge(&self, request: Request, held: &Approvals) -> Judgement {
        let decision = match self.try_permit(request.clone(), held) {
            Ok(allowed) => return Judgement::Permitted(Box::new(allowed)),
            Err(decision) if decision.verdict == Verdict::Ask => decision,
            Err(decision) => return Judgement::Denied(decision),
        };
        match self.ask(&request, &decision).await {
            Ok(approvals) => match self.try_permit(request, &approvals) {
                Ok(allowed) => Judgement::Permitted(Box::new(allowed)),
                // An answer that does not cover the request is not asked about a second time.
                Err(again) if again.verdict == Verdict::Ask => {
                    Judgement::Denied(refused(*again, "the approval does not cover this request"))
                }
                Err(again) => Judgement::Denied(again),
            },
            Err(reason) => Judgement::Denied(refused(*decision, &reason)),
        }
    }

    fn try_permit(&self, request: Request, held: &Approvals) -> Result<Allowed, Box<Decision>> {
        // Without approvals first: what the policy allows by itself uses none of them up.
        let bare = self.policy.permit(request.clone(), &Approvals::none());
        match bare {
            Ok((permitted, decision)) => Ok(Allowed {
                permitted,
                decision,
                approvals: Approvals::none(),
            }),
            Err(decision) if held.is_empty() => Err(Box::new(decision)),
            Err(_) => match self.policy.permit(request, held) {
                Ok((permitted, decision)) => Ok(Allowed {
                    permitted,
                    decision,
                    approvals: held.clone(),
                }),
                Err(decision) => Err(Box::new(decision)),
            },
        }
    }

    /// Asks once for all identical requests that wait at the same time.
    async fn ask(&self, request: &Request, decision: &Decision) -> Result<Approvals, String> {
        const LOST: &str = "the question could not be put to anyone";
        let mut answer = {
            let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
            let key = request.digest();
            if let Some(waiting) = asks.get(&key) {
                waiting.clone()
            } else {
                let (sender, receiver) = watch::channel(None);
                asks.insert(key, receiver.clone());
                let task = put(
                    Arc::clone(&self.supervisor),
                    request.clone(),
                    decision.clone(),
                    AskEntry {
                        asks: Arc::clone(&self.asks),
                        key,
                    },
                    sender,
                );
                // A task of its own: the one who asked first may give up before the others.
                drop(tokio::spawn(task));
                receiver
            }
        };
        let settled = answer
            .wait_for(Option::is_some)
            .await
            .map_err(|_| LOST.to_owned())?;
        settled.clone().unwrap_or_else(|| Err(LOST.to_owned()))
    }

    /// Has a decision journaled; only then may it take effect.
    pub(crate) async fn record(&self, decided: Decided) -> Result<DecisionRecord, Unanswered> {
        self.supervisor.decided(decided).await
    }
}

/// Removes a question from the list of open ones when its task ends, however it ends.
struct AskEntry {
    asks: Arc<Mutex<HashMap<Digest, watch::Receiver<Answered>>>>,
    key: Digest,
}

impl Drop for AskEntry {
    fn drop(&mut self) {
        self.asks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

async fn put(
    supervisor: Arc<Client>,
    request: Request,
    decision: Decision,
    entry: AskEntry,
    answer: watch::Sender<Answered>,
) {
    let settled = match supervisor.ask(request, decision).await {
        Ok(answered) => answered,
        Err(Unanswered::Late) => Err("nobody answered in time".to_owned()),
        Err(error) => Err(format!("nobody could be asked: {error}")),
    };
    // Later requests must ask anew, so the entry goes before the answer is seen.
    drop(entry);
    answer.send_replace(Some(settled));
}

/// Turns an ask that was not granted into the deny that it is.
fn refused(mut decision: Decision, reason: &str) -> Box<Decision> {
    decision.verdict = Verdict::Deny;
    decision.reason = match decision.reason.as_str() {
        "" => reason.to_owned(),
        why => format!("{reason} (asked because: {why})"),
    };
    Box::new(decision)
}

/// Methods of requests that carry nothing but themselves (RFC 9110 section 9.2.1).
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// Makes a message for the journal; what lets data out is synced, the rest within a second.
pub(crate) fn decided(request: Request, decision: Decision) -> Decided {
    let lets_out = match &request {
        Request::Net(_) => true,
        Request::Http(http) => !SAFE_METHODS.contains(&http.method.as_str()),
        Request::Exec(_) | Request::Name(_) | Request::File(_) => false,
    };
    let durability = if lets_out && decision.verdict == Verdict::Allow {
        Durability::Synced
    } else {
        Durability::Written
    };
    Decided {
        request,
        decision,
        shown: None,
        address: None,
        sni: None,
        detail: None,
        approvals: Vec::new(),
        durability,
    }
}
