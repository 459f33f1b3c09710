//! `what = "tool"`: the fields of a rule about tools.

use stockade_types::ToolEffect;

use super::{
    ToolBody,
    condition::{ArgumentPattern, Condition, Name},
};
use crate::{
    fields::{Fields, File, did_you_mean, shown, values},
    pattern::Glob,
};

/// The fields of such a rule other than the common ones.
pub(crate) const FIELDS: [&str; 4] = ["tools", "servers", "effects", "arguments"];

pub(crate) fn body(file: &mut File<'_>, fields: &Fields<'_>) -> Option<ToolBody> {
    if !fields.has("tools") && !fields.has("servers") {
        let message =
            "missing; name tools, for example [\"Bash\", \"mcp__github__*\"], or `servers`";
        file.problem(&fields.span(), &fields.field("tools"), message);
    }
    let tools = fields.list(file, "tools", tool).map(values);
    let servers = fields.list(file, "servers", server).map(values);
    let effects = fields.list(file, "effects", effect).map(values);
    let arguments = arguments(file, fields);
    let tools = match tools {
        Some(tools) => tools,
        None if fields.has("tools") => return None,
        None => vec![Glob::parse("*").ok()?],
    };
    if fields.has("servers") && servers.is_none() || fields.has("effects") && effects.is_none() {
        return None;
    }
    Some(ToolBody {
        tools,
        servers,
        effects,
        arguments: arguments?,
    })
}

fn tool(text: &str) -> Result<Glob, String> {
    if let Some((name, inner)) = text.split_once('(') {
        let inner = inner.strip_suffix(')').unwrap_or(inner);
        return Err(format!(
            "`{}` is no name of a tool; write tools = [\"{}\"] and arguments = {{ command = [\"{}\"] }}",
            shown(text),
            shown(name),
            shown(inner)
        ));
    }
    if let Some((server, tool)) = text
        .strip_prefix("mcp:")
        .and_then(|rest| rest.split_once('/'))
    {
        return Err(format!(
            "`{}` is how a test names a tool; in a rule write servers = [\"{}\"] and tools = [\"{}\"]",
            shown(text),
            shown(server),
            shown(tool)
        ));
    }
    name(text)
}

fn server(text: &str) -> Result<Glob, String> {
    if let Some(rest) = text.strip_prefix("mcp__") {
        let plain = rest.trim_end_matches("__*");
        return Err(format!(
            "`{}` is the beginning of a tool's name; a server is written `{}`",
            shown(text),
            shown(plain)
        ));
    }
    name(text)
}

fn name(text: &str) -> Result<Glob, String> {
    if text.is_empty() {
        return Err("a name cannot be empty; `*` stands for any".to_owned());
    }
    Glob::parse(text).map_err(|error| error.to_string())
}

fn effect(text: &str) -> Result<ToolEffect, String> {
    let mut all = ToolEffect::ALL.into_iter();
    all.find(|effect| effect.as_str() == text).ok_or_else(|| {
        let names: Vec<&str> = ToolEffect::ALL.iter().map(|one| one.as_str()).collect();
        format!(
            "`{}` is not one of {}{}",
            shown(text),
            names.join(", "),
            did_you_mean(text, &names)
        )
    })
}

/// Reads a table of arguments, each with its patterns; no table has no conditions.
fn arguments(file: &mut File<'_>, fields: &Fields<'_>) -> Option<Vec<Condition>> {
    if !fields.has("arguments") {
        return Some(Vec::new());
    }
    let table = fields.open_table(file, "arguments")?;
    let mut conditions = Vec::new();
    let names = table.keys();
    if names.is_empty() {
        let message =
            "the table is empty; leave the key out, or write { command = [\"git push*\"] }";
        file.problem(&table.span(), &fields.field("arguments"), message);
        return None;
    }
    let mut is_read = true;
    for key in names {
        let name = Name::parse(key);
        let before = file.problems.len();
        let patterns = table.list(file, key, |text| ArgumentPattern::parse(text, &name));
        match patterns.map(values) {
            Some(patterns) if file.problems.len() == before => {
                conditions.push(Condition { name, patterns });
            }
            Some(_) | None => is_read = false,
        }
    }
    is_read.then_some(conditions)
}
