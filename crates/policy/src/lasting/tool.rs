//! The rule that keeps an answer about a tool call: this tool, with exactly these arguments.

use std::fmt::Write as _;

use stockade_types::ToolEffect;

use super::{LastingRule, RuleForm, draft::is_hidden, literal, quoted, text};
use crate::ToolRequest;

/// Most arguments that such a rule names; more are no rule that a person reads.
const ARGUMENTS_MAX: usize = 8;
/// Most bytes of all their texts.
const TEXT_BYTES_MAX: usize = 1024;

/// Makes the narrowest rule that names the call; `None` if a policy cannot name it.
pub(super) fn rule(request: &ToolRequest) -> Option<LastingRule> {
    let arguments = &request.arguments;
    let bytes: usize = arguments
        .values()
        .iter()
        .map(|one| one.text.as_bytes().len())
        .sum();
    let is_short = arguments.values().len() <= ARGUMENTS_MAX && bytes <= TEXT_BYTES_MAX;
    if !arguments.is_whole() || !is_short {
        return None;
    }
    let named = |raw| text(raw).filter(|text| !is_hidden(text)).map(literal);
    let tool = named(&request.tool)?;
    let mut conditions = String::from("what = \"tool\"\n");
    writeln!(conditions, "tools = [{}]", quoted(&tool)).ok()?;
    let mut words = format!("use {tool}");
    if let Some(server) = &request.server {
        let server = named(server)?;
        writeln!(conditions, "servers = [{}]", quoted(&server)).ok()?;
        write!(words, " of {server}").ok()?;
    }
    let mut fields = Vec::new();
    for one in arguments.values() {
        let (name, value) = (text(&one.path)?, named(&one.text)?);
        fields.push(format!("{} = [{}]", quoted(name), quoted(&value)));
        write!(words, ", {name} {value}").ok()?;
    }
    if !fields.is_empty() {
        writeln!(conditions, "arguments = {{ {} }}", fields.join(", ")).ok()?;
    }
    let reads = request.effect == ToolEffect::Read;
    Some(LastingRule {
        form: RuleForm::Allow,
        conditions,
        words,
        risk: (!reads).then(|| "also with arguments that are not named here".to_owned()),
    })
}
