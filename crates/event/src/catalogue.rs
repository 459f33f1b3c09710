//! The list of all kinds with their fields, from which the reference is generated.

/// One kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindDoc {
    /// Its name, `<noun>.<past verb>`.
    pub kind: &'static str,
    /// What it means, in one sentence.
    pub doc: &'static str,
    /// The fields of its `data` in the journal.
    pub fields: &'static [FieldDoc],
}

/// One field of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDoc {
    /// Its name in the journal.
    pub name: &'static str,
    /// Its Rust type.
    pub type_name: &'static str,
    /// What it means.
    pub doc: &'static str,
}

impl FieldDoc {
    /// Returns the name of the field in `stockade events --json`, where all fields share one level.
    pub fn cli_name(&self, kind: &str) -> &'static str {
        cli_name(kind, self.name)
    }
}

/// Event fields whose name the envelope already uses, and their name in `--json`.
const RENAMED: [(&str, &str, &str); 2] = [
    ("events.lost", "source", "lost_source"),
    ("approval.decided", "scope", "approval_scope"),
];

/// Returns the name under which `--json` shows `field` of `kind`.
pub(crate) fn cli_name<'a>(kind: &str, field: &'a str) -> &'a str {
    RENAMED
        .iter()
        .find(|(k, name, _)| *k == kind && *name == field)
        .map_or(field, |(_, _, shown)| shown)
}
