//! The supervisor's side of the network: who owns a socket, what is journaled, what is asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
};

use stockade_egress::wire::{
    Answer, Decided, FromSupervisor, Protocol, Replies, Requests, ToSupervisor,
};
use stockade_policy::{Approvals, Decision, Policy, Request};
use stockade_sys::net::{self, SocketDiagnosis};
use stockade_types::{DecisionId, Digest, Subject, Verdict};

use crate::{
    approvals::{Asker, Desk, Outcome},
    processes::Processes,
    procfs,
    recorder::{Recorder, lock},
};

/// Processes that are searched for the owner of a socket.
const PROCESSES_MAX: usize = 20_000;
/// Owners of recent sockets that are remembered: a program that opens many connections is found
/// without a search.
const RECENT_OWNERS: usize = 16;

/// What the threads that answer the egress process share.
pub(crate) struct NetworkSupervision {
    pub(crate) policy: Arc<Policy>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) diagnosis: Mutex<SocketDiagnosis>,
    pub(crate) first_process: u32,
    pub(crate) processes: Arc<Processes>,
    pub(crate) abort: Arc<dyn Fn(&str) + Send + Sync>,
    pub(crate) recent: Mutex<Vec<u32>>,
    /// Numbers of questions whose final decision comes back from the egress process.
    pub(crate) asked: Mutex<HashMap<Digest, DecisionId>>,
}

/// Answers the egress process until its connection closes.
pub(crate) fn serve(
    shared: &Arc<NetworkSupervision>,
    mut requests: Requests,
    replies: &Arc<Replies>,
) {
    loop {
        let request = match requests.next() {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                return (shared.abort)(&format!(
                    "the egress process cannot be understood: {error}"
                ));
            }
        };
        match request {
            ToSupervisor::Attribute {
                id,
                protocol,
                source,
                destination,
            } => {
                let subject = shared.attribute(protocol, source, destination);
                shared.reply(replies, &FromSupervisor::Subject { id, subject });
            }
            ToSupervisor::Decided { id, decided } => {
                let reply = shared.decided(id, &decided);
                shared.reply(replies, &reply);
            }
            ToSupervisor::Record {
                id,
                event,
                durability,
            } => {
                let reply = match shared.recorder.write_from("egress", &event, durability) {
                    Ok(seq) => FromSupervisor::Recorded { id, seq },
                    Err(error) => shared.failed(id, &error),
                };
                shared.reply(replies, &reply);
            }
            ToSupervisor::Ask {
                id,
                request,
                decision,
            } => {
                let (shared_there, replies_there) = (Arc::clone(shared), Arc::clone(replies));
                let spawned = thread::Builder::new()
                    .name("ask".to_owned())
                    .spawn(move || {
                        let answer = shared_there.ask(&request, &decision);
                        shared_there.reply(&replies_there, &FromSupervisor::Answer { id, answer });
                    });
                if spawned.is_err() {
                    let answer = Answer::Refused {
                        reason: "no thread to ask on".to_owned(),
                    };
                    shared.reply(replies, &FromSupervisor::Answer { id, answer });
                }
            }
        }
    }
}

impl NetworkSupervision {
    /// Sends a reply; an egress process that is gone has no connection left to harm.
    #[expect(clippy::unused_self, reason = "reads as what the supervisor does")]
    fn reply(&self, replies: &Replies, reply: &FromSupervisor) {
        drop(replies.send(reply));
    }

    fn failed(&self, id: u64, error: &stockade_event::SinkError) -> FromSupervisor {
        (self.abort)(&format!("the journal cannot be written: {error}"));
        FromSupervisor::Failed {
            id,
            reason: error.to_string(),
        }
    }

    fn decided(&self, id: u64, decided: &Decided) -> FromSupervisor {
        let asked = lock(&self.asked).remove(&decided.request.digest());
        let number = asked.unwrap_or_else(|| self.recorder.new_decision());
        let record = self
            .recorder
            .record(number, &decided.request, &decided.decision);
        let event = decided.event(record.clone());
        match self
            .recorder
            .write_from("egress", &event, decided.durability)
        {
            Ok(_) => FromSupervisor::Decided {
                id,
                record: Box::new(record),
            },
            Err(error) => self.failed(id, &error),
        }
    }

    fn ask(&self, request: &Request, decision: &Decision) -> Answer {
        // The verdict of another process is not taken over: the policy is asked here again.
        let own = self.policy.decide(request, &Approvals::none());
        if own.verdict != Verdict::Ask || decision.verdict != Verdict::Ask {
            return Answer::Refused { reason: own.reason };
        }
        let number = self.recorder.new_decision();
        lock(&self.asked).insert(request.digest(), number);
        let decide = |approvals: &Approvals| self.policy.decide(request, approvals);
        let outcome = self.desk.ask(&Asker {
            request,
            decision: &own,
            decision_id: number,
            revision: self.recorder.revision(),
            intent: None,
            decide: &decide,
            wanted: &|| true,
        });
        match outcome {
            Outcome::Granted { approvals, .. } => Answer::Granted { approvals },
            Outcome::Refused { by, reason, .. } => {
                let refused = crate::supervise::refused(&own, &by, &reason);
                Answer::Refused {
                    reason: refused.reason,
                }
            }
        }
    }

    /// Finds the process that owns a socket; an empty subject when it is gone already.
    fn attribute(
        &self,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Subject {
        let protocol = match protocol {
            Protocol::Tcp => net::Protocol::Tcp,
            Protocol::Udp => net::Protocol::Udp,
        };
        let inode = lock(&self.diagnosis).inode(protocol, source, destination);
        let Ok(Some(inode)) = inode else {
            return Subject::default();
        };
        let Some(owner) = self.owner(inode) else {
            return Subject::default();
        };
        self.processes.subject(owner)
    }

    fn owner(&self, inode: u32) -> Option<u32> {
        let recent = lock(&self.recent).clone();
        let known = recent
            .into_iter()
            .find(|pid| procfs::has_socket(*pid, inode));
        let owner = known.or_else(|| {
            procfs::descendants(self.first_process, PROCESSES_MAX)
                .into_iter()
                .rev()
                .find(|pid| procfs::has_socket(*pid, inode))
        })?;
        let mut recent = lock(&self.recent);
        recent.retain(|pid| *pid != owner);
        recent.insert(0, owner);
        recent.truncate(RECENT_OWNERS);
        Some(owner)
    }
}
