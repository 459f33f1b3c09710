//! A supervisor without a session: it records in memory and answers as it is told.

use std::{
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use stockade_egress::wire::{
    Answer, Decided, FromSupervisor, Replies, Requests, ToSupervisor, server,
};
use stockade_event::Event;
use stockade_policy::{Decision, Grants, HostSets, Policy, Request, Scope, Source, load};
use stockade_types::{ApprovalId, DecisionId, ProcessId, RawText, SessionId, Subject, UnixMillis};

/// What happens when someone is asked.
#[derive(Clone)]
pub enum Asking {
    Grant(Scope),
    Refuse(&'static str),
    /// Nobody answers until [`Supervisor::answer`] is called.
    Wait,
}

#[derive(Clone)]
pub struct Supervisor {
    state: Arc<State>,
    replies: Replies,
}

struct State {
    policy: Policy,
    session: SessionId,
    events: Mutex<Vec<Event>>,
    asking: Mutex<Asking>,
    waiting: Mutex<Vec<(u64, Request, Decision)>>,
    grants: Mutex<(Grants, u32)>,
    asks: Mutex<usize>,
    journal_fails: AtomicBool,
    attribution_fails: AtomicBool,
    owners_gone: AtomicBool,
    covers: AtomicBool,
    withdrawn: Mutex<Vec<u64>>,
}

impl Supervisor {
    pub fn start(stream: UnixStream, source: &Source) -> Self {
        let policy = load(std::slice::from_ref(source), &HostSets::default())
            .unwrap_or_else(|problems| panic!("{problems:#?}"));
        let (requests, replies) = server(stream).unwrap();
        let state = Arc::new(State {
            policy,
            session: SessionId::from_random(7),
            events: Mutex::default(),
            asking: Mutex::new(Asking::Refuse("nobody is there")),
            waiting: Mutex::default(),
            grants: Mutex::default(),
            asks: Mutex::default(),
            journal_fails: AtomicBool::new(false),
            attribution_fails: AtomicBool::new(false),
            owners_gone: AtomicBool::new(false),
            covers: AtomicBool::new(false),
            withdrawn: Mutex::default(),
        });
        let supervisor = Self { state, replies };
        let thread = supervisor.clone();
        std::thread::spawn(move || thread.run(requests));
        supervisor
    }

    pub fn events(&self) -> Vec<Event> {
        self.state.events.lock().unwrap().clone()
    }

    pub fn asks(&self) -> usize {
        *self.state.asks.lock().unwrap()
    }

    pub fn set_asking(&self, asking: Asking) {
        *self.state.asking.lock().unwrap() = asking;
    }

    pub fn fail_journal(&self) {
        self.state.journal_fails.store(true, Ordering::SeqCst);
    }

    pub fn fail_attribution(&self) {
        self.state.attribution_fails.store(true, Ordering::SeqCst);
    }

    /// From now on nobody holds any socket of the session.
    pub fn lose_owners(&self) {
        self.state.owners_gone.store(true, Ordering::SeqCst);
    }

    /// From now on every program belongs to a command that may run.
    pub fn cover(&self) {
        self.state.covers.store(true, Ordering::SeqCst);
    }

    /// Returns how many questions were taken back.
    pub fn withdrawn(&self) -> usize {
        self.state.withdrawn.lock().unwrap().len()
    }

    /// Answers everyone who waits.
    pub fn answer(&self, asking: &Asking) {
        let waiting = std::mem::take(&mut *self.state.waiting.lock().unwrap());
        for (id, request, decision) in waiting {
            self.settle(id, &request, &decision, asking);
        }
    }

    /// Answers the one who has waited longest.
    pub fn answer_first(&self, asking: &Asking) {
        let (id, request, decision) = self.state.waiting.lock().unwrap().remove(0);
        self.settle(id, &request, &decision, asking);
    }

    pub fn waiting(&self) -> usize {
        self.state.waiting.lock().unwrap().len()
    }

    pub fn revoke(&self, approval: &ApprovalId) {
        self.state.grants.lock().unwrap().0.revoke(approval);
        self.replies
            .send(&FromSupervisor::Revoke {
                approval: approval.clone(),
            })
            .unwrap();
    }

    /// Ends the session in order.
    pub fn finish(&self) {
        self.replies.send(&FromSupervisor::Finish).unwrap();
    }

    pub fn close(&self) {
        self.replies.close();
    }

    fn run(&self, mut requests: Requests) {
        while let Ok(Some(request)) = requests.next() {
            self.handle(request);
        }
    }

    fn handle(&self, request: ToSupervisor) {
        let reply = match request {
            ToSupervisor::Attribute { id, .. } => {
                if self.state.attribution_fails.load(Ordering::SeqCst) {
                    FromSupervisor::Failed {
                        id,
                        reason: "no such socket".to_owned(),
                    }
                } else {
                    FromSupervisor::Subject {
                        id,
                        subject: if self.state.owners_gone.load(Ordering::SeqCst) {
                            Subject::default()
                        } else {
                            subject()
                        },
                    }
                }
            }
            ToSupervisor::Decided { id, decided, .. } => self.decided(id, &decided),
            ToSupervisor::Record { id, event, .. } | ToSupervisor::Claimed { id, event, .. } => {
                if self.state.journal_fails.load(Ordering::SeqCst) {
                    FromSupervisor::Failed {
                        id,
                        reason: "the disk is full".to_owned(),
                    }
                } else {
                    let seq = self.push(event);
                    FromSupervisor::Recorded { id, seq }
                }
            }
            // Nothing is known of any server in this lab.
            ToSupervisor::Compare { id, .. } => FromSupervisor::Compared { id, refused: None },
            ToSupervisor::Covered { id, .. } => FromSupervisor::Covered {
                id,
                covered: self.state.covers.load(Ordering::SeqCst),
            },
            ToSupervisor::Proved { id, .. } => FromSupervisor::Noted { id },
            // No login of the lab is somebody's.
            ToSupervisor::Tokens { id, .. } => FromSupervisor::Tokens {
                id,
                tokens: Vec::new(),
            },
            ToSupervisor::Renewed { id, .. } => FromSupervisor::Recorded { id, seq: 0 },
            // No kernel holds connections in this lab.
            ToSupervisor::Release { .. } => return,
            ToSupervisor::Withdraw { id } => {
                self.state.withdrawn.lock().unwrap().push(id);
                return self
                    .state
                    .waiting
                    .lock()
                    .unwrap()
                    .retain(|entry| entry.0 != id);
            }
            ToSupervisor::Ask {
                id,
                request,
                decision,
            } => {
                *self.state.asks.lock().unwrap() += 1;
                let asking = self.state.asking.lock().unwrap().clone();
                return self.settle(id, &request, &decision, &asking);
            }
        };
        // The egress process may have ended meanwhile.
        drop(self.replies.send(&reply));
    }

    fn push(&self, event: Event) -> u64 {
        let mut events = self.state.events.lock().unwrap();
        events.push(event);
        u64::try_from(events.len()).unwrap()
    }

    fn decided(&self, id: u64, decided: &Decided) -> FromSupervisor {
        if self.state.journal_fails.load(Ordering::SeqCst) {
            return FromSupervisor::Failed {
                id,
                reason: "the disk is full".to_owned(),
            };
        }
        let number = u64::try_from(self.state.events.lock().unwrap().len()).unwrap();
        let decision = DecisionId::new(number);
        let record = decided.decision.record(
            decision,
            &decided.request,
            self.state.policy.revision(),
            self.state.session.clone(),
            UnixMillis(1),
        );
        self.push(decided.event(record.clone()));
        for approval in &decided.approvals {
            self.push(Event::ApprovalUsed {
                approval: approval.clone(),
                decision,
            });
        }
        FromSupervisor::Decided {
            lease: None,
            id,
            record: Box::new(record),
        }
    }

    fn settle(&self, id: u64, request: &Request, decision: &Decision, asking: &Asking) {
        let answer = match asking {
            Asking::Refuse(reason) => Answer::Refused {
                reason: (*reason).to_owned(),
                by: None,
            },
            Asking::Wait => {
                let entry = (id, request.clone(), decision.clone());
                return self.state.waiting.lock().unwrap().push(entry);
            }
            Asking::Grant(scope) => {
                let revision = self.state.policy.revision();
                let now = UnixMillis(1);
                let mut grants = self.state.grants.lock().unwrap();
                grants.1 += 1;
                let approval = ApprovalId::from_random(grants.1);
                grants
                    .0
                    .grant(approval, request, decision, *scope, revision, now)
                    .unwrap();
                let approvals = grants.0.matching(request, revision, now);
                grants.0.consume(request, &approvals, now).unwrap();
                Answer::Granted { approvals }
            }
        };
        drop(self.replies.send(&FromSupervisor::Answer { id, answer }));
    }
}

pub fn subject() -> Subject {
    Subject {
        id: Some(ProcessId { pid: 42, start: 7 }),
        exe: RawText::from("/usr/bin/curl"),
        argv: vec![RawText::from("curl")].into(),
        cwd: RawText::from("/home/dev/app"),
        ancestry: vec![].into(),
    }
}
