//! The closed vocabularies of records: each a set of words that writers and readers share, so that a
//! reader which gives each of them a meaning is told by the compiler of a new one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text is no word of its vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is none of {words}")]
pub struct WordError {
    /// The text.
    pub text: String,
    /// The words there are, with commas between them.
    pub words: String,
}

macro_rules! vocabulary {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// Returns the word of records and of the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<Self, WordError> {
                let found = Self::ALL.into_iter().find(|word| word.as_str() == text);
                found.ok_or_else(|| WordError {
                    text: text.to_owned(),
                    words: Self::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

vocabulary! {
    /// How strong the isolation of a session is.
    Tier {
        /// Namespaces, a private root, Landlock, seccomp.
        Native = "native",
    }
}

vocabulary! {
    /// What a session promises; a policy or `--require` can name it.
    GuaranteeName {
        /// Only the planned files exist inside; protected ones cannot be changed.
        Files = "files",
        /// Other processes cannot be seen, signalled or traced; nothing survives the session.
        Processes = "processes",
        /// Nothing leaves but through the egress process.
        Network = "network",
        /// The caller's secrets (home, environment, descriptors) are absent.
        Secrets = "secrets",
        /// Processes, open files and core dumps are limited.
        Limits = "limits",
        /// Memory, processes and processor time of the whole session are limited by cgroups.
        GroupLimits = "group-limits",
        /// Bytes written to disk are limited.
        DiskQuota = "disk-quota",
        /// Every program is judged before it runs.
        ExecDecisions = "exec-decisions",
        /// The kernel keeps with each process which command of the agent it belongs to.
        Scopes = "scopes",
        /// Events are chained and signed; verdicts are written before their effect.
        Record = "record",
    }
}

vocabulary! {
    /// Who answers questions.
    AskMode {
        /// A person at the terminal of this session (and at the inbox).
        Tty = "tty",
        /// A person at the inbox only.
        Inbox = "inbox",
        /// People in roles, through the organisation's server; nobody here can allow anything.
        Server = "server",
        /// No person: an ask is a deny at once.
        Deny = "deny",
    }
}

vocabulary! {
    /// What settles a question, or prevents one, without a person.
    Circumstance {
        /// It has expired.
        Timeout = "timeout",
        /// No program waits for it any more.
        Withdrawn = "withdrawn",
        /// The session ends.
        SessionEnd = "session-end",
        /// There is no one to ask.
        NoOne = "no-one-to-ask",
        /// A person has denied the same for the session, or several times.
        DeniedBefore = "denied-before",
        /// It could not be recorded.
        Journal = "journal",
        /// The rules for grants.
        Policy = "policy",
        /// A bound of the desk, or a question that it no longer has.
        Desk = "desk",
        /// The automatic reviewer.
        Reviewer = "reviewer",
    }
}

vocabulary! {
    /// How much harm a request could do, as the automatic reviewer sees it; in this order.
    Risk {
        /// It changes nothing outside the session, or can be taken back.
        Low = "low",
        /// It changes something outside that people can take back.
        Medium = "medium",
        /// It changes something that is hard to take back, or tells something to others.
        High = "high",
        /// It must not happen without people.
        Critical = "critical",
    }
}

vocabulary! {
    /// Whether the person who uses the agent has asked for what a request does, as the automatic reviewer sees
    /// it.
    Authorisation {
        /// The person has asked for just that.
        Explicit = "explicit",
        /// It belongs to what the person has asked for.
        Implied = "implied",
        /// The person has not asked for it, or that cannot be told.
        Unknown = "none",
    }
}

vocabulary! {
    /// Where a claim about what an agent or a model said was learned.
    ClaimSource {
        /// In the traffic to the model, which the egress process passes on.
        Traffic = "traffic",
        /// From a hook that the agent runs before or after what it does.
        Hook = "hook",
        /// From the telemetry that the agent exports.
        Otlp = "otlp",
        /// In what the agent and a server of tools say to each other.
        Mcp = "mcp",
    }
}

vocabulary! {
    /// What a change of an agent's plan says.
    PlanChange {
        /// The whole plan.
        Replaced = "replaced",
        /// A step that is new.
        Added = "added",
        /// A step that was there.
        Updated = "updated",
    }
}

vocabulary! {
    /// How far a step of an agent's plan is, as the agent says.
    StepState {
        /// Not begun.
        Pending = "pending",
        /// Worked on now.
        Active = "active",
        /// Finished.
        Done = "done",
        /// Not to be done any more.
        Cancelled = "cancelled",
        /// Waits for something else.
        Blocked = "blocked",
        /// Taken out of the plan.
        Removed = "removed",
        /// In a word that is not known here.
        Unknown = "unknown",
    }
}

vocabulary! {
    /// How it is known what an effect came of.
    Certainty {
        /// The call names just this effect, and no other call does that could be meant.
        Exact = "exact",
        /// By order and time.
        Inferred = "inferred",
    }
}

vocabulary! {
    /// Whose protocol a call of a model speaks; others offer the same ones.
    ModelProvider {
        /// Anthropic.
        Anthropic = "anthropic",
        /// OpenAI.
        OpenAi = "openai",
        /// Google.
        Gemini = "gemini",
        /// Amazon, whose Bedrock has one form for models of many.
        Bedrock = "bedrock",
        /// Somebody else, or nobody said whose.
        Other = "other",
    }
}

vocabulary! {
    /// The form of a call of a model.
    ModelApi {
        /// Messages of Anthropic.
        Messages = "messages",
        /// Responses of OpenAI.
        Responses = "responses",
        /// Chat completions of OpenAI.
        Chat = "chat-completions",
        /// Content of Gemini.
        Generate = "generate-content",
        /// Converse of Bedrock.
        Converse = "converse",
        /// Nobody said which.
        Unsaid = "unsaid",
    }
}

vocabulary! {
    /// How a call of a model came to its end.
    CallEnd {
        /// Its answer was whole.
        Whole = "whole",
        /// Its answer, or the call itself, ended early.
        Cut = "cut",
    }
}

vocabulary! {
    /// How changes to the workspace become real.
    WorkspaceMode {
        /// At once.
        Direct = "direct",
        /// After a review.
        Review = "review",
    }
}

vocabulary! {
    /// What would happen to a file.
    Access {
        /// Its content changes.
        Write = "write",
        /// It comes into being.
        Create = "create",
        /// It is removed.
        Remove = "remove",
        /// It gets another name, or something else takes its name.
        Rename = "rename",
        /// Its mode, owner, times or attributes change.
        Mode = "mode",
    }
}

vocabulary! {
    /// What a tool of an agent is for.
    ToolEffect {
        /// It looks at something.
        Read = "read",
        /// It changes something: a file, a list, something behind a server.
        Write = "write",
        /// It runs commands, or has another agent run them.
        Execute = "execute",
        /// Nobody said.
        Unknown = "unknown",
    }
}

vocabulary! {
    /// A limit that a session can reach.
    LimitName {
        /// Bytes of memory of the whole session.
        Memory = "memory",
        /// Processes and threads of the whole session at a time.
        Processes = "processes",
        /// Time from its start, in milliseconds.
        WallTime = "wall_time",
        /// Bytes of its journal.
        Journal = "journal",
        /// Names that were given addresses.
        Names = "names",
    }
}

vocabulary! {
    /// Which policy of a bundle decides in a session while a candidate is rolled out.
    RolloutArm {
        /// The policy in force alone.
        Control = "control",
        /// The policy in force; the candidate is compared with it and decides nothing.
        Shadow = "shadow",
        /// The candidate, on trial on a part of the machines.
        Canary = "canary",
        /// The candidate, which is in force on all machines.
        Enforced = "enforced",
    }
}

vocabulary! {
    /// How much a finding matters.
    Severity {
        /// It can wait.
        Low = "low",
        /// It should be looked at soon.
        Medium = "medium",
        /// It must be looked at now.
        High = "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_is_written_and_no_other_is() {
        for limit in LimitName::ALL {
            assert_eq!(limit.as_str().parse(), Ok(limit));
            let json = serde_json::to_string(&limit).unwrap();
            assert_eq!(json, format!("\"{limit}\""));
            assert_eq!(serde_json::from_str::<LimitName>(&json).unwrap(), limit);
        }
        let error = "disk".parse::<LimitName>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`disk` is none of memory, processes, wall_time, journal, names"
        );
    }
}
