//! Records of sessions that nobody ran, as long as a test or a measurement needs them.

mod week;

pub use week::week;

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path};

use stockade_event::{
    Cause, Counts, Durability, Event, Listed, ModelUsage, PlanStepSeen, Said, SessionOutcome, Stamp,
};
use stockade_journal::{
    Entry, Journal, SigningKey,
    layout::{KEY_FILE, SESSIONS_DIR, session_dir},
};
use stockade_types::{
    Access, ApprovalId, AskMode, CallEnd, Certainty, ClaimSource, DecisionId, DecisionRecord,
    Digest, ModelApi, ModelProvider, Person, PlanChange, ProcessId, RawText, RequestKind,
    SessionId, StepState, Subject, Target, Tier, UnixMillis, Verdict, WorkspaceMode,
};

/// 2026-01-31T10:00:00Z.
const BEGUN_NS: u64 = 1_769_853_600_000_000_000;
/// Events of one turn in which everything happens once.
pub const TURN_EVENTS: u64 = 25;

/// Writes the record of a session of so many turns whose foreign text is `text` into a state
/// directory; returns its id.
pub fn record(state: &Path, turns: u64, text: &RawText) -> String {
    let mut writer = Writer::new(state, turns, text);
    for turn in 0..turns {
        writer.turn(turn);
    }
    writer.end(turns)
}

/// Writes the records of so many sessions of so many turns each.
pub fn many(state: &Path, sessions: u64, turns: u64) {
    for number in 0..sessions {
        let mut writer = Writer::new(state, 1_000 + number, &"baskets".into());
        for turn in 0..turns {
            writer.turn(turn);
        }
        writer.end(turns);
    }
}

/// Writes the record of a session that called each of these models once.
pub fn models(state: &Path, names: &[&str]) {
    let mut writer = Writer::new(state, 1, &"x".into());
    for name in names {
        writer.add(None, None, &model_called(name));
    }
    writer.end(1);
}

struct Writer {
    journal: Journal,
    session: SessionId,
    at_ns: u64,
    begun_ns: u64,
    seq: u64,
    text: RawText,
}

impl Writer {
    /// Begins the record of a session; its number gives its id.
    fn new(state: &Path, number: u64, text: &RawText) -> Self {
        let mut writer = Self::at(state, number, text, BEGUN_NS);
        writer.begin();
        writer
    }

    /// Makes the record of a session that begins at this time, in nanoseconds since 1970.
    fn at(state: &Path, number: u64, text: &RawText, at_ns: u64) -> Self {
        let session = SessionId::from_random(0x3f2a_0000_0000_0000 + number);
        let dir = session_dir(state, &session);
        let sessions = state.join(SESSIONS_DIR);
        for dir in [&sessions, &dir] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.expect("the state is ours");
        }
        let key = SigningKey::load_or_create(&state.join(KEY_FILE)).expect("a key");
        Self {
            journal: Journal::create(&dir, session.clone(), key).expect("a new session"),
            session,
            at_ns,
            begun_ns: at_ns,
            seq: 0,
            text: text.clone(),
        }
    }

    fn add(&mut self, scope: Option<&str>, cause: Option<Cause>, event: &Event) -> u64 {
        self.at_ns += 140_000_000;
        let entry = Entry {
            process: None,
            scope,
            cause,
            event,
        };
        let stamp = Stamp {
            time_unix_ns: self.at_ns,
            mono_ns: self.at_ns - self.begun_ns,
        };
        let added = (self.journal).append_all(stamp, "supervisor", &[entry], Durability::Written);
        self.seq = added.expect("the disk has room");
        self.seq
    }

    fn begin(&mut self) {
        self.add(
            None,
            None,
            &Event::SessionStarted {
                name: None,
                command: vec!["codex".into(), "exec".into()],
                workspace: "/home/u/src/shop".into(),
                mode: WorkspaceMode::Direct,
                tier: Tier::Native,
                preset: "codex".to_owned(),
                ask: AskMode::Tty,
                uid: 1000,
                version: "0.1.0".to_owned(),
                policy_revision: Digest::of(b"p"),
            },
        );
        self.add(
            None,
            None,
            &Event::GuaranteeStated {
                guarantee: "disk".to_owned(),
                holds: false,
                how: String::new(),
                missing: Some("no cgroup v2 delegation".to_owned()),
                waiver: None,
            },
        );
    }

    fn end(&mut self, turns: u64) -> String {
        self.add(
            None,
            None,
            &Event::SessionEnded {
                outcome: SessionOutcome::Exited { code: 0 },
                duration_ms: turns * TURN_EVENTS * 140,
                counts: Counts::default(),
                own_usage: None,
            },
        );
        let stamp = Stamp {
            time_unix_ns: self.at_ns,
            mono_ns: self.at_ns - self.begun_ns,
        };
        self.journal.checkpoint(stamp).expect("the disk has room");
        self.session.as_str().to_owned()
    }

    /// A prompt, a tool call whose command does everything, one that edits a file itself, one that changes
    /// the plan, and a command of the agent's own.
    fn turn(&mut self, turn: u64) {
        let said = |text: &RawText| Said {
            bytes: u64::try_from(text.as_bytes().len()).expect("a length fits"),
            digest: None,
            text: Some(text.clone()),
        };
        let agent = subject(7, &["codex", "exec"], &[]);
        let prompt = Event::PromptSubmitted {
            process: agent.clone(),
            learned_from: ClaimSource::Traffic,
            decision: Some(DecisionId::new(1)),
            aside: false,
            parts: Listed {
                count: 1,
                first: vec![said(&joined("make the cart handle ", &self.text))],
            },
        };
        let prompt = self.add(None, None, &prompt);
        let in_turn = Some(Cause {
            turn: Some(prompt),
            call: None,
            certainty: Certainty::Inferred,
        });
        let called = |name: &str, arguments: RawText| Event::ToolCalled {
            process: agent.clone(),
            learned_from: ClaimSource::Traffic,
            decision: Some(DecisionId::new(1)),
            id: format!("call-{turn}").as_str().into(),
            name: name.into(),
            arguments: Some(said(&arguments)),
        };
        let arguments = format!("{{\"command\":\"cargo test --package cart-{turn}\"}}");
        let shell = self.add(None, in_turn, &called("shell", arguments.as_str().into()));
        self.command(turn, prompt, shell);
        let patch = joined("*** Begin Patch\n*** Update File: ", &self.text);
        let patch = self.add(None, in_turn, &called("apply_patch", patch));
        self.edit(turn, prompt, patch);
        let plan = self.add(None, in_turn, &called("update_plan", "{}".into()));
        self.plan(turn, prompt, plan);
        let git = subject(pid(turn, 9), &["git", "status"], &["codex exec"]);
        let own = format!("c-{turn}-own");
        for _ in 0..2 {
            let started = started(git.clone());
            self.add(Some(&own), in_turn, &started);
        }
    }

    fn command(&mut self, turn: u64, prompt: u64, call: u64) {
        let name = format!("c-{turn}");
        let scope = Some(name.as_str());
        let cause = Some(Cause {
            turn: Some(prompt),
            call: Some(call),
            certainty: Certainty::Exact,
        });
        let line = format!("cargo test --package cart-{turn}");
        let bash = subject(pid(turn, 0), &["bash", "-lc", &line], &["codex exec"]);
        let bash_line = format!("bash -lc {line}");
        let cargo = subject(
            pid(turn, 1),
            &["cargo", "test", "--package", &format!("cart-{turn}")],
            &[&bash_line, "codex exec"],
        );
        self.add(scope, None, &started(bash.clone()));
        let bound = Event::ScopeBound {
            scope: name.clone(),
            process: bash,
            call,
            certainty: if turn % 5 == 3 {
                Certainty::Inferred
            } else {
                Certainty::Exact
            },
        };
        self.add(scope, None, &bound);
        self.add(scope, cause, &started(cargo.clone()));
        let own = &joined("curl -d ", &self.text);
        let mut curl = subject(pid(turn, 2), &["curl"], &[&line, &bash_line, "codex exec"]);
        curl.argv = vec!["curl".into(), own.clone()].into();
        self.add(scope, cause, &started(curl.clone()));
        for number in 0..8 {
            let path = format!("/home/u/src/shop/target/{turn}/part-{number}.o");
            self.add(scope, cause, &changed(&path.as_str().into(), &cargo));
        }
        let allowed = self.decided(turn * 10, Verdict::Allow, "packages.test", curl.clone());
        self.add(scope, cause, &allowed);
        self.add(
            scope,
            cause,
            &Event::ConnectionClosed {
                host: "packages.test".to_owned(),
                port: 443,
                decision: DecisionId::new(turn * 10),
                bytes_out: 1_300,
                bytes_in: 4_000_000,
                duration_ms: 5,
                failed: None,
            },
        );
        let denied = self.decided(turn * 10 + 1, Verdict::Deny, "paste.test", curl.clone());
        self.add(scope, cause, &denied);
        self.asked(turn, cause, &name, &curl);
    }

    fn asked(&mut self, turn: u64, cause: Option<Cause>, scope: &str, by: &Subject) {
        let approval = ApprovalId::from_random(u32::try_from(turn).expect("turns are few"));
        let asked = self.decided(turn * 10 + 2, Verdict::Ask, "new.test", by.clone());
        let decision = asked.decision().expect("it has one").clone();
        self.add(
            Some(scope),
            cause,
            &Event::ApprovalRequested {
                approval: approval.clone(),
                decision,
                shown: String::new(),
                request_digest: Digest::of(b"r"),
                expires: UnixMillis(0),
            },
        );
        self.add(
            None,
            None,
            &Event::ApprovalDecided {
                approval,
                verdict: if turn.is_multiple_of(2) {
                    Verdict::Allow
                } else {
                    Verdict::Deny
                },
                scope: (turn.is_multiple_of(2)).then(|| "once".to_owned()),
                by: Person::Terminal.into(),
                reason: (turn % 2 == 1).then(|| self.text.display()),
                statement: None,
            },
        );
    }

    fn edit(&mut self, turn: u64, prompt: u64, call: u64) {
        let agent = subject(7, &["codex", "exec"], &[]);
        let cause = Some(Cause {
            turn: Some(prompt),
            call: Some(call),
            certainty: Certainty::Exact,
        });
        let path = joined(&format!("/home/u/src/shop/src/cart-{turn}-"), &self.text);
        self.add(None, cause, &changed(&path, &agent));
    }

    fn plan(&mut self, turn: u64, prompt: u64, call: u64) {
        let step = |text: &RawText, state: StepState| PlanStepSeen {
            id: None,
            text: Some(Said {
                bytes: u64::try_from(text.as_bytes().len()).expect("a length fits"),
                digest: None,
                text: Some(text.clone()),
            }),
            state: Some(state),
        };
        let steps = vec![
            step(&joined("read about ", &self.text), StepState::Done),
            step(&joined("handle ", &self.text), StepState::Active),
            step(&"test it".into(), StepState::Pending),
        ];
        let changed = Event::PlanChanged {
            process: subject(7, &["codex", "exec"], &[]),
            learned_from: ClaimSource::Traffic,
            decision: Some(DecisionId::new(1)),
            id: format!("call-{turn}").as_str().into(),
            call: Some(call),
            change: PlanChange::Replaced,
            steps: Listed {
                count: 3,
                first: steps,
            },
        };
        let cause = Some(Cause {
            turn: Some(prompt),
            call: Some(call),
            certainty: Certainty::Exact,
        });
        self.add(None, cause, &changed);
    }

    fn decided(&self, number: u64, verdict: Verdict, host: &str, by: Subject) -> Event {
        let decision = DecisionRecord {
            decision: DecisionId::new(number),
            verdict,
            kind: RequestKind::Net,
            subject: by,
            target: Target {
                host: Some(host.to_owned()),
                port: Some(443),
                ..Target::default()
            },
            rule: Some("paste-sites".parse().expect("an id")),
            answered: None,
            reason: format!("data leaves the company {}", self.text),
            failed_condition: None,
            nearest_allow: None,
            remedy: String::new(),
            policy_revision: Digest::of(b"p"),
            session: self.session.clone(),
            time: UnixMillis(0),
        };
        let address = (verdict == Verdict::Allow).then(|| "192.0.2.7".parse().expect("one"));
        Event::ConnectionDecided {
            decision,
            address,
            sni: None,
            detail: None,
        }
    }
}

fn model_called(name: &str) -> Event {
    Event::ModelCalled {
        process: subject(7, &["codex", "exec"], &[]),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(1)),
        host: "model.test".to_owned(),
        port: 443,
        provider: ModelProvider::Anthropic,
        api: ModelApi::Messages,
        model_asked: None,
        model: Some(name.into()),
        response_id: None,
        status: Some(200),
        streaming: true,
        usage: ModelUsage {
            input: Some(3_000_000),
            cached: Some(1_000_000),
            output: Some(1_000_000),
            ..ModelUsage::default()
        },
        finish: None,
        error: None,
        hosted_declared: vec![],
        hosted_used: vec![],
        functions: Listed::default(),
        prompts: Listed::default(),
        results: Listed::default(),
        calls: Listed::default(),
        said: None,
        bytes_out: 1,
        bytes_in: 1,
        duration_ms: 1,
        first_byte_ms: None,
        ended: CallEnd::Whole,
        unread: None,
    }
}

fn pid(turn: u64, number: u64) -> u32 {
    u32::try_from(100 + turn * 10 + number).expect("turns are few")
}

fn joined(front: &str, text: &RawText) -> RawText {
    RawText::from_bytes([front.as_bytes(), text.as_bytes()].concat())
}

pub(crate) fn subject(pid: u32, argv: &[&str], ancestry: &[&str]) -> Subject {
    Subject {
        id: Some(ProcessId { pid, start: 1 }),
        exe: format!("/usr/bin/{}", argv.first().expect("a program"))
            .as_str()
            .into(),
        argv: argv.iter().map(|word| RawText::from(*word)).collect(),
        cwd: "/home/u/src/shop".into(),
        ancestry: ancestry.iter().map(|line| RawText::from(*line)).collect(),
    }
}

pub(crate) fn started(process: Subject) -> Event {
    Event::ProcessStarted {
        process,
        digest: None,
        interpreter: None,
    }
}

pub(crate) fn changed(path: &RawText, by: &Subject) -> Event {
    Event::FileChanged {
        path: path.clone(),
        access: Access::Write,
        by: by.clone(),
        decision: None,
    }
}
