//! A week of sessions of a small team, for pictures of pages.

use std::path::Path;

use stockade_event::{
    BundleSeen, Cause, Counts, Event, LayerSeen, Listed, PlanStepSeen, Said, SessionOutcome, Stamp,
};
use stockade_types::{
    ApprovalId, AskMode, Certainty, ClaimSource, DecisionId, DecisionRecord, Digest, Person,
    PlanChange, RawText, RequestKind, Severity, StepState, Subject, Target, Tier, UnixMillis,
    Verdict, WorkspaceMode,
};

use super::{Writer, changed, model_called, pid, started, subject};

const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3_600 * SECOND_NS;
/// Sessions of a day.
const A_DAY: u64 = 4;

/// What sessions are about: a prompt, a command, a file, a host that is allowed, and one that is not.
const TASKS: [(&str, &str, &str, &str, &str); 6] = [
    (
        "make the cart handle empty baskets",
        "cargo test --package cart",
        "src/cart.rs",
        "index.crates.test",
        "paste.test",
    ),
    (
        "update the payment client to the new API, and keep the old one behind a flag",
        "npm run build",
        "src/payment/client.ts",
        "registry.test",
        "metrics.vendor.test",
    ),
    (
        "why is the nightly import slow? measure before you change anything",
        "python3 -m cProfile import.py",
        "import.py",
        "packages.test",
        "files.share.test",
    ),
    (
        "write the release notes for 2.4 and push the branch",
        "git push origin release-2.4",
        "CHANGES.md",
        "git.example.test",
        "chat.hooks.test",
    ),
    (
        "the date picker is wrong in leap years",
        "npx vitest run date",
        "src/date/picker.tsx",
        "registry.test",
        "cdn.fonts.test",
    ),
    (
        "add an index to orders and check the plan of the query",
        "psql -f migrate.sql",
        "migrations/0042_orders.sql",
        "db.internal.test",
        "169.254.169.254",
    ),
];

/// Writes the records of a week that ends at a time, in nanoseconds since 1970; returns their ids. `seed`
/// tells the weeks of several machines apart; the last session of each has no end.
pub fn week(state: &Path, seed: u64, now_ns: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for day in 0..7 {
        for number in 0..A_DAY {
            let place = day * A_DAY + number;
            let ago =
                (6 - day) * 24 * HOUR_NS + (A_DAY - number) * HOUR_NS + seed * 420 * SECOND_NS;
            let writer = Writer::at(
                state,
                0x0100_0000 * (seed + 1) + place,
                &"".into(),
                now_ns.saturating_sub(ago),
            );
            let task = usize::try_from((place + seed) % 6).expect("a place");
            let is_last = day == 6 && number + 1 == A_DAY;
            ids.push(writer.work(place, TASKS.get(task).expect("a task"), is_last));
        }
    }
    ids
}

type Task = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

impl Writer {
    fn work(mut self, place: u64, task: &Task, is_last: bool) -> String {
        let agent = if place.is_multiple_of(3) {
            "claude"
        } else {
            "codex"
        };
        self.start(agent, place);
        let turns = 2 + place % 5;
        for turn in 0..turns {
            self.at_ns += (5 + place * 7 % 40) * SECOND_NS;
            self.step(agent, place, turn, task);
        }
        if place % 4 == 1 {
            self.find(place);
        }
        if !is_last {
            let ended = Event::SessionEnded {
                outcome: SessionOutcome::Exited {
                    code: i32::from(place % 7 == 5),
                },
                duration_ms: (self.at_ns - self.begun_ns) / 1_000_000,
                counts: Counts::default(),
                own_usage: None,
            };
            self.add(None, None, &ended);
        }
        let stamp = Stamp {
            time_unix_ns: self.at_ns,
            mono_ns: self.at_ns - self.begun_ns,
        };
        let session = self.session.as_str().to_owned();
        if is_last {
            self.journal.checkpoint(stamp).expect("the disk has room");
        } else {
            self.journal.finish(stamp).expect("the disk has room");
        }
        session
    }

    fn start(&mut self, agent: &str, place: u64) {
        let begun = Event::SessionStarted {
            name: None,
            command: vec![agent.into(), "exec".into()],
            workspace: ["/home/lee/src/shop", "/home/lee/src/import"]
                .get(usize::from(place % 5 == 2))
                .map(|path| RawText::from(*path))
                .expect("a workspace"),
            mode: WorkspaceMode::Direct,
            tier: Tier::Native,
            preset: agent.to_owned(),
            ask: AskMode::Tty,
            uid: 1000,
            version: "0.1.0".to_owned(),
            policy_revision: Digest::of(b"policy"),
        };
        self.add(None, None, &begun);
        if place % 6 == 4 {
            let missing = Event::GuaranteeStated {
                guarantee: "disk".to_owned(),
                holds: false,
                how: String::new(),
                missing: Some("no cgroup v2 delegation".to_owned()),
                waiver: None,
            };
            self.add(None, None, &missing);
        }
        let loaded = Event::PolicyLoaded {
            revision: Digest::of(b"policy"),
            layers: Vec::<LayerSeen>::new(),
            rules: 41,
            quiet: None,
            bundle: None::<BundleSeen>,
        };
        self.add(None, None, &loaded);
    }

    fn step(&mut self, agent: &str, place: u64, turn: u64, task: &Task) {
        let (prompt, command, file, good, bad) = *task;
        let own = subject(7, &[agent, "exec"], &[]);
        let words = if turn == 0 { prompt } else { "go on" };
        let asked = Event::PromptSubmitted {
            process: own.clone(),
            learned_from: ClaimSource::Traffic,
            decision: Some(DecisionId::new(1)),
            aside: false,
            parts: Listed {
                count: 1,
                first: vec![said(words)],
            },
        };
        let prompt = self.add(None, None, &asked);
        let in_turn = Some(Cause {
            turn: Some(prompt),
            call: None,
            certainty: Certainty::Inferred,
        });
        self.add(None, in_turn, &model_called("model-large"));
        let called = Event::ToolCalled {
            process: own.clone(),
            learned_from: ClaimSource::Traffic,
            decision: Some(DecisionId::new(1)),
            id: format!("call-{turn}").as_str().into(),
            name: "shell".into(),
            arguments: Some(said(&format!("{{\"command\":\"{command}\"}}"))),
        };
        let call = self.add(None, in_turn, &called);
        let cause = Some(Cause {
            turn: Some(prompt),
            call: Some(call),
            certainty: Certainty::Exact,
        });
        let scope = format!("c-{turn}");
        let line = format!("bash -lc {command}");
        let bash = subject(pid(turn, 0), &["bash", "-lc", command], &[agent]);
        let words: Vec<&str> = command.split(' ').collect();
        let work = subject(pid(turn, 1), &words, &[&line, agent]);
        self.add(Some(&scope), None, &started(bash.clone()));
        let bound = Event::ScopeBound {
            scope: scope.clone(),
            process: bash,
            call,
            certainty: Certainty::Exact,
        };
        self.add(Some(&scope), None, &bound);
        self.add(Some(&scope), cause, &started(work.clone()));
        for number in 0..3 + place % 4 {
            let path = if number == 0 {
                format!("/home/lee/src/shop/{file}")
            } else {
                format!("/home/lee/src/shop/target/out-{turn}-{number}.o")
            };
            self.add(Some(&scope), cause, &changed(&path.as_str().into(), &work));
        }
        self.reach(&scope, cause, (place, turn), (good, bad, &work));
        if turn == 1 {
            self.scheme(agent, prompt, call);
        }
    }

    /// Connects to a host, is refused at another one, and asks a person.
    fn reach(
        &mut self,
        scope: &str,
        cause: Option<Cause>,
        (place, turn): (u64, u64),
        (good, bad, work): (&str, &str, &Subject),
    ) {
        let first = turn * 20;
        let net = |host: &str, verdict| (host.to_owned(), verdict);
        let mut flows = vec![net(good, Verdict::Allow)];
        if (place + turn).is_multiple_of(3) {
            flows.push(net(bad, Verdict::Deny));
        }
        for (number, (host, verdict)) in (first..).zip(flows) {
            self.connect(scope, cause, (number, &host, verdict), work);
        }
        if (place + turn) % 5 == 2 {
            self.question(scope, cause, (first + 10, place, turn), work);
        }
    }

    fn connect(
        &mut self,
        scope: &str,
        cause: Option<Cause>,
        (number, host, verdict): (u64, &str, Verdict),
        by: &Subject,
    ) {
        let allowed = verdict == Verdict::Allow;
        let target = Target {
            host: Some(host.to_owned()),
            port: Some(443),
            ..Target::default()
        };
        let decision = DecisionRecord {
            rule: Some(
                if allowed { "registries" } else { "no-paste" }
                    .parse()
                    .expect("an id"),
            ),
            reason: if allowed {
                "packages are downloaded here".to_owned()
            } else {
                "data leaves the company".to_owned()
            },
            remedy: if allowed {
                String::new()
            } else {
                "ask security for a rule".to_owned()
            },
            ..self.record(number, verdict, RequestKind::Net, target, by)
        };
        let decided = Event::ConnectionDecided {
            decision,
            address: allowed.then(|| "192.0.2.7".parse().expect("one")),
            sni: Some(host.to_owned()),
            detail: None,
        };
        self.add(Some(scope), cause, &decided);
        if allowed {
            let closed = Event::ConnectionClosed {
                host: host.to_owned(),
                port: 443,
                decision: DecisionId::new(number),
                bytes_out: 1_300 + number,
                bytes_in: 40_000 + number * 977,
                duration_ms: 40,
                failed: None,
            };
            self.add(Some(scope), cause, &closed);
        }
    }

    fn question(
        &mut self,
        scope: &str,
        cause: Option<Cause>,
        (number, place, turn): (u64, u64, u64),
        by: &Subject,
    ) {
        let target = Target {
            path: Some("/usr/bin/git".into()),
            argv: ["git", "push", "origin", "main"]
                .map(RawText::from)
                .to_vec(),
            cwd: Some("/home/lee/src/shop".into()),
            ..Target::default()
        };
        let decision = DecisionRecord {
            rule: Some("prod-push".parse().expect("an id")),
            reason: "what is pushed to main is deployed".to_owned(),
            ..self.record(number, Verdict::Ask, RequestKind::Exec, target, by)
        };
        let random = u32::try_from(place * 16 + turn).expect("few");
        let approval = ApprovalId::from_random(random);
        let requested = Event::ApprovalRequested {
            approval: approval.clone(),
            decision,
            shown: "git push origin main".to_owned(),
            request_digest: Digest::of(b"request"),
            expires: UnixMillis(self.at_ns / 1_000_000 + 300_000),
        };
        self.add(Some(scope), cause, &requested);
        self.at_ns += 35 * SECOND_NS;
        let is_yes = place.is_multiple_of(2);
        let decided = Event::ApprovalDecided {
            approval,
            verdict: if is_yes {
                Verdict::Allow
            } else {
                Verdict::Deny
            },
            scope: is_yes.then(|| "once".to_owned()),
            by: Person::Terminal.into(),
            reason: (!is_yes).then(|| "open a merge request instead".to_owned()),
            statement: None,
        };
        self.add(None, None, &decided);
    }

    fn scheme(&mut self, agent: &str, prompt: u64, call: u64) {
        let step = |text: &str, state| PlanStepSeen {
            id: None,
            text: Some(said(text)),
            state: Some(state),
        };
        let changed = Event::PlanChanged {
            process: subject(7, &[agent, "exec"], &[]),
            learned_from: ClaimSource::Traffic,
            decision: Some(DecisionId::new(1)),
            id: "call-plan".into(),
            call: Some(call),
            change: PlanChange::Replaced,
            steps: Listed {
                count: 2,
                first: vec![
                    step("read what is there", StepState::Done),
                    step("change it, and run the tests", StepState::Active),
                ],
            },
        };
        let cause = Some(Cause {
            turn: Some(prompt),
            call: Some(call),
            certainty: Certainty::Exact,
        });
        self.add(None, cause, &changed);
    }

    fn find(&mut self, place: u64) {
        let found = Event::FindingRaised {
            severity: if place % 8 == 1 {
                Severity::High
            } else {
                Severity::Low
            },
            title: "the agent said something else than it did".to_owned(),
            detail: "it said `sharing a log` and sent `.env`".to_owned(),
            decisions: vec![DecisionId::new(1)],
        };
        self.add(None, None, &found);
        if place % 8 == 5 {
            let sent = Event::SecretSent {
                host: "git.example.test".to_owned(),
                port: 443,
                decision: DecisionId::new(0),
                what: "github-token".to_owned(),
                place: "body".into(),
                form: "plain".to_owned(),
                at: 12,
                bytes: 40,
                mark: "5f0c9a11".to_owned(),
            };
            self.add(None, None, &sent);
        }
    }

    fn record(
        &self,
        number: u64,
        verdict: Verdict,
        kind: RequestKind,
        target: Target,
        by: &Subject,
    ) -> DecisionRecord {
        DecisionRecord {
            decision: DecisionId::new(number),
            verdict,
            kind,
            subject: by.clone(),
            target,
            rule: None,
            answered: None,
            reason: String::new(),
            failed_condition: None,
            nearest_allow: None,
            remedy: String::new(),
            policy_revision: Digest::of(b"policy"),
            session: self.session.clone(),
            time: UnixMillis(self.at_ns / 1_000_000),
        }
    }
}

fn said(text: &str) -> Said {
    Said {
        bytes: u64::try_from(text.len()).expect("a length fits"),
        digest: None,
        text: Some(text.into()),
    }
}
