//! Rules that keep answers, in the user's files: in the policy for all workspaces, and beside it in
//! one file for each workspace.
//!
//! A rule is appended to its file and removed by its lines; the rest of the file, with its
//! comments, does not change. A file is written completely under another name and then renamed.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use stockade_approval::Lasting;
use stockade_policy::{HostSets, LastingRule, Origin, RuleForm, Source};
use stockade_types::{Digest, ignored};

use crate::{human::safe, own_places::user_file};

/// Beginning of the ids of rules that keep an answer.
pub(crate) const KEPT: &str = "always-";
/// Beginning of the ids of rules that were learned from sessions.
pub(crate) const LEARNED: &str = "learned-";
/// Directory of the files for single workspaces, beside the user's policy.
const WORKSPACES: &str = "workspaces";
/// Digits of the digest in the name of such a file: enough that no two workspaces share one.
const DIGITS: usize = 12;

/// Where a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// In one workspace.
    Workspace,
    /// In all of them.
    Everywhere,
}

impl Reach {
    /// Returns the reach that `--everywhere` selects.
    pub(crate) const fn of(everywhere: bool) -> Self {
        if everywhere {
            Self::Everywhere
        } else {
            Self::Workspace
        }
    }
}

/// One rule of a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Kept {
    /// Its id.
    pub(crate) id: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// Its time and origin, as the file says.
    pub(crate) note: String,
    /// The rule as it is written.
    pub(crate) text: String,
}

/// Returns the file of rules for one workspace.
///
/// # Errors
/// When the place of the user's policy is not known.
pub(crate) fn workspace_file(workspace: &Path) -> anyhow::Result<PathBuf> {
    let (policy, _) = user_file()?;
    let directory = policy.parent().context("a policy lies in a directory")?;
    // The same workspace has one name, whichever links lead to it.
    let real = fs::canonicalize(workspace).unwrap_or_else(|_| workspace.to_owned());
    let digest = Digest::of(real.as_os_str().as_encoded_bytes()).to_string();
    let digits: String = digest
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(DIGITS)
        .collect();
    let name = real.file_name().map_or_else(String::new, |name| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        name.to_string_lossy().chars().map(plain).take(40).collect()
    });
    Ok(directory
        .join(WORKSPACES)
        .join(format!("{name}-{digits}.toml")))
}

/// Returns the file for a rule of this reach.
///
/// # Errors
/// When the place of the user's policy is not known.
pub(crate) fn file(reach: Reach, workspace: &Path) -> anyhow::Result<PathBuf> {
    match reach {
        Reach::Workspace => workspace_file(workspace),
        Reach::Everywhere => Ok(user_file()?.0),
    }
}

/// Adds a rule to a file.
///
/// # Errors
/// When the file cannot be read or written, or would not be a valid policy with the rule.
pub(crate) fn add(path: &Path, workspace: &Path, note: &str, rule: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let old = match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read `{shown}`")),
    };
    let mut text = old.unwrap_or_else(|| {
        let place = safe(&workspace.display().to_string());
        let head = "schema = 1\n";
        match path.parent().and_then(Path::file_name) {
            Some(parent) if parent == WORKSPACES => {
                format!("# Rules of yours for the workspace {place} alone.\n{head}")
            }
            _ => head.to_owned(),
        }
    });
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.extend(["\n# ", note, "\n", rule]);
    check(path, &text)?;
    replace(path, &text).with_context(|| format!("cannot write `{shown}`"))
}

/// Refuses a text that would prevent the next session from starting.
fn check(path: &Path, text: &str) -> anyhow::Result<()> {
    let source = Source {
        origin: Origin::User,
        name: path.display().to_string(),
        text: text.to_owned(),
    };
    match stockade_policy::load(&[source], &HostSets::default()) {
        Ok(_) => Ok(()),
        Err(problems) => {
            bail!("the rule was not written, since the file would be wrong: {problems}")
        }
    }
}

/// Writes a file completely or not at all; if it is a link, its target is replaced.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let mode = fs::metadata(&path).ok().map(|meta| meta.permissions());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = directory.join(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        if let Some(mode) = mode {
            file.set_permissions(mode)?;
        }
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    let written = write();
    if written.is_err() {
        // Remains of this attempt would block the next one.
        ignored(
            fs::remove_file(&beside),
            "the next attempt names what blocks it",
        );
    }
    written
}

/// Lists the kept rules in all of the user's files.
///
/// # Errors
/// When a file exists but cannot be read.
pub(crate) fn list() -> anyhow::Result<Vec<Kept>> {
    let (policy, _) = user_file()?;
    let mut files = vec![policy.clone()];
    let workspaces = policy.with_file_name(WORKSPACES);
    match fs::read_dir(&workspaces) {
        Ok(entries) => {
            let named = entries.flatten().map(|entry| entry.path());
            files.extend(named.filter(|path| path.extension().is_some_and(|end| end == "toml")));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let shown = workspaces.display();
            return Err(error).with_context(|| format!("cannot read `{shown}`"));
        }
    }
    files.sort();
    let mut kept = Vec::new();
    for file in files {
        match fs::read_to_string(&file) {
            Ok(text) => kept.extend(blocks(&text).into_iter().map(|block| Kept {
                id: block.id,
                file: file.clone(),
                note: block.note,
                text: block.rule,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let shown = file.display().to_string();
                return Err(error).with_context(|| format!("cannot read `{shown}`"));
            }
        }
    }
    Ok(kept)
}

/// Removes a rule from its file.
///
/// # Errors
/// When the file cannot be read or written, or the rule is no longer there.
pub(crate) fn remove(kept: &Kept) -> anyhow::Result<()> {
    let shown = kept.file.display().to_string();
    let text = fs::read_to_string(&kept.file).with_context(|| format!("cannot read `{shown}`"))?;
    let found = blocks(&text).into_iter().find(|block| block.id == kept.id);
    let Some(block) = found else {
        bail!("`{}` is no longer in `{shown}`", kept.id);
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let before = lines.get(..block.first).unwrap_or_default();
    let after = lines.get(block.end..).unwrap_or_default();
    let rest = [before, after].concat().concat();
    check(&kept.file, &rest)?;
    replace(&kept.file, &rest).with_context(|| format!("cannot write `{shown}`"))
}

/// A kept rule in a text, with its lines.
struct Block {
    id: String,
    note: String,
    rule: String,
    first: usize,
    end: usize,
}

/// Finds the rules that this module wrote: a note, `[[allow]]` or `[[publish]]`, and the lines up
/// to an empty line, a comment or another table.
fn blocks(text: &str) -> Vec<Block> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut blocks = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_form = |form: &RuleForm| form.header() == line.trim();
        if !RuleForm::ALL.iter().any(is_form) {
            continue;
        }
        let body = lines.get(at + 1..).unwrap_or_default();
        let length = body
            .iter()
            .position(|line| line.trim().is_empty() || line.starts_with(['#', '[']))
            .unwrap_or(body.len());
        let body = body.get(..length).unwrap_or_default();
        let id = body.iter().find_map(|line| {
            let value = line.strip_prefix("id = \"")?.trim_end().strip_suffix('"')?;
            [KEPT, LEARNED]
                .iter()
                .any(|own| value.starts_with(own))
                .then(|| value.to_owned())
        });
        let Some(id) = id else { continue };
        let above = at.checked_sub(1).and_then(|above| lines.get(above));
        let note = above
            .and_then(|line| line.strip_prefix("# "))
            .map(str::trim);
        let mut first = if note.is_some() { at - 1 } else { at };
        let gap = first.checked_sub(1).and_then(|gap| lines.get(gap));
        if gap.is_some_and(|line| line.trim().is_empty()) {
            first -= 1;
        }
        blocks.push(Block {
            id,
            note: note.unwrap_or_default().to_owned(),
            rule: [&[*line], body].concat().concat(),
            first,
            end: at + 1 + length,
        });
    }
    blocks
}

/// Keeps the answer to a question, and returns the place.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn keep(
    rule: &LastingRule,
    (approval, session): (&str, &str),
    (reach, workspace): (Reach, &Path),
) -> anyhow::Result<String> {
    let path = file(reach, workspace)?;
    let id = format!("{KEPT}{approval}");
    let now = crate::human::minute(unix_nanos(), &jiff::tz::TimeZone::system());
    let note = format!("{now}, session {session}, answer {approval}");
    let text = rule.to_toml(&id, "allowed always");
    add(&path, workspace, &note, &text)?;
    let shown = safe(&path.display().to_string());
    Ok(format!(
        "kept; `stockade rules remove {id}` undoes it; in {shown}"
    ))
}

/// Keeps an answer for the workspace in which it was given, as the terminal's dialog requests.
pub(crate) fn keep_answer(
    lasting: &Lasting,
    approval: &str,
    session: &str,
) -> Result<String, String> {
    let place = (Reach::Workspace, Path::new(&lasting.workspace));
    keep(&lasting.rule, (approval, session), place).map_err(|error| format!("{error:#}"))
}

fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Kept, add, blocks, remove};

    const RULE: &str = "[[allow]]\nid = \"always-7f3a0001\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nreason = \"r\"\n";

    #[test]
    fn a_rule_is_added_and_taken_out_and_the_rest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        let before = "# mine\nschema = 1 # the format\n\n[[deny]]\nid = \"x\"\nwhat = \"net\"\n\
                      hosts = [\"b.test\"] # bad\nreason = \"r\"\n# the end, without a line end";
        fs::write(&path, before).unwrap();
        add(&path, directory.path(), "today, session 3f2a", RULE).unwrap();
        let with = fs::read_to_string(&path).unwrap();
        assert!(with.starts_with(before) && with.ends_with(RULE), "{with}");
        let found = blocks(&with);
        let block = found.first().unwrap();
        assert_eq!(
            (block.id.as_str(), block.note.as_str()),
            ("always-7f3a0001", "today, session 3f2a")
        );
        let kept = Kept {
            id: block.id.clone(),
            file: path.clone(),
            note: String::new(),
            text: String::new(),
        };
        remove(&kept).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{before}\n"));
        assert!(remove(&kept).is_err());
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_would_break_the_file_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        add(&path, directory.path(), "n", RULE).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        assert!(
            add(&path, directory.path(), "n", RULE).is_err(),
            "the id is there already"
        );
        assert!(add(&path, directory.path(), "n", "[[allow]]\n").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), good);
    }
}
