//! The names that agents use, one file for each family: a record in, claims out.

mod ai_sdk;
mod claude;
mod codex;
mod gemini;
mod gen_ai;

use stockade_types::RawText;

use super::{Claim, Outcome, Prompt, record::Record};
use crate::{
    claims::{Bounded, Call, Usage},
    content::{Content, Growing},
    json::{Json, Shape},
    tree::Tree,
};

/// Takes what a record says.
type Take<'t> = &'t mut dyn FnMut(Claim);

/// Says what a record claims; nothing, if it is not known what it means.
pub(super) fn claims(record: &Record<'_>, take: Take<'_>) {
    let named = record.text("event.name").unwrap_or_default();
    let begins = |of: &str| {
        let mut all = [&record.body, &record.event, named].into_iter();
        all.find_map(|name: &[u8]| name.strip_prefix(of.as_bytes()))
    };
    if let Some(event) = begins("claude_code.") {
        claude::claims(event, record, take);
    } else if let Some(event) = begins("codex.") {
        codex::claims(event, record, take);
    } else if let Some(event) = begins("gemini_cli.").or_else(|| begins("qwen-code.")) {
        gemini::claims(event, record, take);
    } else if record.scope.as_ref() == b"gemini-cli" {
        // It says the same again in other names.
    } else if let Some(operation) = record.text("ai.operationId") {
        ai_sdk::claims(operation, record, take);
    } else if let Some(operation) = record.text("gen_ai.operation.name") {
        gen_ai::claims(operation, record, take);
    }
}

/// Makes a prompt of one text.
fn prompt(text: Option<Content>) -> Option<Claim> {
    let mut parts = Bounded::default();
    parts.push(text?);
    Some(Claim::Prompt(Prompt {
        parts,
        aside: false,
    }))
}

/// Makes the arguments of a call, which are JSON as a text, as those in traffic are made.
fn arguments(text: Option<&[u8]>) -> Option<Content> {
    let text = text?;
    let mut json = Json::new(Shape::ALL);
    json.feed(text);
    let canonical = match json.finish() {
        (Some(tree), extent) if !extent.is_cut && !extent.is_truncated => tree.arguments(),
        _ => None,
    };
    Some(canonical.unwrap_or_else(|| Content::of(text)))
}

/// Makes what came of a call of a text.
fn outcome(call: RawText, text: Option<&[u8]>) -> Claim {
    let content = text.map(Content::of);
    Claim::Returned(Outcome {
        call,
        bytes: content.as_ref().map_or(0, Content::bytes),
        content,
    })
}

/// Takes the texts of a message: one text, or parts that each have one by one of these names.
fn texts(content: Option<&Tree>, names: &[&str], parts: &mut Bounded<Content>) {
    let Some(content) = content else { return };
    if let Some(text) = content.said() {
        return parts.push(text.content());
    }
    for part in content
        .items()
        .iter()
        .filter(|part| part.is("type", "text"))
    {
        let mut found = names.iter().filter_map(|name| part.get(name));
        if let Some(text) = found.find_map(Tree::said) {
            parts.push(text.content());
        }
    }
}

/// Returns the messages behind the last one that the model said.
fn new_messages(messages: &Tree) -> &[Tree] {
    let items = messages.items();
    let last = items.iter().rposition(|one| one.is("role", "assistant"));
    items.get(last.map_or(0, |at| at + 1)..).unwrap_or_default()
}

/// Makes a call whose arguments are JSON in JSON, or a text that is JSON.
fn call(id: Option<&Tree>, name: Option<&Tree>, input: Option<&Tree>) -> Claim {
    let named = |tree: Option<&Tree>| tree.and_then(Tree::text).map(crate::content::name);
    let text = input.and_then(Tree::said).and_then(Growing::text);
    Claim::Called(Call {
        id: named(id).unwrap_or_default(),
        name: named(name).unwrap_or_default(),
        arguments: match text {
            Some(text) => arguments(Some(text)),
            None => input.and_then(Tree::arguments),
        },
    })
}

/// Returns tokens, of attributes by these names: read, of them from a cache, made, kept for itself.
fn usage(record: &Record<'_>, [input, cached, output, reasoning]: [&str; 4]) -> Usage {
    Usage {
        input: record.number(input),
        cached: record.number(cached),
        cache_written: None,
        output: record.number(output),
        reasoning: record.number(reasoning),
    }
}
