//! `what = "exec"`: the fields of a rule about executions.

use stockade_types::Verdict;
use toml::de::DeValue;

use super::ExecBody;
use crate::{
    fields::{At, Fields, File, missing, text_of, values},
    kinds::{program, without_home, without_slash},
    pattern::{CommandPattern, PathPattern, VariablePattern},
};

/// The fields of such a rule other than the common ones.
pub(crate) const FIELDS: [&str; 5] = ["command", "unless", "programs", "cwd", "environment"];

pub(crate) fn body(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> Option<ExecBody> {
    missing(
        file,
        fields,
        "command",
        "for example [\"git\", \"push\", \"**\"]",
    );
    let programs = fields.list(file, "programs", program).map(values);
    let cwd = fields.list(file, "cwd", directory).map(values);
    let environment = fields
        .list(file, "environment", VariablePattern::parse)
        .map(values);
    let unless = commands(file, fields, "unless");
    if let Some(at) = fields.value("unless").filter(|_| effect == Verdict::Allow) {
        let message = "an allow matches what it names and nothing else; name less in `command`";
        file.problem(&at.span, &at.field, message);
    }
    let commands = commands(file, fields, "command")?;
    Some(ExecBody {
        commands,
        unless: unless.unwrap_or_default(),
        programs,
        cwd,
        environment,
    })
}

fn directory(text: &str) -> Result<PathPattern, String> {
    without_slash(text)?;
    without_home(text)?;
    PathPattern::parse(text).map_err(|error| error.to_string())
}

/// Reads one list of tokens, or a list of such lists.
fn commands(file: &mut File<'_>, fields: &Fields<'_>, key: &str) -> Option<Vec<CommandPattern>> {
    let at = fields.value(key)?;
    let wanted = "a list of tokens or a list of such lists";
    let items = at.items(file, wanted)?;
    if items.is_empty() {
        file.problem(&at.span, &at.field, "the list is empty; name the program");
        return None;
    }
    let nested = items.iter().all(|item| item.value.is_array());
    if !nested {
        return command(file, &at).map(|one| vec![one]);
    }
    let mut commands = Vec::new();
    for one in items {
        commands.extend(command(file, &one));
    }
    Some(commands)
}

fn command<'d>(file: &mut File<'_>, at: &At<&'d DeValue<'d>>) -> Option<CommandPattern> {
    let mut tokens = Vec::new();
    for one in at.items(file, "a list of tokens")? {
        tokens.push(text_of(file, &one)?.value);
    }
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    match CommandPattern::parse(&tokens) {
        Ok(command) => Some(command),
        Err(error) => {
            file.problem(&at.span, &at.field, error.to_string());
            None
        }
    }
}
