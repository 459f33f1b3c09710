//! What a record says beside the request: whether a person was asked, and which fact the decision rested on.

use stockade_policy::{Control, Decision};
use stockade_types::{DecisionRecord, Host, Verdict};

use crate::Missing;

/// How the reason of a request begins that an answer to its connection allowed.
pub(crate) const APPROVED: &str = "approved: ";
/// How the reason of an execution begins that belongs to an approved or allowed command.
const BELONGS: &str = "belongs to what ";
/// How the reason of a denial begins whose request was approved and was another one by then.
const CHANGED: &str = "the request is not the one that was approved";
/// What is in the reason of a denial whose question had no answer.
const ASKED_BECAUSE: &str = "(asked because: ";

/// Tells whether a decision without an answer was one about which policy asks.
pub(crate) fn is_unanswered(record: &DecisionRecord) -> bool {
    match record.verdict {
        Verdict::Allow => record.reason.starts_with(BELONGS),
        Verdict::Deny => {
            record.reason.starts_with(CHANGED) || record.reason.contains(ASKED_BECAUSE)
        }
        Verdict::Ask => true,
    }
}

fn control(record: &DecisionRecord) -> Option<Control> {
    let rule = record.rule.as_ref()?;
    Control::ALL
        .into_iter()
        .find(|control| control.as_str() == rule.as_str())
}

pub(crate) fn is_by(record: &DecisionRecord, wanted: Control) -> bool {
    control(record) == Some(wanted)
}

/// Tells whether a decision would be the same under every policy.
pub(crate) fn is_wall(record: &DecisionRecord) -> bool {
    let is_name = record
        .target
        .host
        .as_ref()
        .is_some_and(|host| matches!(host.parse(), Ok(Host::Name(_))));
    match control(record) {
        Some(
            Control::Loopback
            | Control::UnknownAddress
            | Control::NotAHostName
            | Control::SpecialName
            | Control::NameMismatch
            | Control::NoServerName
            | Control::TlsMalformed
            | Control::GreetingUnfinished
            | Control::HttpFraming
            | Control::ProxyRequest
            | Control::UnreadableProgram
            | Control::SystemCalls
            | Control::ReadOnly
            | Control::Traced
            | Control::KeyMisuse
            | Control::CredentialMisuse
            | Control::CredentialAnswer,
        ) => true,
        // The name led there.
        Some(Control::Metadata | Control::NeverReached) => is_name,
        Some(
            Control::PrivateAddress
            | Control::Protected
            | Control::ProtectedContent
            | Control::View
            | Control::NotHttp
            | Control::TlsUntrusted
            | Control::ServerCertificate
            | Control::BytesMax
            | Control::RequestsMax
            | Control::Content
            | Control::ListeningPort
            | Control::ToolCall
            | Control::ToolDefinition,
        )
        | None => false,
    }
}

/// Takes into account why a decision was a denial, where that was a fact beside the request.
pub(crate) fn by_facts(record: &DecisionRecord, decision: Decision) -> (Decision, Option<Missing>) {
    let allows = decision.verdict == Verdict::Allow;
    let Some(control) = control(record).filter(|_| allows && record.verdict == Verdict::Deny)
    else {
        return (decision, None);
    };
    let again = |control: Control| control.denies("as it was", "");
    let terms = &decision.terms;
    match control {
        // The name led to a private address.
        Control::PrivateAddress if !terms.private => (again(control), None),
        // What a link or a pointer leads to is not in the record.
        Control::Protected | Control::ProtectedContent => (again(control), Some(Missing::Place)),
        // It was no HTTP, and only HTTP may pass.
        Control::NotHttp if decision.http_only => (again(control), None),
        // The terms are the same sort as then: whether they are reached is not in the record.
        Control::BytesMax if !terms.bytes_max.is_empty() => (again(control), Some(Missing::Bytes)),
        Control::RequestsMax if !terms.requests_max.is_empty() => {
            (again(control), Some(Missing::Bytes))
        }
        Control::Content if !terms.content_denied.is_empty() => {
            (again(control), Some(Missing::Bytes))
        }
        Control::TlsUntrusted | Control::ServerCertificate
            if terms.inspect || decision.http_only =>
        {
            (again(control), Some(Missing::Bytes))
        }
        Control::NotHttp
        | Control::BytesMax
        | Control::RequestsMax
        | Control::Content
        | Control::TlsUntrusted
        | Control::ServerCertificate => (decision, Some(Missing::Bytes)),
        Control::PrivateAddress
        | Control::Metadata
        | Control::View
        | Control::NeverReached
        | Control::Loopback
        | Control::UnknownAddress
        | Control::NotAHostName
        | Control::SpecialName
        | Control::NameMismatch
        | Control::NoServerName
        | Control::TlsMalformed
        | Control::GreetingUnfinished
        | Control::HttpFraming
        | Control::ProxyRequest
        | Control::CredentialMisuse
        | Control::KeyMisuse
        | Control::CredentialAnswer
        | Control::UnreadableProgram
        | Control::SystemCalls
        | Control::ReadOnly
        | Control::Traced
        | Control::ListeningPort
        | Control::ToolCall
        | Control::ToolDefinition => (decision, None),
    }
}
