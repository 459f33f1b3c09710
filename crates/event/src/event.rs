//! The closed set of events.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stockade_types::{
    Access, Answerer, ApprovalId, AskMode, Authorisation, CallEnd, Certainty, ClaimSource,
    DecisionId, DecisionRecord, Digest, LimitName, ModelApi, ModelProvider, PlanChange, RawText,
    Risk, RuleId, Severity, Subject, Target, Tier, UnixMillis, Verdict, WorkspaceMode,
};

use crate::{
    beside::Beside,
    catalogue::{FieldDoc, KindDoc},
    cause::Said,
    claims::with_claims,
    declare::{FieldWriter, apply, events, request, server},
    model::{HostedToolSeen, Listed, ModelUsage, TextSeen, ToolCallSeen, ToolPin, ToolResultSeen},
    plan::{PlanStepSeen, plan_line},
    text::{
        ModelCall, because, bytes, changed_line, connection_line, credential_line, decided,
        differed_line, guarantee_line, limit_text, login_line, model_line, passed, pins_line,
        prompt_line, recording_line, safe, secret_line, tool_line, words,
    },
    totals::{BundleSeen, Counts, LayerSeen, SessionOutcome, ShadowCounts},
    usage::{Ending, Measured, Usage, ended_line, sample_line, scope_line},
};

with_claims! { events! {
    /// A session began; it is always the first event.
    "session.started" SessionStarted {
        /// Name given with `--name`.
        name: Option<String>,
        /// The command and its arguments.
        command: Vec<RawText>,
        /// The workspace on the host.
        workspace: RawText,
        /// `direct` or `review`.
        mode: WorkspaceMode,
        /// The tier in use, for example `native`.
        tier: Tier,
        /// The preset in use.
        preset: String,
        /// Who answers asks: `tty`, `inbox` or `deny`.
        ask: AskMode,
        /// User id of the supervisor.
        uid: u32,
        /// Version of Stockade.
        version: String,
        /// Digest of the policy in force.
        policy_revision: Digest,
    }
    => format!("{} in {workspace} ({})", words(command), tier);
    /// A session ended; it is always the last event.
    "session.ended" SessionEnded {
        /// How it ended.
        outcome: SessionOutcome,
        /// From start to end, in milliseconds.
        duration_ms: u64,
        /// Totals.
        counts: Counts,
        /// What the supervisor and the egress process used.
        own_usage: Option<Usage>,
    }
    => outcome.text("the command");
    closes true;
    /// A guarantee of the session, or the statement that it does not hold.
    "guarantee.stated" GuaranteeStated {
        /// Which guarantee, for example `network`.
        guarantee: String,
        /// Whether it holds.
        holds: bool,
        /// The layers that hold it.
        how: String,
        /// What the machine lacks, if the guarantee does not hold.
        missing: Option<String>,
        /// The reason given with `--waive`.
        waiver: Option<String>,
    }
    => guarantee_line(guarantee, *holds, missing.as_deref().unwrap_or(how));
    /// A policy came into force.
    "policy.loaded" PolicyLoaded {
        /// Digest of all layers.
        revision: Digest,
        /// The layers from the strongest to the weakest.
        layers: Vec<LayerSeen>,
        /// Number of rules.
        rules: u64,
        /// Rules whose refusals are counted in one line instead of reported one by one.
        quiet: Option<Vec<RuleId>>,
        /// The one among the layers that the organisation has published and signed.
        bundle: Option<BundleSeen>,
    }
    => format!("{} with {rules} rules", revision.short());
    /// The candidate of a rollout would have decided otherwise, or by another rule. The policy in force has
    /// decided: the event with this decision follows. At most a thousand in a session; all are counted in
    /// `policy.compared`.
    "policy.differed" PolicyDiffered {
        /// The decision of the policy in force.
        decision: DecisionId,
        /// What that policy says without an answer of a person.
        verdict: Verdict,
        /// Its rule.
        rule: Option<RuleId>,
        /// What the candidate says.
        candidate_verdict: Verdict,
        /// Its rule.
        candidate_rule: Option<RuleId>,
    }
    => differed_line(*decision, (*verdict, rule.as_ref()), (*candidate_verdict, candidate_rule.as_ref()));
    /// How often the candidate of a rollout was compared with the policy in force, and what each said; of
    /// the whole session so far. At most once a minute, and at the end.
    "policy.compared" PolicyCompared {
        /// The numbers.
        counts: ShadowCounts,
    }
    => format!("{} decisions compared, {} differ", counts.compared, counts.differed);
    closes true;
    /// A policy that was published while the session runs denies in it from now on, too, or does so no more.
    /// It allows nothing in it.
    "policy.tightened" PolicyTightened {
        /// The channel of the bundle.
        channel: String,
        /// Its serial.
        serial: u64,
        /// Digest of its text.
        digest: Digest,
        /// Whether it does; if not, the session's own policy is in force again and decides alone.
        denies: bool,
    }
    => format!("{} {serial} denies in this session {}", safe(channel), if *denies { "too" } else { "no more" });
    /// A process was permitted to run a program. If the execution was not verified,
    /// `exec.unconfirmed` says so.
    "process.started" ProcessStarted {
        /// The process.
        @beside process: Subject,
        /// SHA-256 of the executable, if it was read.
        digest: Option<Digest>,
        /// The interpreter that a `#!` line names.
        interpreter: Option<RawText>,
    }
    => words(&process.argv);
    counts |counts| counts.processes += 1;
    /// A process that executed a program has ended. What it did is in earlier events, except for what is
    /// learned only later, such as the end of a connection.
    "process.ended" ProcessEnded {
        /// The process, with the last program that it was permitted to run.
        @beside process: Subject,
        /// Its exit code, 0 to 255, if it ended by itself.
        code: Option<i32>,
        /// Number of the signal that ended it; neither is known where the kernel does not tell it (before
        /// Linux 6.15) and the process did not end by itself.
        signal: Option<i32>,
        /// From its first execution to its end, in milliseconds.
        duration_ms: u64,
        /// What it used itself, without its children and, for bytes, without threads that had ended.
        usage: Usage,
        /// How long before its end that was read, in milliseconds; none if it is what it had used at its
        /// end.
        usage_age_ms: Option<u64>,
    }
    => ended_line(process, &Ending { code: *code, signal: *signal, duration_ms: *duration_ms, usage });
    closes true;
    /// No process is left of a command of the agent, of those that executed a program. If one that had
    /// executed none goes on and executes one, there is a further event, with what came since this one.
    "scope.ended" ScopeEnded {
        /// The command.
        scope: String,
        /// The process that began it.
        @beside process: Subject,
        /// Processes that executed a program.
        processes: u64,
        /// Exit code of the process that began it, as in `process.ended`.
        code: Option<i32>,
        /// Signal that ended it.
        signal: Option<i32>,
        /// From its first execution to the end of its last process, in milliseconds.
        duration_ms: u64,
        /// What its processes used; the memory is that of the largest.
        usage: Usage,
    }
    => scope_line(scope, *processes, &Ending { code: *code, signal: *signal, duration_ms: *duration_ms, usage });
    closes true;
    /// What the session uses. One sample a second at first; the pause doubles with each 600 samples, and
    /// a sample that says the same as the one before is not recorded. The last one comes at the end.
    "resources.sampled" ResourcesSampled {
        /// Processes that have executed a program and run now.
        processes: u64,
        /// Memory in use: that of the session's control group, or the sum of what is resident of each
        /// process, in which shared pages count for each.
        memory_bytes: Option<u64>,
        /// What the session used so far; of memory, the most at one time.
        usage: Usage,
        /// `control-group`, or `processes`: those that executed a program, without what ended unseen.
        measured: Measured,
    }
    => sample_line(*processes, *memory_bytes, usage);
    closes true;
    /// A program was about to run and was judged.
    "exec.decided" ExecDecided {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    => decided(decision);
    /// A permitted execution was not verified: its process was gone at the post-exec verification, or
    /// the execution failed in the kernel.
    "exec.unconfirmed" ExecUnconfirmed {
        /// The process, as it was judged.
        @beside process: Subject,
        /// What is known about it, for example where its path leads now.
        why: String,
        /// Whether its path now leads to a program that may not run.
        suspicious: bool,
    }
    => format!("{}: {}", process.exe, safe(why));
    counts |counts| counts.unconfirmed += 1;
    closes true;
    /// Equal refusals that were only counted: those beyond the bound of a second, and further calls
    /// of a program that the filter refuses.
    "refusal.repeated" RefusalRepeated {
        /// The last such refusal with an event of its own.
        decision: DecisionId,
        /// Number of refusals since.
        count: u64,
    }
    => format!("{decision} {count} times more");
    counts |counts| {
        counts.decisions += count;
        counts.denials += count;
    };
    closes true;
    /// A change of a file was refused.
    "file.denied" FileDenied {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    => decided(decision);
    /// A system call was refused by the filter, or was answered without being made.
    "call.refused" CallRefused {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    => decided(decision);
    /// A name was looked up and judged.
    "name.decided" NameDecided {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    => decided(decision);
    /// A connection was judged.
    "connection.decided" ConnectionDecided {
        /// The decision.
        @beside decision: DecisionRecord,
        /// The checked address that is dialled.
        address: Option<IpAddr>,
        /// Server name in the TLS `ClientHello`.
        sni: Option<String>,
        /// What else is known, for example `opaque`.
        detail: Option<String>,
    }
    => connection_line(decision, address.is_some(), detail.as_deref());
    /// One HTTP request was judged.
    "http.decided" HttpDecided {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    => decided(decision);
    /// An agent was about to use a tool, and a rule says something of it.
    "tool.decided" ToolDecided {
        /// The decision.
        @beside decision: DecisionRecord,
        /// The id of the call, as in `tool.called`, if the agent says one.
        id: Option<RawText>,
    }
    => decided(decision);
    /// A file was changed.
    "file.changed" FileChanged {
        /// Canonical path inside.
        path: RawText,
        /// `write`, `create`, `remove`, `rename` or `mode`.
        access: Access,
        /// Who changed it.
        @beside by: Subject,
        /// The decision, if a person was asked.
        @beside decision: Option<DecisionRecord>,
    }
    => changed_line(decision.as_ref(), *access, path, by);
    target Target { path: Some(path.clone()), access: Some(*access), ..Target::default() };
    counts |counts| counts.file_changes += 1;
    /// An allowed connection ended, or could not be made.
    "connection.closed" ConnectionClosed {
        /// Canonical name or address.
        host: String,
        /// Port.
        port: u16,
        /// The decision that allowed it.
        decision: DecisionId,
        /// Bytes from the session to the host.
        bytes_out: u64,
        /// Bytes from the host to the session.
        bytes_in: u64,
        /// From dial to end, in milliseconds.
        duration_ms: u64,
        /// Why it was never made, if the network is the cause: `connection refused`, `timed out`, `no
        /// route to host`.
        failed: Option<String>,
    }
    => format!("{decision} {}:{port}  {}", safe(host), passed(*bytes_out, *bytes_in, failed.as_deref()));
    target server(host, *port);
    counts |counts| counts.connections += 1;
    closes true;
    /// A port of the session became reachable on the machine's loopback.
    "port.published" PortPublished {
        /// The port on which a program of the session listens.
        port: u16,
        /// The port of the machine's loopback.
        outside: u16,
        /// What requested it: the place in policy, or the approval.
        by: String,
    }
    => format!("{port} as port {outside} of this machine's loopback ({})", safe(by));
    /// A secret was found in what a session sends, and was let out. Said once for each secret, host and
    /// place.
    "secret.sent" SecretSent {
        /// Canonical name or address.
        host: String,
        /// Port.
        port: u16,
        /// The decision that allowed the request.
        decision: DecisionId,
        /// What it is, for example `github-token`; never the secret itself.
        what: String,
        /// `path`, `body`, or `field` with its name.
        place: RawText,
        /// `plain`, `base64`, `hex`, `percent-encoded` or `json-escaped`.
        form: String,
        /// Its first byte, counted from the beginning of the place.
        at: u64,
        /// Its length as text.
        bytes: u64,
        /// Equal for equal secrets of one session; nothing can be computed from it.
        mark: String,
    }
    => format!("{decision} {}", secret_line(what, (form, *bytes, mark), place, host, *port));
    /// A limit was hit.
    "limit.reached" LimitReached {
        /// Which limit, for example `memory`.
        limit: LimitName,
        /// Its value: bytes for `memory` and `journal`, milliseconds for `wall_time`, otherwise a number.
        configured: u64,
        /// What was used, in the same unit.
        usage: u64,
        /// What was done about it.
        detail: String,
    }
    => safe(&limit_text(*limit, *configured, *usage, detail));
    closes true;
    /// A person was asked.
    "approval.requested" ApprovalRequested {
        /// The approval.
        approval: ApprovalId,
        /// The decision with verdict `ask`.
        @beside decision: DecisionRecord,
        /// The text that was shown, exactly.
        shown: String,
        /// Digest of the exact request, to which a once-only answer is bound.
        request_digest: Digest,
        /// When the question becomes a deny without an answer.
        expires: UnixMillis,
    }
    => decided(decision);
    counts |counts| counts.asks += 1;
    /// The automatic reviewer has said something about a question, before people see it.
    "approval.reviewed" ApprovalReviewed {
        /// The approval.
        approval: ApprovalId,
        /// What that comes to: allow or deny; nothing if it is passed on.
        verdict: Option<Verdict>,
        /// What it said itself; it may say more than its rule lets it.
        said: Option<Verdict>,
        /// How much harm it sees.
        risk: Option<Risk>,
        /// Whether it sees that the person has asked for it.
        authorisation: Option<Authorisation>,
        /// Who said so: `checks`, or `model NAME`.
        reviewer: String,
        /// Why, in its words. A model writes what it wants.
        rationale: RawText,
    }
    => format!(
        "{} {approval} by {}: {}",
        verdict.map_or("passed on", Verdict::as_str),
        safe(reviewer),
        safe(&rationale.display())
    );
    /// An approval was answered.
    "approval.decided" ApprovalDecided {
        /// The approval.
        approval: ApprovalId,
        /// The answer.
        verdict: Verdict,
        /// How far the answer reaches, for example `once`.
        scope: Option<String>,
        /// Who answered: `terminal`, `inbox uid 1000`, `people ann, ben`, `timeout`, `no-one-to-ask`.
        by: Answerer,
        /// Why, in the words of the person who answered.
        reason: Option<String>,
        /// The signed statement of people in roles who allowed it, exactly as it came: a DSSE envelope with
        /// their votes.
        statement: Option<Value>,
    }
    => format!("{verdict} {approval} by {by}{}", because(reason.as_deref()));
    /// A granted approval allowed a request.
    "approval.used" ApprovalUsed {
        /// The approval.
        approval: ApprovalId,
        /// The decision that it allowed.
        decision: DecisionId,
    }
    => format!("{approval} for {decision}");
    /// A request was about to be sent with a credential that programs inside do not have.
    "credential.used" CredentialUsed {
        /// The credential's id in the policy.
        credential: RuleId,
        /// The decision that allowed the request.
        decision: DecisionId,
        /// Canonical name or address.
        host: String,
        /// Port.
        port: u16,
        /// Method, as sent; `publickey` for a login of ssh.
        method: String,
        /// Path with query, as the program sent it; empty for a login of ssh.
        path: RawText,
        /// The user that a login of ssh is for.
        user: Option<String>,
    }
    => format!(
        "{credential} for {decision}: {}",
        credential_line(method, user.as_deref(), host, *port, path)
    );
    target request(method, path, server(host, *port));
    /// A signature with a key that programs inside do not have was refused.
    "credential.refused" CredentialRefused {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    => decided(decision);
    /// A login of an agent, whose tokens programs inside do not have, has new tokens.
    "login.renewed" LoginRenewed {
        /// The login's id in the policy.
        login: RuleId,
        /// The decision that allowed the request for them.
        decision: DecisionId,
        /// They are in the owner's file.
        written: bool,
        /// Why they are not.
        reason: Option<String>,
    }
    => login_line(login, *decision, *written, reason.as_deref());
    /// Events that could not be recorded.
    "events.lost" EventsLost {
        /// The component that lost them.
        source: String,
        /// How many.
        count: u64,
        /// Why.
        reason: String,
    }
    => format!("{count} of {}: {}", safe(source), safe(reason));
    counts |counts| counts.events_lost += count;
    closes true;
    /// What the terminal showed is recorded beside the journal, in `terminal.cast`; written when policy
    /// asks for it, at the end of a session.
    "terminal.recorded" TerminalRecorded {
        /// Bytes of the file.
        bytes: u64,
        /// SHA-256 of the file; none if there is no file.
        digest: Option<Digest>,
        /// Places where what looks like a secret was replaced.
        hidden: u64,
        /// Why not all of the session is in it.
        missing: Option<String>,
    }
    => recording_line(*bytes, *hidden, missing.as_deref());
    closes true;
    /// A person or program acted on the session from outside.
    "operator.acted" OperatorActed {
        /// What was done, for example `stop`.
        action: String,
        /// Who did it.
        by: String,
        /// With what.
        detail: String,
    }
    => format!("{} by {}: {}", safe(action), safe(by), safe(detail));
    closes true;
    /// Something that a person should look at.
    "finding.raised" FindingRaised {
        /// `low`, `medium`, `high`.
        severity: Severity,
        /// One line.
        title: String,
        /// What was seen.
        detail: String,
        /// The decisions it rests on.
        decisions: Vec<DecisionId>,
    }
    => format!("{}: {} ({})", severity, safe(title), safe(detail));
    closes true;
} }
