//! Samples that the tests of this crate share.
#![expect(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "not every test file uses every sample")]

use stockade_event::{
    BundleSeen, Counts, Event, HostedToolSeen, LayerSeen, Listed, Measured, ModelUsage,
    PlanStepSeen, RolloutSeen, Said, SessionOutcome, ShadowCounts, Stamp, TextSeen, ToolCallSeen,
    ToolPin, ToolResultSeen, Usage,
};
use stockade_types::{
    Access, ApprovalId, AskMode, Authorisation, CallEnd, Certainty, ClaimSource, DecisionId,
    DecisionRecord, Digest, LimitName, ModelApi, ModelProvider, Person, PlanChange, ProcessId,
    RawText, RequestKind, Risk, RolloutArm, SessionId, Severity, StepState, Subject, Target, Tier,
    UnixMillis, Verdict, WorkspaceMode,
};

/// Every byte, then texts that break out of JSON, terminals, CSV and pages.
pub(crate) fn hostile() -> RawText {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend_from_slice(
        b"\"}\n{\"chain\":\"\",\"event\":{}}\r\n\x1b[2J=cmd|'/c'!A1,<script>\\x41",
    );
    bytes.extend_from_slice("\u{2028}\u{202e}CEF:0|a|b=\u{e0041}".as_bytes());
    RawText::from_bytes(bytes)
}

pub(crate) fn subject(text: &RawText) -> Subject {
    Subject {
        id: Some(ProcessId {
            pid: 4711,
            start: 99_887,
        }),
        exe: text.clone(),
        argv: vec![text.clone(), "install".into()].into(),
        cwd: text.clone(),
        ancestry: vec![text.clone(), "codex".into()].into(),
    }
}

pub(crate) fn decision(text: &RawText, number: u64, verdict: Verdict) -> DecisionRecord {
    DecisionRecord {
        decision: DecisionId::new(number),
        verdict,
        kind: RequestKind::Net,
        subject: subject(text),
        target: Target {
            host: Some("paste.test".to_owned()),
            port: Some(443),
            path: Some(text.clone()),
            argv: vec![],
            ..Target::default()
        },
        rule: Some("paste-sites".parse().unwrap()),
        answered: None,
        reason: text.display(),
        failed_condition: Some("host".to_owned()),
        nearest_allow: None,
        remedy: "ask a policy owner".to_owned(),
        policy_revision: Digest::of(b"policy"),
        session: session(),
        time: UnixMillis(1_700_000_000_000),
    }
}

pub(crate) fn session() -> SessionId {
    SessionId::from_random(0x3f2a_0000_0000_0001)
}

pub(crate) fn stamp(number: u64) -> Stamp {
    Stamp {
        time_unix_ns: 1_700_000_000_000_000_000 + number * 1_000_000,
        mono_ns: number * 1_000_000,
    }
}

/// One event of every kind, with `text` in every place that a session can fill with its own bytes.
pub(crate) fn every_kind(text: &RawText) -> Vec<Event> {
    let mut events = begun(text);
    events.extend(decided(text));
    events.extend(done(text));
    events.extend(lived(text));
    events.extend(approved(text));
    events.extend(watched(text));
    events.push(called(text));
    events.extend(said(text));
    events.push(pinned(text));
    events
}

fn begun(text: &RawText) -> Vec<Event> {
    let words = text.display();
    vec![
        Event::SessionStarted {
            name: Some(words.clone()),
            command: vec!["codex".into(), text.clone()],
            workspace: text.clone(),
            mode: WorkspaceMode::Direct,
            tier: Tier::Native,
            preset: "codex".to_owned(),
            ask: AskMode::Tty,
            uid: 1000,
            version: "0.1.0".to_owned(),
            policy_revision: Digest::of(b"policy"),
        },
        Event::GuaranteeStated {
            guarantee: "disk".to_owned(),
            holds: false,
            how: String::new(),
            missing: Some("cgroup v2".to_owned()),
            waiver: None,
        },
        Event::PolicyLoaded {
            revision: Digest::of(b"policy"),
            layers: vec![LayerSeen {
                origin: "session".to_owned(),
                name: words.clone(),
                digest: Digest::of(b"layer"),
            }],
            rules: 12,
            quiet: Some(vec!["telemetry".parse().unwrap()]),
            bundle: Some(BundleSeen {
                channel: words.clone(),
                serial: u64::MAX,
                digest: Digest::of(b"layer"),
                rollout: Some(RolloutSeen {
                    rollout: words.clone(),
                    step: u32::MAX,
                    arm: RolloutArm::Canary,
                }),
            }),
        },
        Event::PolicyDiffered {
            decision: DecisionId::new(7),
            verdict: Verdict::Allow,
            rule: None,
            candidate_verdict: Verdict::Deny,
            candidate_rule: Some("no-paste".parse().unwrap()),
        },
        Event::PolicyCompared {
            counts: ShadowCounts {
                compared: u64::MAX,
                differed: 1,
                denied: 2,
                candidate_denied: 3,
                asked: 4,
                candidate_asked: 5,
            },
        },
        Event::PolicyTightened {
            channel: words.clone(),
            serial: u64::MAX,
            digest: Digest::of(b"layer"),
            denies: true,
        },
        Event::ProcessStarted {
            process: subject(text),
            digest: Some(Digest::of(b"exe")),
            interpreter: Some(text.clone()),
        },
    ]
}

fn done(text: &RawText) -> [Event; 5] {
    [
        Event::SecretSent {
            host: "model.test".to_owned(),
            port: 443,
            decision: DecisionId::new(3),
            what: text.display(),
            place: text.clone(),
            form: "base64".to_owned(),
            at: u64::MAX,
            bytes: 40,
            mark: "0a1b2c3d".to_owned(),
        },
        Event::PortPublished {
            port: 3000,
            outside: 8080,
            by: text.display(),
        },
        Event::FileChanged {
            path: text.clone(),
            access: Access::Write,
            by: subject(text),
            decision: None,
        },
        Event::ConnectionClosed {
            host: "model.test".to_owned(),
            port: 443,
            decision: DecisionId::new(3),
            bytes_out: u64::MAX,
            bytes_in: 7,
            duration_ms: 12,
            failed: Some(text.display()),
        },
        Event::LimitReached {
            limit: LimitName::Memory,
            configured: 1 << 32,
            usage: 1 << 33,
            detail: "killed".to_owned(),
        },
    ]
}

fn called(text: &RawText) -> Event {
    let seen = TextSeen {
        bytes: u64::MAX,
        digest: Digest::of(b"said"),
    };
    let tool = HostedToolSeen {
        name: text.clone(),
        server: Some(text.clone()),
        count: 2,
    };
    Event::ModelCalled {
        process: subject(text),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(7)),
        host: "model.test".to_owned(),
        port: 443,
        provider: ModelProvider::Anthropic,
        api: ModelApi::Messages,
        model_asked: Some(text.clone()),
        model: Some(text.clone()),
        response_id: Some(text.clone()),
        status: Some(529),
        streaming: true,
        usage: ModelUsage {
            input: Some(1234),
            cached: Some(900),
            cache_written: Some(0),
            output: Some(u64::MAX),
            reasoning: None,
        },
        finish: Some(text.clone()),
        error: Some(text.clone()),
        hosted_declared: vec![tool.clone()],
        hosted_used: vec![tool],
        functions: Listed {
            count: 40,
            first: vec![text.clone()],
        },
        prompts: Listed {
            count: 1,
            first: vec![seen],
        },
        results: Listed {
            count: 3,
            first: vec![ToolResultSeen {
                call: text.clone(),
                text: seen,
            }],
        },
        calls: Listed {
            count: 1,
            first: vec![ToolCallSeen {
                id: text.clone(),
                name: text.clone(),
                arguments: Some(seen),
            }],
        },
        said: Some(seen),
        bytes_out: 7,
        bytes_in: 8,
        duration_ms: 1500,
        first_byte_ms: Some(12),
        ended: CallEnd::Cut,
        unread: Some(text.display()),
    }
}

/// Tools of a server that are known from here on.
fn pinned(text: &RawText) -> Event {
    Event::ToolsPinned {
        process: subject(text),
        learned_from: ClaimSource::Traffic,
        decision: Some(DecisionId::new(7)),
        server: text.clone(),
        form: "messages".to_owned(),
        tools: Listed {
            count: u64::MAX,
            first: vec![ToolPin {
                tool: text.clone(),
                digest: Digest::of(b"now"),
                before: Some(Digest::of(b"was")),
            }],
        },
        approval: None,
    }
}

fn said(text: &RawText) -> [Event; 8] {
    let said = Said {
        bytes: u64::MAX,
        digest: Some(Digest::of(b"said")),
        text: Some(text.clone()),
    };
    let (decision, learned_from) = (Some(DecisionId::new(7)), ClaimSource::Traffic);
    [
        Event::PromptSubmitted {
            process: subject(text),
            learned_from,
            decision,
            aside: false,
            parts: Listed {
                count: 2,
                first: vec![said.clone(), Said::default()],
            },
        },
        Event::ToolCalled {
            process: subject(text),
            learned_from,
            decision,
            id: text.clone(),
            name: text.clone(),
            arguments: Some(said.clone()),
        },
        Event::ToolReturned {
            process: subject(text),
            learned_from,
            decision,
            id: text.clone(),
            call: Some(u64::MAX),
            text: said.clone(),
            is_error: Some(true),
        },
        plan_changed(text, said),
        Event::AgentStarted {
            process: subject(text),
            learned_from,
            call: 7,
            prompt: u64::MAX,
        },
        Event::AgentEnded {
            process: subject(text),
            learned_from,
            call: 7,
        },
        Event::ClaimRepeated {
            process: subject(text),
            learned_from: ClaimSource::Hook,
            claim: u64::MAX,
            agrees: false,
        },
        Event::ScopeBound {
            scope: text.display(),
            process: subject(text),
            call: 7,
            certainty: Certainty::Inferred,
        },
    ]
}

fn plan_changed(text: &RawText, said: Said) -> Event {
    let (decision, learned_from) = (Some(DecisionId::new(7)), ClaimSource::Traffic);
    Event::PlanChanged {
        process: subject(text),
        learned_from,
        decision,
        id: text.clone(),
        call: Some(u64::MAX),
        change: PlanChange::Replaced,
        steps: Listed {
            count: u64::MAX,
            first: vec![
                PlanStepSeen {
                    id: Some(text.clone()),
                    text: Some(said),
                    state: Some(StepState::Active),
                },
                PlanStepSeen::default(),
            ],
        },
    }
}

fn approved(text: &RawText) -> [Event; 7] {
    let words = text.display();
    let approval = ApprovalId::from_random(0x7f3a);
    [
        Event::ApprovalRequested {
            approval: approval.clone(),
            decision: decision(text, 7, Verdict::Ask),
            shown: words.clone(),
            request_digest: Digest::of(b"request"),
            expires: UnixMillis(1_700_000_300_000),
        },
        Event::ApprovalDecided {
            approval: approval.clone(),
            verdict: Verdict::Deny,
            scope: Some("once".to_owned()),
            by: Person::Terminal.into(),
            reason: Some(words.clone()),
            statement: Some(serde_json::json!({"payload": "AA=="})),
        },
        Event::ApprovalReviewed {
            approval: approval.clone(),
            verdict: None,
            said: Some(Verdict::Allow),
            risk: Some(Risk::High),
            authorisation: Some(Authorisation::Implied),
            reviewer: words.clone(),
            rationale: text.clone(),
        },
        Event::ApprovalUsed {
            approval,
            decision: DecisionId::new(7),
        },
        Event::CredentialUsed {
            credential: "svc".parse().unwrap(),
            decision: DecisionId::new(7),
            host: "good.test".to_owned(),
            port: 443,
            method: "GET".to_owned(),
            path: text.clone(),
            user: Some(text.display()),
        },
        Event::CredentialRefused {
            decision: decision(text, 7, Verdict::Deny),
        },
        Event::LoginRenewed {
            login: "svc".parse().unwrap(),
            decision: DecisionId::new(7),
            written: false,
            reason: Some(text.display()),
        },
    ]
}

fn watched(text: &RawText) -> [Event; 5] {
    let words = text.display();
    [
        Event::EventsLost {
            source: "sensor".to_owned(),
            count: 3,
            reason: words.clone(),
        },
        Event::TerminalRecorded {
            bytes: 4_096,
            digest: Some(Digest::of(b"recording")),
            hidden: 2,
            missing: Some(words.clone()),
        },
        Event::OperatorActed {
            action: "stop".to_owned(),
            by: "uid 1000".to_owned(),
            detail: words.clone(),
        },
        Event::FindingRaised {
            severity: Severity::High,
            title: words.clone(),
            detail: words,
            decisions: vec![DecisionId::new(1)],
        },
        Event::SessionEnded {
            outcome: SessionOutcome::Exited { code: 0 },
            duration_ms: 840_000,
            counts: Counts {
                processes: 1,
                ..Counts::default()
            },
            own_usage: None,
        },
    ]
}

fn lived(text: &RawText) -> [Event; 3] {
    [
        Event::ProcessEnded {
            process: subject(text),
            code: Some(1),
            signal: None,
            duration_ms: 1_200,
            usage: usage(),
            usage_age_ms: Some(300),
        },
        Event::ScopeEnded {
            scope: "c-1".to_owned(),
            process: subject(text),
            processes: 38,
            code: None,
            signal: Some(9),
            duration_ms: 12_400,
            usage: usage(),
        },
        Event::ResourcesSampled {
            processes: 3,
            memory_bytes: Some(40 << 20),
            usage: usage(),
            measured: Measured::Processes,
        },
    ]
}

fn usage() -> Usage {
    Usage {
        cpu_user_us: Some(900_000),
        cpu_system_us: Some(70_000),
        memory_peak_bytes: Some(120 << 20),
        bytes_read: Some(4_096),
        bytes_written: None,
    }
}

fn decided(text: &RawText) -> [Event; 9] {
    [
        Event::ExecUnconfirmed {
            process: subject(text),
            why: text.display(),
            suspicious: true,
        },
        Event::RefusalRepeated {
            decision: DecisionId::new(1),
            count: 12,
        },
        Event::ExecDecided {
            decision: decision(text, 1, Verdict::Allow),
        },
        Event::FileDenied {
            decision: decision(text, 2, Verdict::Deny),
        },
        Event::CallRefused {
            decision: decision(text, 6, Verdict::Deny),
        },
        Event::NameDecided {
            decision: decision(text, 3, Verdict::Deny),
        },
        Event::ConnectionDecided {
            decision: decision(text, 4, Verdict::Deny),
            address: Some("192.0.2.7".parse().unwrap()),
            sni: Some("paste.test".to_owned()),
            detail: Some("opaque".to_owned()),
        },
        Event::HttpDecided {
            decision: decision(text, 5, Verdict::Deny),
        },
        Event::ToolDecided {
            decision: decision(text, 7, Verdict::Deny),
            id: Some(text.clone()),
        },
    ]
}
