//! A desk with its own clock, for the tests of the desk and of its socket.

mod desk;
mod golden;
mod inbox;
mod people;
mod reviewing;
mod stages;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use stockade_policy::{
    AskStage, Decision, ExecRequest, NetRequest, Origin, Request, Reviewer, RuleName, Scope, Terms,
};
use stockade_types::{
    ApprovalId, AskMode, Circumstance, DecisionId, Digest, Person, Port, RawText, Subject,
    UnixMillis, Verdict,
};

use super::*;

/// No test needs longer, and none may hang.
const PATIENCE: Duration = Duration::from_secs(10);

fn decision(verdict: Verdict, scope_max: Scope) -> Decision {
    Decision {
        verdict,
        rule: "unfamiliar-host".parse().ok(),
        rules: vec![RuleName {
            id: "unfamiliar-host".parse().unwrap(),
            origin: Origin::Builtin,
        }],
        origin: Some(Origin::Builtin),
        answered: None,
        reason: "no rule names this host".to_owned(),
        failed_condition: None,
        nearest_allow: None,
        remedy: String::new(),
        stage: Some(AskStage {
            reviewer: Reviewer::Human,
            expires: "5m".parse().unwrap(),
            scope_max,
            review: None,
            reviewer_allows: None,
        }),
        terms: Terms::default(),
        http_only: false,
    }
}

fn connect(host: &str) -> Request {
    Request::Net(NetRequest {
        host: host.parse().unwrap(),
        port: Port::new(443).unwrap(),
        subject: Subject {
            exe: "/usr/bin/node".into(),
            argv: vec!["npm".into(), "install".into(), "left-pad".into()].into(),
            ancestry: vec!["bash -lc \"npm install left-pad\"".into(), "codex".into()].into(),
            ..Subject::default()
        },
    })
}

fn run(argv: &[&str], digest: Option<Digest>) -> Request {
    Request::Exec(ExecRequest {
        program: "/usr/bin/git".into(),
        invoked_as: "/usr/bin/git".into(),
        digest,
        argv: argv.iter().map(|word| RawText::from(*word)).collect(),
        cwd: "/home/u/src".into(),
        ..ExecRequest::default()
    })
}

struct Lab {
    desk: Arc<Desk>,
    time: Arc<AtomicU64>,
    events: Arc<Mutex<Vec<String>>>,
    broken: Arc<AtomicBool>,
}

impl Lab {
    fn new(mode: AskMode) -> Self {
        Self::with(mode, None)
    }

    fn with(mode: AskMode, verify: Option<Verify>) -> Self {
        Self::with_all(mode, verify, None)
    }

    fn with_all(mode: AskMode, verify: Option<Verify>, hand: Option<Hand>) -> Self {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let events = Arc::new(Mutex::new(Vec::new()));
        let broken = Arc::new(AtomicBool::new(false));
        let clock = Arc::clone(&time);
        let (seen, fails) = (Arc::clone(&events), Arc::clone(&broken));
        let observer = move |event: &DeskEvent<'_>| {
            let line = match event {
                DeskEvent::Requested { .. } => "requested".to_owned(),
                DeskEvent::Decided {
                    verdict,
                    by,
                    scope,
                    statement,
                    ..
                } => {
                    let signed = if statement.is_some() { " signed" } else { "" };
                    format!(
                        "{verdict} by {by} {}{signed}",
                        scope.map(|s| s.to_string()).unwrap_or_default()
                    )
                }
                DeskEvent::Reviewed { verdict, .. } => {
                    let verdict = verdict.map_or("pass", Verdict::as_str);
                    format!("reviewer says {verdict}")
                }
                DeskEvent::ReviewerOff { .. } => "reviewer off".to_owned(),
                DeskEvent::Used { decision, .. } => format!("used for {decision}"),
                DeskEvent::GrantRefused { by, why, .. } => format!("refused from {by}: {why}"),
                DeskEvent::Revoked { by, .. } => format!("revoked by {by}"),
            };
            seen.lock().unwrap().push(line.trim().to_owned());
            if fails.load(Ordering::SeqCst) {
                Err("the disk is full".to_owned())
            } else {
                Ok(())
            }
        };
        let desk = Desk::new(
            mode,
            "codex".to_owned(),
            Arc::new(move || UnixMillis(clock.load(Ordering::SeqCst))),
            Box::new(observer),
        );
        let desk = match verify {
            Some(verify) => desk.with_people(verify),
            None => desk,
        };
        let desk = match hand {
            Some(hand) => desk.with_reviewer(hand),
            None => desk,
        };
        Self {
            desk: Arc::new(desk),
            time,
            events,
            broken,
        }
    }

    fn ask(&self, request: Request, scope_max: Scope) -> JoinHandle<Outcome> {
        self.ask_while(request, scope_max, Arc::new(AtomicBool::new(true)))
    }

    fn ask_while(
        &self,
        request: Request,
        scope_max: Scope,
        wanted: Arc<AtomicBool>,
    ) -> JoinHandle<Outcome> {
        let desk = Arc::clone(&self.desk);
        std::thread::spawn(move || {
            let asked = decision(Verdict::Ask, scope_max);
            desk.ask(&Asker {
                request: &request,
                decision: &asked,
                decision_id: DecisionId::new(19),
                revision: Digest::of(b"policy"),
                intent: None,
                decide: &|approvals| {
                    let verdict = if approvals.is_empty() {
                        Verdict::Ask
                    } else {
                        Verdict::Allow
                    };
                    decision(verdict, scope_max)
                },
                wanted: &|| wanted.load(Ordering::SeqCst),
                covered: None,
                lasting: None,
            })
        })
    }

    fn pending(&self, count: usize) -> Vec<Question> {
        let begun = Instant::now();
        loop {
            let pending = self.desk.pending();
            if pending.len() == count {
                return pending;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{count} expected, got {pending:?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn waiting(&self, count: u32) -> ApprovalId {
        let begun = Instant::now();
        loop {
            if let [view] = self.desk.views().as_slice()
                && view.waiting == count
            {
                return view.id.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "nobody waits");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }
}

fn allow(scope: Scope) -> Answer {
    Answer::Allow { scope }
}

fn deny() -> Answer {
    Answer::Deny {
        reason: Some("open a PR".to_owned()),
    }
}

fn refused_by(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused { by, .. } => by.to_string(),
        Outcome::Granted { id, .. } => panic!("granted {id}"),
    }
}
