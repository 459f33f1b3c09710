//! Controls that are not in any file and that no file can remove.

use stockade_types::{RuleId, Verdict};

use crate::{AskStage, Decision, Origin, Reviewer, Scope, kinds::Body, rule::Rule};

/// A control that is built in. Its name appears as the rule in decisions, so no rule of a file may
/// have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Addresses and names of cloud metadata.
    Metadata,
    /// Addresses of this machine and its networks.
    PrivateAddress,
    /// Files that could run code outside the boundary if they were changed.
    Protected,
    /// The same, if their whole future content is known and was shown.
    ProtectedContent,
    /// Files within the writable view, which may be changed.
    View,
    /// An address that no host has, or a name whose only addresses cannot be opened by any policy.
    NeverReached,
    /// The session's own loopback, when a program reaches for it through the network.
    Loopback,
    /// An address of the synthetic range that belongs to no name.
    UnknownAddress,
    /// A name that no host can have.
    NotAHostName,
    /// A name that means something on one machine only.
    SpecialName,
    /// Bytes that name a host other than the one the connection was opened to.
    NameMismatch,
    /// A TLS `ClientHello` without a server name on a connection for which a name was judged.
    NoServerName,
    /// A TLS `ClientHello` that is not valid.
    TlsMalformed,
    /// A `ClientHello` that was not complete in time.
    GreetingUnfinished,
    /// A protocol other than HTTP, when a rule has conditions on requests.
    NotHttp,
    /// HTTP that could be read in two ways.
    HttpFraming,
    /// Words to the session's own proxy that ask for no host.
    ProxyRequest,
    /// A client that does not trust the authority of the session, whose TLS must be opened.
    TlsUntrusted,
    /// A server whose certificate is not valid, although TLS is opened.
    ServerCertificate,
    /// A placeholder of a credential where the credential is not sent.
    CredentialMisuse,
    /// A signature with a key that is not for what it was asked for.
    KeyMisuse,
    /// An answer that cannot be searched for the credential that its request carried.
    CredentialAnswer,
    /// More bytes than a rule lets out.
    BytesMax,
    /// More requests in a minute than a rule lets out.
    RequestsMax,
    /// A secret in a request that a rule lets out only without any.
    Content,
    /// A program whose file cannot be read, so that it cannot be identified.
    UnreadableProgram,
    /// A system call that the filter refuses.
    SystemCalls,
    /// A change of a file in a read-only view.
    ReadOnly,
    /// A process that another one controls, or would control.
    Traced,
    /// A port on which a program of the session listens.
    ListeningPort,
    /// A tool call, which has no effect by itself.
    ToolCall,
    /// A definition of a server's tool that is not the one that was seen before.
    ToolDefinition,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 32] = [
        Self::Metadata,
        Self::PrivateAddress,
        Self::Protected,
        Self::ProtectedContent,
        Self::View,
        Self::NeverReached,
        Self::Loopback,
        Self::UnknownAddress,
        Self::NotAHostName,
        Self::SpecialName,
        Self::NameMismatch,
        Self::NoServerName,
        Self::TlsMalformed,
        Self::GreetingUnfinished,
        Self::NotHttp,
        Self::HttpFraming,
        Self::ProxyRequest,
        Self::TlsUntrusted,
        Self::ServerCertificate,
        Self::CredentialMisuse,
        Self::KeyMisuse,
        Self::CredentialAnswer,
        Self::BytesMax,
        Self::RequestsMax,
        Self::Content,
        Self::UnreadableProgram,
        Self::SystemCalls,
        Self::ReadOnly,
        Self::Traced,
        Self::ListeningPort,
        Self::ToolCall,
        Self::ToolDefinition,
    ];

    /// Returns the name that decisions show as the rule.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::PrivateAddress => "private-address",
            Self::Protected => "protected",
            Self::ProtectedContent => "protected-content",
            Self::View => "view",
            Self::NeverReached => "never-reached",
            Self::Loopback => "loopback",
            Self::UnknownAddress => "unknown-address",
            Self::NotAHostName => "not-a-host-name",
            Self::SpecialName => "special-name",
            Self::NameMismatch => "name-mismatch",
            Self::NoServerName => "no-server-name",
            Self::TlsMalformed => "tls-malformed",
            Self::GreetingUnfinished => "greeting-unfinished",
            Self::NotHttp => "not-http",
            Self::HttpFraming => "http-framing",
            Self::ProxyRequest => "proxy-request",
            Self::TlsUntrusted => "tls-untrusted",
            Self::ServerCertificate => "server-certificate",
            Self::CredentialMisuse => "credential-misuse",
            Self::KeyMisuse => "key-misuse",
            Self::CredentialAnswer => "credential-answer",
            Self::BytesMax => "bytes-max",
            Self::RequestsMax => "requests-per-minute-max",
            Self::Content => "content",
            Self::UnreadableProgram => "unreadable-program",
            Self::SystemCalls => "system-calls",
            Self::ReadOnly => "read-only",
            Self::Traced => "traced",
            Self::ListeningPort => "listening-port",
            Self::ToolCall => "tool-call",
            Self::ToolDefinition => "tool-definition",
        }
    }

    /// Whether a rule's id is the name of a control.
    pub(crate) fn is_name(id: &str) -> bool {
        Self::ALL.iter().any(|control| control.as_str() == id)
    }

    pub(crate) fn id(self) -> Option<RuleId> {
        self.as_str().parse().ok()
    }

    /// Tells whether nothing but this control is about the request, and allows it.
    pub fn allows_by_default(self, decision: &Decision) -> bool {
        let is_it = |rule: &RuleId| rule.as_str() == self.as_str();
        decision.verdict == Verdict::Allow && decision.rule.as_ref().is_none_or(is_it)
    }

    /// Makes the deny of this control; `remedy` is the one step that would change it, or is empty.
    pub fn denies(self, reason: impl Into<String>, remedy: &str) -> Decision {
        let by = self.id().map(|id| (id, Origin::Builtin));
        Decision::plain(Verdict::Deny, by, reason, remedy)
    }

    /// Makes the question of this control; an answer is for one use only.
    pub(crate) fn asks(self, reason: impl Into<String>, remedy: &str) -> Decision {
        let by = self.id().map(|id| (id, Origin::Builtin));
        let stage = AskStage {
            reviewer: Reviewer::Human,
            expires: AskStage::EXPIRES,
            scope_max: Scope::Once,
            review: None,
            reviewer_allows: None,
        };
        Decision {
            stage: Some(stage),
            ..Decision::plain(Verdict::Ask, by, reason, remedy)
        }
    }

    /// Makes the allow of this control.
    pub fn allows(self, reason: impl Into<String>) -> Decision {
        let by = self.id().map(|id| (id, Origin::Builtin));
        Decision::plain(Verdict::Allow, by, reason, "")
    }
}

/// Number of the control on cloud metadata in every list of rules.
pub(crate) const METADATA: usize = 0;
/// Number of the control on private addresses.
pub(crate) const PRIVATE: usize = 1;
/// Number of the control on addresses that no host has.
pub(crate) const NEVER: usize = 2;
/// Number of the control on protected files.
pub(crate) const PROTECTED: usize = 3;
/// Number of the allowance for files within the writable view.
pub(crate) const VIEW: usize = 4;
/// Number of the question about protected files whose content is known.
pub(crate) const CONTENT: usize = 5;
/// Number of the allowance for tool calls.
pub(crate) const TOOL: usize = 6;
/// The number of these controls.
pub(crate) const COUNT: usize = 7;

/// Returns those controls that are judged as rules; they come first in every list of rules. The
/// others depend on facts that no rule sees: bytes on a connection, a file that cannot be read.
pub(crate) fn controls() -> Vec<Rule> {
    let rule = |control: Control, effect: Verdict, reason: &str| {
        control.id().map(|id| Rule {
            id,
            effect,
            origin: Origin::Builtin,
            place: "builtin".to_owned(),
            reason: reason.to_owned(),
            stage: (effect == Verdict::Ask).then_some(AskStage {
                reviewer: Reviewer::Human,
                expires: AskStage::EXPIRES,
                scope_max: Scope::Session,
                review: None,
                reviewer_allows: None,
            }),
            quiet: false,
            body: Body::Control,
        })
    };
    [
        rule(
            Control::Metadata,
            Verdict::Deny,
            "cloud metadata holds credentials; never reachable",
        ),
        rule(
            Control::PrivateAddress,
            Verdict::Deny,
            "an address of this machine or its networks",
        ),
        rule(
            Control::NeverReached,
            Verdict::Deny,
            "no host has this address",
        ),
        rule(
            Control::Protected,
            Verdict::Deny,
            "changing it could run code outside the boundary",
        ),
        rule(
            Control::View,
            Verdict::Allow,
            "the file lies within the writable view",
        ),
        rule(
            Control::ProtectedContent,
            Verdict::Ask,
            "programs outside the boundary run what these files say",
        ),
        rule(
            Control::ToolCall,
            Verdict::Allow,
            "a tool call has no effect by itself; what it leads to is judged where it happens",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Control, controls};

    #[test]
    fn controls_that_are_rules_stand_where_their_numbers_say() {
        let ids: Vec<String> = controls().iter().map(|rule| rule.id.to_string()).collect();
        let expected = [
            "metadata",
            "private-address",
            "never-reached",
            "protected",
            "view",
            "protected-content",
            "tool-call",
        ];
        assert_eq!(ids, expected);
    }

    #[test]
    fn every_control_is_explained() {
        let page = include_str!("../../../docs/policy.md");
        let missing =
            |control: &&Control| !page.contains(&format!("\n| `{}` | ", control.as_str()));
        let missing: Vec<_> = Control::ALL.iter().filter(missing).collect();
        assert!(missing.is_empty(), "not in docs/policy.md: {missing:?}");
    }

    #[test]
    fn every_control_has_a_name_of_its_own_that_a_rule_could_have() {
        let names: BTreeSet<_> = Control::ALL.iter().filter_map(|c| c.id()).collect();
        assert_eq!(names.len(), Control::ALL.len());
    }
}
