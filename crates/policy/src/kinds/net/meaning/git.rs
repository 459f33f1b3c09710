//! `what = "git"`: git over smart HTTP.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::{RawText, Verdict};

use super::words::{Choice, Globs, Names, fact_within, holds};
use crate::{
    fields::{Fields, File},
    kinds::{Fit, is_allow},
    request_path::RequestPath,
};

/// The fields of such a rule beside those of a rule about hosts.
pub(crate) const FIELDS: [&str; 5] = ["repositories", "operations", "refs", "force", "delete"];

/// Changes that the words name one by one; a push of more says how many there are.
const CHANGES_SHOWN: usize = 8;

/// What a request asks of a git repository.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Git {
    /// Path of the repository on its host, without a `.git` at the end; `None` if it cannot be told.
    pub repository: Option<String>,
    /// What is done.
    pub operation: GitOperation,
    /// What a push does to which refs; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<RefChange>>,
    /// It is this and nothing else.
    pub is_certain: bool,
}

/// What is done with a repository.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GitOperation {
    /// Refs or objects are read.
    Fetch,
    /// The refs are read, and a push follows.
    Prepare,
    /// Refs are changed.
    Push,
    /// Large files are stored beside the repository (LFS), before a push.
    Upload,
}

/// One change of a ref.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RefChange {
    /// Full name, such as `refs/heads/main`.
    pub name: RawText,
    /// What becomes of it.
    pub effect: RefEffect,
    /// The object that it named before, and the one that it will name; zeros for none.
    pub ids: (String, String),
}

/// What becomes of a ref.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RefEffect {
    /// It is new.
    Create,
    /// It names another object, which may have the old one behind it or not.
    Update,
    /// It is gone.
    Delete,
}

/// What a rule can say about operations: those of [`GitOperation`] as people know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Fetch,
    Push,
}

const OPERATIONS: [(&str, Operation); 2] = [("fetch", Operation::Fetch), ("push", Operation::Push)];

/// The conditions of a rule.
#[derive(Clone, Debug)]
pub(crate) struct GitCondition {
    repositories: Names,
    operations: Choice<Operation>,
    refs: Globs,
    force: Option<bool>,
    delete: Option<bool>,
}

impl Git {
    /// Reads the head of a request; `None` if it is certainly nothing about git.
    pub(crate) fn of_head(method: &str, path: &RequestPath<'_>) -> Option<Self> {
        if path.ambiguity().is_some() {
            return Some(Self::unclear());
        }
        let plain = std::str::from_utf8(path.plain()).ok()?;
        let service = path.query();
        let read = |end: &str, operation, wanted: &str, query: &[u8]| {
            let repository = plain.strip_suffix(end)?.strip_prefix('/')?;
            let repository = repository.strip_suffix(".git").unwrap_or(repository);
            let is_certain = !repository.is_empty() && method == wanted && service == query;
            Some(Self {
                repository: Some(repository.to_owned()),
                operation,
                changes: None,
                is_certain,
            })
        };
        let known = match service {
            b"service=git-receive-pack" => {
                read("/info/refs", GitOperation::Prepare, "GET", service)
            }
            b"service=git-upload-pack" => read("/info/refs", GitOperation::Fetch, "GET", service),
            _ => None,
        };
        let fetch = || read("/git-upload-pack", GitOperation::Fetch, "POST", b"");
        let push = || read("/git-receive-pack", GitOperation::Push, "POST", b"");
        let files = || {
            let (before, _) = plain.split_once("/info/lfs/")?;
            let repository = before.trim_start_matches('/').trim_end_matches(".git");
            Some(Self {
                repository: Some(repository.to_owned()),
                operation: GitOperation::Upload,
                changes: None,
                is_certain: false,
            })
        };
        let hidden = || Self::hidden(method, &path.folded());
        known
            .or_else(push)
            .or_else(fetch)
            .or_else(files)
            .or_else(hidden)
    }

    /// What is not git, except to a server that reads paths differently.
    fn hidden(method: &str, folded: &str) -> Option<Self> {
        const STORES: [&str; 3] = [".git/", "/refs/", "/objects/"];
        // Old servers take a push file by file (WebDAV).
        let writes = !matches!(method, "GET" | "HEAD" | "POST" | "OPTIONS");
        let by_file = writes && STORES.iter().any(|part| folded.contains(part));
        let named = ["git-receive-pack", "/info/lfs/"]
            .iter()
            .any(|part| folded.contains(part));
        (by_file || named).then(Self::unclear)
    }

    /// What could be a push to any repository.
    pub fn unclear() -> Self {
        Self {
            repository: None,
            operation: GitOperation::Push,
            changes: None,
            is_certain: false,
        }
    }

    pub(crate) fn in_words(&self) -> String {
        let repository = match &self.repository {
            Some(name) => name.clone(),
            None => "some repository".to_owned(),
        };
        let text = match self.operation {
            GitOperation::Fetch => format!("fetch from {repository}"),
            GitOperation::Prepare => format!("read the refs of {repository} before a push"),
            GitOperation::Upload => format!("store large files of {repository}"),
            GitOperation::Push => format!("push to {repository}: {}", self.changes_in_words()),
        };
        if self.is_certain {
            text
        } else {
            format!("perhaps {text}")
        }
    }

    fn changes_in_words(&self) -> String {
        let Some(changes) = &self.changes else {
            return "which refs is not known".to_owned();
        };
        let mut texts: Vec<String> = changes
            .iter()
            .take(CHANGES_SHOWN)
            .map(RefChange::in_words)
            .collect();
        if changes.len() > CHANGES_SHOWN {
            texts.push(format!("and {} more", changes.len() - CHANGES_SHOWN));
        }
        texts.join(", ")
    }

    pub(crate) fn bound(&self) -> Option<String> {
        let (repository, changes) = (self.repository.as_ref()?, self.changes.as_ref()?);
        let changes: Vec<_> = changes.iter().map(|one| (&one.name, one.effect)).collect();
        self.is_certain
            .then(|| serde_json::json!(["git", repository, self.operation, changes]).to_string())
    }
}

impl RefChange {
    fn in_words(&self) -> String {
        // Bytes that are no text are shown as in every record.
        let name = match std::str::from_utf8(self.name.as_bytes()) {
            Ok(name) => name.to_owned(),
            Err(_) => self.name.display(),
        };
        let (sort, short) = match name
            .split_once('/')
            .and_then(|(_, rest)| rest.split_once('/'))
        {
            Some(("heads", branch)) => ("branch ", branch),
            Some(("tags", tag)) => ("tag ", tag),
            _ => ("", name.as_str()),
        };
        match self.effect {
            RefEffect::Create => format!("new {sort}{short}"),
            RefEffect::Update => format!("{sort}{short}"),
            RefEffect::Delete => format!("delete {sort}{short}"),
        }
    }

    /// Tells whether the old object is lost; the bytes of a push do not say it of an update.
    const fn is_forced(&self) -> Option<bool> {
        match self.effect {
            RefEffect::Create | RefEffect::Delete => Some(false),
            RefEffect::Update => None,
        }
    }
}

impl GitCondition {
    pub(crate) fn read(file: &mut File<'_>, fields: &Fields<'_>, effect: Verdict) -> Self {
        let operations = Choice::read(file, fields, "operations", &OPERATIONS);
        let force = fields.flag(file, "force");
        if let Some(at) = force.as_ref().filter(|at| at.value && is_allow(effect)) {
            let message = "a push does not show whether it is forced, so no allow can name it; leave \
                           `force` out";
            file.problem(&at.span, &at.field, message);
        }
        let of_push = ["refs", "force", "delete"];
        if !operations.has(Operation::Push) {
            for key in of_push.into_iter().filter(|key| fields.has(key)) {
                let message = "only a push changes refs; name \"push\" in `operations`";
                file.problem(&fields.span(), &fields.field(key), message);
            }
        }
        // Refs, where a rule names them, are those of pushes.
        let operations = if operations.is_any() && of_push.iter().any(|key| fields.has(key)) {
            Choice(Some(vec![Operation::Push]))
        } else {
            operations
        };
        Self {
            repositories: Names::read(file, fields, "repositories"),
            operations,
            refs: Globs::read(file, fields, "refs", full_name),
            force: force.map(|at| at.value),
            delete: fields.flag(file, "delete").map(|at| at.value),
        }
    }

    fn names_changes(&self) -> bool {
        !self.refs.is_any() || self.force.is_some() || self.delete.is_some()
    }

    pub(crate) fn fit(&self, effect: Verdict, git: &Git) -> Option<Fit> {
        let sure = git.is_certain || !is_allow(effect);
        if !sure || !self.repositories.fit(effect, git.repository.as_deref()) {
            return None;
        }
        let (fetch, push) = (
            self.operations.has(Operation::Fetch),
            self.operations.has(Operation::Push),
        );
        let could_be_both = !git.is_certain;
        match git.operation {
            GitOperation::Fetch => (fetch || (could_be_both && push)).then_some(Fit::Now),
            // It reads what a fetch reads. A rule about the push itself is not about it, but opens the
            // way to it; what denies every push denies this one before it begins.
            GitOperation::Prepare if could_be_both => Some(Fit::Now),
            GitOperation::Prepare if fetch && !self.names_changes() => Some(Fit::Now),
            GitOperation::Prepare if effect == Verdict::Deny => {
                (push && !self.names_changes()).then_some(Fit::Now)
            }
            GitOperation::Prepare => Some(Fit::Later),
            GitOperation::Push | GitOperation::Upload => {
                let meant = (push && self.fit_changes(effect, git)) || (could_be_both && fetch);
                meant.then_some(Fit::Now)
            }
        }
    }

    fn fit_changes(&self, effect: Verdict, git: &Git) -> bool {
        let Some(changes) = &git.changes else {
            return !self.names_changes() || !is_allow(effect);
        };
        let fits = |change: &RefChange| {
            self.refs.fit(effect, Some(change.name.as_bytes()))
                && holds(effect, self.force, change.is_forced())
                && holds(
                    effect,
                    self.delete,
                    Some(change.effect == RefEffect::Delete),
                )
        };
        if is_allow(effect) {
            changes.iter().all(fits)
        } else {
            changes.iter().any(fits)
        }
    }

    pub(crate) fn lies_within(&self, outer: &Self) -> bool {
        self.repositories.lie_within(&outer.repositories)
            && self.operations.lie_within(&outer.operations)
            && self.refs.lie_within(&outer.refs)
            && fact_within(self.force, outer.force)
            && fact_within(self.delete, outer.delete)
    }
}

/// Makes the name of a ref whole: `main` is a branch, `tags/v1` a tag.
fn full_name(text: &str) -> String {
    if text.starts_with("refs/") {
        return text.to_owned();
    }
    match text.split_once('/') {
        Some(("tags" | "heads" | "notes" | "pull", _)) => format!("refs/{text}"),
        _ => format!("refs/heads/{text}"),
    }
}

impl fmt::Display for GitCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repositories.write(f, "repositories")?;
        self.operations.write(f, "operations", |one| match one {
            Operation::Fetch => "fetch",
            Operation::Push => "push",
        })?;
        self.refs.write(f, "refs")?;
        for (label, fact) in [("force", self.force), ("delete", self.delete)] {
            match fact {
                Some(true) => write!(f, "; {label}")?,
                Some(false) => write!(f, "; no {label}")?,
                None => {}
            }
        }
        Ok(())
    }
}
