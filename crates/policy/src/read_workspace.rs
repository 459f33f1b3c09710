//! `[workspace]`: the names that no program inside may change, and where they apply.

use crate::{
    Origin, Settings, Sourced,
    fields::{Fields, File, all_sourced, shown, tighten_value},
    pattern::{PathPattern, ProtectedPattern},
};
use stockade_types::WorkspaceMode;

pub(crate) const KEYS: [&str; 7] = [
    "mode",
    "protect",
    "protect_outside_packages",
    "protect_except",
    "packages",
    "unprotect",
    "runs_later",
];
const MODES: [(&str, WorkspaceMode); 2] = [
    ("direct", WorkspaceMode::Direct),
    ("review", WorkspaceMode::Review),
];
/// The organisation's pin under which no lower layer can lift protection.
const PIN: &str = "unprotect";

/// Reads the table into the settings of the layers above.
pub(crate) fn read(file: &mut File<'_>, table: &Fields<'_>, settings: &mut Settings) {
    let mode = table.word(file, "mode", &MODES);
    let looser = |new: &WorkspaceMode, old: &WorkspaceMode| {
        *old == WorkspaceMode::Review && *new == WorkspaceMode::Direct
    };
    tighten_value(file, mode, &mut settings.workspace.mode, looser);
    for key in ["protect", "protect_outside_packages", "runs_later"] {
        let new = patterns(file, table, key);
        list(settings, key).extend(new);
    }
    // The keys that reduce protection.
    for key in ["protect_except", "packages", "unprotect"] {
        let new = patterns(file, table, key);
        let loosens = !new.is_empty() && file.source.origin != Origin::Builtin;
        if loosens && let Some(message) = refusal(file.source.origin, settings) {
            let at = table
                .value(key)
                .map(|at| (at.span.clone(), at.field.clone()));
            if let Some((span, field)) = at {
                file.problem(&span, &field, message);
            }
            continue;
        }
        list(settings, key).extend(new);
    }
}

/// Says why a layer may not reduce the protection of a preset.
fn refusal(origin: Origin, settings: &Settings) -> Option<String> {
    match origin {
        Origin::Session => Some(
            "what presets protect is lifted in your own policy (`~/.config/stockade/policy.toml`) \
             or the organisation's, and not in a file of one run"
                .to_owned(),
        ),
        Origin::User => settings.require.get(PIN).map(|pin| {
            format!(
                "the organisation requires that nothing of what presets protect is lifted ({}); \
                 remove the key",
                pin.source
            )
        }),
        Origin::Organisation | Origin::Builtin => None,
    }
}

fn list<'s>(settings: &'s mut Settings, key: &str) -> &'s mut Vec<Sourced<ProtectedPattern>> {
    let workspace = &mut settings.workspace;
    match key {
        "protect" => &mut workspace.protect,
        "protect_outside_packages" => &mut workspace.protect_outside_packages,
        "protect_except" => &mut workspace.protect_except,
        "packages" => &mut workspace.packages,
        "unprotect" => &mut workspace.unprotect,
        _ => &mut workspace.runs_later,
    }
}

fn patterns(file: &mut File<'_>, table: &Fields<'_>, key: &str) -> Vec<Sourced<ProtectedPattern>> {
    let directories = key == "packages";
    let read = table.list(file, key, |text| pattern(text, directories));
    all_sourced(file, read)
}

fn pattern(text: &str, directory: bool) -> Result<ProtectedPattern, String> {
    let pattern = PathPattern::parse(text).map_err(|error| error.to_string())?;
    let any = pattern.is_any() || text.split('/').all(|part| part.chars().all(|c| c == '*'));
    if pattern.is_rooted() || text.contains(['{', '\\']) || any {
        return Err(format!(
            "`{}` must be a path from the workspace with `*` or `**`, for example \
             `.git/hooks/**`; it holds at any depth",
            shown(text)
        ));
    }
    let plain: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if directory {
        if text.contains('*') {
            return Err(format!(
                "`{}` must be the name of a directory, or a few with `/` between; all that lies \
                 below it is meant",
                shown(text)
            ));
        }
        return Ok(ProtectedPattern::from(plain.join("/")));
    }
    // A slash at the end means the directory and everything below it.
    let below = if text.ends_with('/') && plain.last() != Some(&"**") {
        "/**"
    } else {
        ""
    };
    Ok(ProtectedPattern::from(format!(
        "{}{below}",
        plain.join("/")
    )))
}
