//! The meaning of a rule when an attribute is not known.
//!
//! Cedar has two truth values. A condition on an attribute that is not known for the request is
//! therefore replaced beforehand by the value that makes the rule match (or, if only a rule that
//! matches for certain counts, by the value that makes it not match): `true` where the condition is
//! positive, and `false` below a `!` or in an `unless`. The result is a bound: it is never less
//! strict than any actual value would be.
//!
//! The walk is over Cedar's own JSON of a policy. Any operator other than `&&`, `||`, `!` and `if`,
//! including one that this module does not know, is one condition.

use serde_json::{Value, json};

/// An attribute that may be unknown, or whose value is only a program's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Host,
    Program,
    Method,
    Path,
    Names,
    Subcommands,
    Argv,
    Tool,
    Server,
    Effect,
    Arguments,
}

impl Attribute {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Program => "program",
            Self::Method => "method",
            Self::Path => "path",
            Self::Names => "names",
            Self::Subcommands => "subcommands",
            Self::Argv => "argv",
            Self::Tool => "tool",
            Self::Server => "server",
            Self::Effect => "effect",
            Self::Arguments => "arguments",
        }
    }
}

/// The direction in which an unknown condition is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The rule matches if it matches for some value.
    Could,
    /// The rule matches if it matches for every value.
    Surely,
}

/// Returns the policy with every condition on one of `unknown` settled.
pub(crate) fn settled(tree: &Value, unknown: &[Attribute], bound: Bound) -> Value {
    let mut settled = tree.clone();
    let conditions = settled.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let is_unless = condition.get("kind").and_then(Value::as_str) == Some("unless");
        if let Some(body) = condition.get_mut("body") {
            *body = settle(body, unknown, (bound == Bound::Could) != is_unless);
        }
    }
    settled
}

/// Settles one condition; `wanted` is the value that an unknown one gets here.
fn settle(body: &Value, unknown: &[Attribute], wanted: bool) -> Value {
    if !unknown.iter().any(|attribute| mentions(body, *attribute)) {
        return body.clone();
    }
    let part = |operator: &str, name: &str, wanted: bool| {
        let part = body.get(operator).and_then(|at| at.get(name));
        part.map(|part| settle(part, unknown, wanted))
    };
    for operator in ["&&", "||"] {
        if let (Some(left), Some(right)) = (
            part(operator, "left", wanted),
            part(operator, "right", wanted),
        ) {
            return json!({ operator: { "left": left, "right": right } });
        }
    }
    if let Some(argument) = part("!", "arg", !wanted) {
        return json!({ "!": { "arg": argument } });
    }
    // The test may be unknown, so combine both branches towards the wanted value.
    if let (Some(one), Some(other)) = (
        part("if-then-else", "then", wanted),
        part("if-then-else", "else", wanted),
    ) {
        let operator = if wanted { "||" } else { "&&" };
        return json!({ operator: { "left": one, "right": other } });
    }
    json!({ "Value": wanted })
}

/// Returns the policy with all texts in lower case, for requests in lower case.
pub(crate) fn folded(tree: &Value) -> Value {
    let mut folded = tree.clone();
    let conditions = folded.get_mut("conditions");
    if let Some(conditions) = conditions {
        fold(conditions);
    }
    folded
}

fn fold(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                match (key.as_str(), inner) {
                    ("Value" | "Literal", Value::String(text)) => *text = text.to_lowercase(),
                    ("Value", Value::Array(items)) => {
                        for item in items {
                            fold_one(item);
                        }
                    }
                    // The name of an attribute, of a type or of an operator does not change.
                    (_, Value::String(_)) => {}
                    (_, other) => fold(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fold),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fold_one(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.to_lowercase(),
        other => fold(other),
    }
}

/// Returns whether `context.NAME` occurs; the context as a whole counts as every attribute.
pub(crate) fn mentions(value: &Value, attribute: Attribute) -> bool {
    if let Some(access) = value.get(".") {
        let is_context = access.pointer("/left/Var").and_then(Value::as_str) == Some("context");
        if is_context {
            return access.get("attr").and_then(Value::as_str) == Some(attribute.as_str());
        }
    }
    match value {
        Value::Object(map) => {
            map.get("Var").and_then(Value::as_str) == Some("context")
                || map.values().any(|inner| mentions(inner, attribute))
        }
        Value::Array(items) => items.iter().any(|inner| mentions(inner, attribute)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Returns whether an attribute could prevent the rule from matching: below a `!`, in an `unless`,
/// in the test of an `if`, or in a comparison with a truth value.
pub(crate) fn could_exempt(tree: &Value, attribute: Attribute) -> bool {
    let conditions = tree.get("conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        let is_unless = condition.get("kind").and_then(Value::as_str) == Some("unless");
        let body = condition.get("body");
        body.is_some_and(|body| exempts(body, attribute, !is_unless))
    })
}

fn exempts(body: &Value, attribute: Attribute, matches: bool) -> bool {
    if !mentions(body, attribute) {
        return false;
    }
    let part = |operator: &str, name: &str| body.get(operator).and_then(|at| at.get(name));
    for operator in ["&&", "||"] {
        if let (Some(left), Some(right)) = (part(operator, "left"), part(operator, "right")) {
            return exempts(left, attribute, matches) || exempts(right, attribute, matches);
        }
    }
    if let Some(argument) = part("!", "arg") {
        return exempts(argument, attribute, !matches);
    }
    // These three stay true when the set on their left grows, so the attribute may be on that side.
    let grows = ["contains", "containsAny", "containsAll"]
        .into_iter()
        .any(|operator| {
            let own = |side| part(operator, side).is_some_and(|part| mentions(part, attribute));
            own("left") && !own("right")
        });
    !(grows && matches)
}

/// Returns every text with which the policy compares something; patterns keep their `*`.
pub(crate) fn texts(tree: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(tree, &mut found);
    found
}

/// The same without patterns.
pub(crate) fn literals(tree: &Value) -> Vec<String> {
    let mut found = texts(tree);
    found.retain(|text| !text.contains('*'));
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            match map.get("Value") {
                Some(Value::String(text)) => found.push(text.clone()),
                Some(Value::Array(items)) => {
                    let texts = items.iter().filter_map(Value::as_str);
                    found.extend(texts.map(str::to_owned));
                }
                _ => {}
            }
            if let Some(pieces) = map.get("pattern").and_then(Value::as_array) {
                let text = |piece: &Value| match piece.get("Literal").and_then(Value::as_str) {
                    Some(text) => text.to_owned(),
                    None => "*".to_owned(),
                };
                found.push(pieces.iter().map(text).collect());
            }
            map.values().for_each(|inner| collect(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns whether `text` matches a pattern, in any letter case; an escaped `*` counts as a star,
/// which matches more.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let Some(rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    let mut rest = rest;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}
