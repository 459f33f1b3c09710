//! The closed set of events.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use stockade_types::{
    ApprovalId, DecisionId, DecisionRecord, Digest, RawText, RuleId, Subject, UnixMillis, Verdict,
};

use crate::catalogue::{FieldDoc, KindDoc};

/// How a session came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum SessionOutcome {
    /// The command exited by itself.
    Exited {
        /// Its exit code, 0 to 255.
        code: i32,
    },
    /// A signal that was not ours ended the command.
    Signaled {
        /// Number of the signal.
        signal: i32,
    },
    /// Stockade ended the session.
    Killed {
        /// Why, for example the limit that was hit.
        reason: String,
    },
    /// Nothing ran.
    NotStarted {
        /// The step that failed.
        step: String,
        /// Why it failed.
        reason: String,
    },
}

/// Totals of a session, folded from the events that stand before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Programs that were let run.
    pub processes: u64,
    /// Those of them that nobody saw run.
    pub unconfirmed: u64,
    /// First-level commands, that is those the agent itself started or was refused.
    pub commands: u64,
    /// Decisions that were allow or deny in the end, those that were only counted included.
    pub decisions: u64,
    /// Those of them that were `deny`.
    pub denials: u64,
    /// Approvals that were requested.
    pub asks: u64,
    /// Connections that were let through and have ended.
    pub connections: u64,
    /// Changes of files that were let through.
    pub file_changes: u64,
    /// Events that could not be recorded.
    pub events_lost: u64,
}

/// One layer of the policy that was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSeen {
    /// `builtin`, `organisation`, `user` or `session`.
    pub origin: String,
    /// File or preset it came from.
    pub name: String,
    /// Digest of its text.
    pub digest: Digest,
}

/// Declares the enum, its catalogue and how its own fields are written from one text, so that none
/// can miss a variant. A journal keeps fields marked with `@` beside the event: see
/// the crate `journal`.
macro_rules! events {
    ($(
        $(#[doc = $doc:literal])+
        $kind:literal $name:ident {
            $($(#[doc = $field_doc:literal])+ $(@$beside:tt)? $field:ident: $type:ty,)+
        }
    )+) => {
        /// Everything that a session can report; the set is closed.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "data")]
        pub enum Event {
            $(
                $(#[doc = $doc])+
                #[serde(rename = $kind)]
                $name { $($(#[doc = $field_doc])+ $field: $type,)+ },
            )+
        }

        impl Event {
            /// Returns the name of the kind, `<noun>.<past verb>`.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $kind,)+
                }
            }

            /// Gives the fields that a journal keeps within the event, in their order.
            ///
            /// # Errors
            /// With that of `put`, at the first field that it does not take.
            pub fn own_fields<E>(
                &self,
                put: &mut impl FieldWriter<Error = E>,
            ) -> Result<(), E> {
                match self {
                    $(Self::$name { $($field),+ } => {
                        $(events!(@put put $($beside)?, $field);)+
                        Ok(())
                    })+
                }
            }
        }

        /// Returns the fields of a kind that a journal keeps beside the event.
        pub fn fields_beside(kind: &str) -> &'static [&'static str] {
            match kind {
                $($kind => const { &[$($(events!(@name $beside $field),)?)+] },)+
                _ => &[],
            }
        }

        const CATALOGUE: &[KindDoc] = &[$(
            KindDoc {
                kind: $kind,
                doc: concat!($($doc),+),
                fields: &[$(
                    FieldDoc {
                        name: stringify!($field),
                        type_name: stringify!($type),
                        doc: concat!($($field_doc),+),
                    },
                )+],
            },
        )+];
    };
    (@put $put:ident beside, $field:ident) => { let _: &_ = $field; };
    (@put $put:ident , $field:ident) => { $put.field(stringify!($field), $field)?; };
    (@name beside $field:ident) => { stringify!($field) };
}

/// Takes the fields of an event one by one.
pub trait FieldWriter {
    /// Why a field was not taken.
    type Error;

    /// Takes one field.
    ///
    /// # Errors
    /// When the field cannot be taken.
    fn field(&mut self, name: &str, value: &impl Serialize) -> Result<(), Self::Error>;
}

events! {
    /// A session began; it is always the first event.
    "session.started" SessionStarted {
        /// Name given with `--name`.
        name: Option<String>,
        /// The command and its arguments.
        command: Vec<RawText>,
        /// The workspace on the host.
        workspace: RawText,
        /// `direct` or `review`.
        mode: String,
        /// The tier in use, for example `native`.
        tier: String,
        /// The preset in use.
        preset: String,
        /// Who answers asks: `tty`, `inbox` or `deny`.
        ask: String,
        /// User id of the supervisor.
        uid: u32,
        /// Version of Stockade.
        version: String,
        /// Digest of the policy in force.
        policy_revision: Digest,
    }
    /// A session ended; it is always the last event.
    "session.ended" SessionEnded {
        /// How it ended.
        outcome: SessionOutcome,
        /// From start to end, in milliseconds.
        duration_ms: u64,
        /// Totals.
        counts: Counts,
    }
    /// A guarantee of the session, or the statement that it does not hold.
    "guarantee.stated" GuaranteeStated {
        /// Which guarantee, for example `network`.
        guarantee: String,
        /// Whether it holds.
        holds: bool,
        /// The layers that hold it.
        how: String,
        /// What the machine lacks, where it does not hold.
        missing: Option<String>,
        /// The reason given with `--waive`.
        waiver: Option<String>,
    }
    /// A policy came into force.
    "policy.loaded" PolicyLoaded {
        /// Digest of all layers.
        revision: Digest,
        /// The layers from the strongest to the weakest.
        layers: Vec<LayerSeen>,
        /// Number of rules.
        rules: u64,
        /// Rules whose refusals are counted in one line, and not told one by one.
        quiet: Option<Vec<RuleId>>,
    }
    /// A process was let run a program. Where that was not seen to happen, `exec.unconfirmed` says so.
    "process.started" ProcessStarted {
        /// The process.
        @beside process: Subject,
        /// SHA-256 of the executable, where it was read.
        digest: Option<Digest>,
        /// The interpreter that a `#!` line names.
        interpreter: Option<RawText>,
    }
    /// A program was about to run and was judged.
    "exec.decided" ExecDecided {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    /// A program was let run, and nobody saw that it did: its process was gone at the second look,
    /// or the execution failed in the kernel.
    "exec.unconfirmed" ExecUnconfirmed {
        /// The process, as it was judged.
        @beside process: Subject,
        /// What is known of it, for example where its path leads now.
        why: String,
        /// Whether what its path leads to now may not run.
        suspicious: bool,
    }
    /// The same was refused again, and only counted: what was refused often within a second, and
    /// further calls of a program that the filter refuses.
    "refusal.repeated" RefusalRepeated {
        /// The refusal that was the last one with an event of its own.
        decision: DecisionId,
        /// How often since.
        count: u64,
    }
    /// A change of a file was refused.
    "file.denied" FileDenied {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    /// A system call was refused by the filter, or was answered without being made.
    "call.refused" CallRefused {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    /// A name was looked up and judged.
    "name.decided" NameDecided {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    /// A connection was judged.
    "connection.decided" ConnectionDecided {
        /// The decision.
        @beside decision: DecisionRecord,
        /// The checked address that is dialled.
        address: Option<IpAddr>,
        /// Server name in the TLS greeting.
        sni: Option<String>,
        /// What else is known, for example `opaque`.
        detail: Option<String>,
    }
    /// One HTTP request was judged.
    "http.decided" HttpDecided {
        /// The decision.
        @beside decision: DecisionRecord,
    }
    /// A file was changed.
    "file.changed" FileChanged {
        /// Canonical path inside.
        path: RawText,
        /// `write`, `create`, `remove`, `rename` or `mode`.
        access: String,
        /// Who changed it.
        @beside by: Subject,
        /// The decision, where somebody was asked.
        @beside decision: Option<DecisionRecord>,
    }
    /// A connection that was let through ended, or could not be made.
    "connection.closed" ConnectionClosed {
        /// Canonical name or address.
        host: String,
        /// Port.
        port: u16,
        /// The decision that let it through.
        decision: DecisionId,
        /// Bytes from the session to the host.
        bytes_out: u64,
        /// Bytes from the host to the session.
        bytes_in: u64,
        /// From dial to end, in milliseconds.
        duration_ms: u64,
        /// Why it was never made, where the network is the cause: `connection refused`, `timed out`,
        /// `no route to host`.
        failed: Option<String>,
    }
    /// A port of the session is there on the machine's loopback.
    "port.published" PortPublished {
        /// The port on which a program of the session listens.
        port: u16,
        /// The port of the machine's loopback.
        outside: u16,
        /// Who wanted it: the place in policy, or the approval.
        by: String,
    }
    /// A limit was hit.
    "limit.reached" LimitReached {
        /// Which limit, for example `memory`.
        limit: String,
        /// Its value: bytes for `memory` and `journal`, milliseconds for `wall_time`, otherwise a number.
        configured: u64,
        /// What was used, in the same unit.
        usage: u64,
        /// What was done about it.
        detail: String,
    }
    /// Somebody was asked.
    "approval.requested" ApprovalRequested {
        /// The approval.
        approval: ApprovalId,
        /// The decision with verdict `ask`.
        @beside decision: DecisionRecord,
        /// The text that was shown, exactly.
        shown: String,
        /// Digest of the exact request, to which a once-only answer is bound.
        request_digest: Digest,
        /// When no answer becomes a deny.
        expires: UnixMillis,
    }
    /// An approval was answered.
    "approval.decided" ApprovalDecided {
        /// The approval.
        approval: ApprovalId,
        /// The answer.
        verdict: Verdict,
        /// How far the answer reaches, for example `once`.
        scope: Option<String>,
        /// Who answered: `terminal`, `inbox uid 1000`, `timeout`, `no-one-to-ask`.
        by: String,
        /// Why, in the words of whoever answered.
        reason: Option<String>,
    }
    /// An approval that was given let a decision through.
    "approval.used" ApprovalUsed {
        /// The approval.
        approval: ApprovalId,
        /// The decision it let through.
        decision: DecisionId,
    }
    /// Events could not be recorded, and this many.
    "events.lost" EventsLost {
        /// Who lost them.
        source: String,
        /// How many.
        count: u64,
        /// Why.
        reason: String,
    }
    /// A person or program acted on the session from outside.
    "operator.acted" OperatorActed {
        /// What was done, for example `stop`.
        action: String,
        /// Who did it.
        by: String,
        /// With what.
        detail: String,
    }
    /// Something that deserves a look.
    "finding.raised" FindingRaised {
        /// `low`, `medium`, `high`.
        severity: String,
        /// One line.
        title: String,
        /// What was seen.
        detail: String,
        /// The decisions it rests on.
        decisions: Vec<DecisionId>,
    }
}

/// Returns every kind of event in the order in which the reference lists them.
pub const fn catalogue() -> &'static [KindDoc] {
    CATALOGUE
}

impl Event {
    /// Returns the decision that the event carries.
    pub const fn decision(&self) -> Option<&DecisionRecord> {
        match self {
            Self::ExecDecided { decision }
            | Self::FileDenied { decision }
            | Self::CallRefused { decision }
            | Self::NameDecided { decision }
            | Self::ConnectionDecided { decision, .. }
            | Self::HttpDecided { decision }
            | Self::ApprovalRequested { decision, .. } => Some(decision),
            Self::FileChanged { decision, .. } => decision.as_ref(),
            _ => None,
        }
    }

    /// Returns the process that the event is about, where the event itself names one.
    pub const fn subject(&self) -> Option<&Subject> {
        match self {
            Self::ProcessStarted { process, .. } | Self::ExecUnconfirmed { process, .. } => {
                Some(process)
            }
            Self::FileChanged { by, .. } => Some(by),
            _ => match self.decision() {
                Some(decision) => Some(&decision.subject),
                None => None,
            },
        }
    }
}
