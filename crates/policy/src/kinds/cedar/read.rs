//! `[[cedar]]`: one rule in Cedar text, checked against the schema, every mistake at its place.

use std::ops::Range;

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

/// Most bytes of one rule.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Reads the text of a rule and what it does; `None` where something is wrong with it.
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

/// Notes what Cedar says, at the place within the text where that is known.
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

/// Returns the place of an offset of the text: exactly where the file has the text as it is, and
/// the start of the value where it is written with escapes.
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

/// Reads `@verdict`, and refuses what such a rule cannot be.
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
    let prepared = schema().and_then(|schema| {
        let set = PolicySet::from_policies([policy.clone()]).map_err(|error| error.to_string())?;
        let tree = policy.to_json().map_err(|error| error.to_string())?;
        Ok((Validator::new(schema), set, tree))
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
    // A warning is a rule that can never hold, or a text that looks like another one.
    for warning in result.validation_warnings() {
        note(file, at, warning);
        is_valid = false;
    }
    is_valid.then_some(tree)
}

/// Refuses what would not hold as it reads.
fn is_enforceable(file: &mut File<'_>, at: &At<String>, body: &CedarBody) -> bool {
    let mut problems = Vec::new();
    if body.kinds.is_empty() {
        problems.push("no action of it is known; one of net, http, exec, file".to_owned());
    }
    let requests = body.is_about(RequestKind::Http) && !body.is_about(RequestKind::Net);
    if requests && !body.looks_at(Attribute::Host) {
        let message = "not enforceable on this backend: requests inside TLS cannot be seen, so this \
                       would refuse TLS to every host; compare `context.host` too";
        problems.push(message.to_owned());
    }
    for attribute in [Attribute::Names, Attribute::Subcommands] {
        if bounds::could_exempt(&body.tree, attribute) {
            let message = format!(
                "`context.{}` has what a program claims to be, so it can only make a rule match: ask \
                 with `contains`, and exempt by `context.program`",
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
