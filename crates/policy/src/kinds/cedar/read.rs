//! `[[cedar]]`: one rule in Cedar text, checked against the schema, every mistake at its place.

use std::{ops::Range, sync::LazyLock};

use cedar_policy::{Effect, Policy, PolicySet, ValidationMode, Validator};
use miette::Diagnostic;
use stockade_types::{RequestKind, Verdict};

use super::{
    CedarBody,
    bounds::{self, Attribute},
    context::schema,
    matching::kinds,
};
use crate::fields::{At, Fields, File, shown};

/// The field that only such a rule has.
pub(crate) const FIELDS: [&str; 1] = ["text"];

/// Most bytes of one rule: more than a person reads.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// Deepest tree that a rule may have, in operators. Cedar's parser is recursive, so the depth is
/// checked before it runs; without optimisation 200 are too deep for the stack of a thread.
const DEPTH_MAX: usize = 48;

/// Reads the text of a rule and its verdict; `None` if the text has a mistake.
pub(crate) fn read(file: &mut File<'_>, fields: &Fields<'_>) -> Option<(Verdict, CedarBody)> {
    let Some(at) = fields.text(file, "text") else {
        if !fields.has("text") {
            let message = "missing; one Cedar policy, for example \"forbid (principal, action == \
                           Action::\\\"net\\\", resource) when { context.port == 25 };\"";
            file.problem(&fields.span(), &fields.field("text"), message);
        }
        return None;
    };
    if at.value.len() > TEXT_BYTES_MAX {
        let message = format!("longer than {TEXT_BYTES_MAX} bytes; split the rule");
        file.problem(&at.span, &at.field, message);
        return None;
    }
    if depth(&at.value) > DEPTH_MAX {
        let message = "too many conditions in one rule; split it, or compare with a set";
        file.problem(&at.span, &at.field, message);
        return None;
    }
    let policy = match Policy::parse(None, &at.value) {
        Ok(policy) => policy,
        Err(errors) => {
            for error in errors.iter() {
                note(file, &at, error);
            }
            return None;
        }
    };
    let verdict = verdict(file, &at, &policy)?;
    let tree = validated(file, &at, &policy)?;
    let body = CedarBody {
        text: at.value.clone(),
        kinds: kinds(&policy),
        policy,
        tree,
    };
    is_enforceable(file, &at, &body).then_some((verdict, body))
}

/// Returns an upper bound for the depth of a text's tree: the operators that may be in one chain,
/// and the open brackets. The content of quotes and comments does not count.
fn depth(text: &str) -> usize {
    let (mut chains, mut open, mut deepest, mut dots, mut longest) = (0, 0_usize, 0, 0, 0);
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {
                while let Some(inner) = rest.next().filter(|inner| *inner != b'"') {
                    if inner == b'\\' {
                        rest.next();
                    }
                }
            }
            b'/' if rest.peek() == Some(&b'/') => {
                let mut line = rest.by_ref().skip_while(|byte| *byte != b'\n');
                line.next();
            }
            b'(' | b'[' | b'{' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'.' => {
                dots += 1;
                longest = longest.max(dots);
            }
            b'&' | b'|' | b'+' | b'-' | b'*' | b'!' => {
                chains += 1;
                dots = 0;
            }
            b'=' | b'<' | b'>' | b',' => dots = 0,
            // `if` nests without brackets; its `then` counts for it.
            b't' if rest.peek() == Some(&b'h') => chains += 1,
            _ => {}
        }
    }
    // `&&` and `||` have two bytes.
    chains / 2 + deepest + longest
}

/// Reports Cedar's message, at its place within the text if that is known.
fn note(file: &mut File<'_>, at: &At<String>, error: &dyn Diagnostic) {
    let offset = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| label.offset());
    let span = within(file, at, offset.unwrap_or_default());
    let help = error.help().map(|help| format!("; {help}"));
    let message = format!("{error}{}", help.unwrap_or_default());
    let message: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    file.problem(&span, &at.field, message);
}

/// Returns the place of an offset of the text: exact if the file contains the text unescaped,
/// otherwise the start of the value.
fn within(file: &File<'_>, at: &At<String>, offset: usize) -> Range<usize> {
    let written = file.source.text.get(at.span.clone()).unwrap_or_default();
    match written.find(&at.value) {
        Some(start) => {
            let from = at.span.start + start + offset;
            from..from
        }
        None => at.span.clone(),
    }
}

/// Reads `@verdict`, and refuses effects that such a rule cannot have.
fn verdict(file: &mut File<'_>, at: &At<String>, policy: &Policy) -> Option<Verdict> {
    if policy.effect() == Effect::Permit {
        let message = "a rule in Cedar only tightens: whether a `permit` lies within what others \
                       ask about cannot be told; write an [[allow]], or a `forbid`";
        file.problem(&at.span, &at.field, message);
        return None;
    }
    let mut verdict = Verdict::Deny;
    let mut is_known = true;
    for (name, value) in policy.annotations() {
        match (name, value) {
            ("verdict", "deny") => {}
            ("verdict", "ask") => verdict = Verdict::Ask,
            ("verdict", other) => {
                let message = format!(
                    "`@verdict(\"{}\")` is neither `deny` nor `ask`",
                    shown(other)
                );
                file.problem(&at.span, &at.field, message);
                is_known = false;
            }
            (other, _) => {
                let message = format!(
                    "`@{}` means nothing here; `id` and `reason` are keys of the table, and \
                     `@verdict(\"ask\")` is the only annotation",
                    shown(other)
                );
                file.problem(&at.span, &at.field, message);
                is_known = false;
            }
        }
    }
    is_known.then_some(verdict)
}

/// Checks the rule against the schema, and returns it as Cedar's JSON.
fn validated(file: &mut File<'_>, at: &At<String>, policy: &Policy) -> Option<serde_json::Value> {
    // Read once: a policy can have hundreds of rules.
    static VALIDATOR: LazyLock<Result<Validator, String>> =
        LazyLock::new(|| schema().map(Validator::new));
    let prepared = VALIDATOR
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|validator| {
            let set =
                PolicySet::from_policies([policy.clone()]).map_err(|error| error.to_string())?;
            let tree = policy.to_json().map_err(|error| error.to_string())?;
            Ok((validator, set, tree))
        });
    let (validator, set, tree) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            file.problem(&at.span, &at.field, reason);
            return None;
        }
    };
    let result = validator.validate(&set, ValidationMode::Strict);
    let mut is_valid = true;
    for error in result.validation_errors() {
        note(file, at, error);
        is_valid = false;
    }
    // Cedar warns about a rule that can never hold, and about a text that looks like another one.
    for warning in result.validation_warnings() {
        note(file, at, warning);
        is_valid = false;
    }
    is_valid.then_some(tree)
}

/// Refuses a rule whose effect would differ from its text.
fn is_enforceable(file: &mut File<'_>, at: &At<String>, body: &CedarBody) -> bool {
    let mut problems = Vec::new();
    if body.kinds.is_empty() {
        problems.push("no action of it is known; one of net, http, exec, file, tool".to_owned());
    }
    let requests = body.is_about(RequestKind::Http) && !body.is_about(RequestKind::Net);
    if requests && !body.looks_at(Attribute::Host) {
        let message = "not enforceable on this backend: requests inside TLS cannot be seen, so this \
                       would refuse TLS to every host; compare `context.host` too";
        problems.push(message.to_owned());
    }
    for attribute in [
        Attribute::Names,
        Attribute::Subcommands,
        Attribute::Argv,
        Attribute::Arguments,
    ] {
        if bounds::could_exempt(&body.tree, attribute) {
            let message = format!(
                "`context.{}` has words that a program chooses, in no order, so it can only make a \
                 rule match: ask with `contains`, exempt by `context.program`, or write an [[ask]] \
                 with `unless`",
                attribute.as_str()
            );
            problems.push(message);
        }
    }
    let is_enforceable = problems.is_empty();
    for message in problems {
        file.problem(&at.span, &at.field, message);
    }
    is_enforceable
}
