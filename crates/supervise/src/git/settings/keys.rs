//! The settings of a repository that a session may change: those that run nothing.

use super::is_name;

/// Returns the permitted values of a setting; `None` if it is not on the list.
pub(super) fn kind(name: &[u8]) -> Option<Kind> {
    let (section, middle, key) = parts(name);
    let fits =
        |entry: &&(&str, &str, Kind)| entry.0.as_bytes() == section && entry.1.as_bytes() == key;
    let found = match middle {
        None => PLAIN.iter().find(fits),
        Some(b"lfs") if section == b"filter" => LFS.iter().find(fits),
        Some(middle) if is_name(middle) || section == b"lfs" => NAMED.iter().find(fits),
        Some(_) => None,
    };
    // Every `advice.*` setting switches a message.
    let advice = middle.is_none() && section == b"advice";
    found.map(|entry| entry.2).or(advice.then_some(Kind::Bool))
}

/// A name in its parts: section, the part in the middle if there is one, and key.
pub(super) fn parts(name: &[u8]) -> (&[u8], Option<&[u8]>, &[u8]) {
    let first = name.iter().position(|byte| *byte == b'.');
    let last = name.iter().rposition(|byte| *byte == b'.');
    let (Some(first), Some(last)) = (first, last) else {
        return (name, None, b"");
    };
    let section = name.get(..first).unwrap_or_default();
    let key = name.get(last + 1..).unwrap_or_default();
    (section, name.get(first + 1..last), key)
}

/// The permitted values of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text for display only.
    Text,
    Bool,
    /// A boolean or one of these words.
    Word(&'static [&'static str]),
    Number,
    /// The name of a branch or another ref.
    Ref,
    /// The remote that a branch is fetched from and pushed to.
    Remote,
    /// The address of a remote.
    Url,
    /// The refs that are fetched, and their targets.
    Refspec,
    /// The source of a submodule.
    SubmoduleUrl,
    /// The place of a submodule's working tree.
    WorkTree,
    /// A boolean that counts only in a repository that the session made.
    BoolOfNew,
    /// This text and no other.
    Exactly(&'static str),
    /// An empty directory for hooks, to which every addition needs a question.
    HookPlace,
}

/// Settings without a part in the middle.
const PLAIN: [(&str, &str, Kind); 56] = [
    ("author", "email", Kind::Text),
    ("author", "name", Kind::Text),
    (
        "branch",
        "autosetupmerge",
        Kind::Word(&["always", "inherit", "simple"]),
    ),
    (
        "branch",
        "autosetuprebase",
        Kind::Word(&["never", "local", "remote", "always"]),
    ),
    ("color", "ui", Kind::Word(&["auto", "always", "never"])),
    ("committer", "email", Kind::Text),
    ("committer", "name", Kind::Text),
    ("core", "abbrev", Kind::Number),
    ("core", "autocrlf", Kind::Word(&["input"])),
    ("core", "bare", Kind::BoolOfNew),
    ("core", "commitgraph", Kind::Bool),
    ("core", "eol", Kind::Word(&["lf", "crlf", "native"])),
    ("core", "filemode", Kind::Bool),
    ("core", "hookspath", Kind::HookPlace),
    ("core", "ignorecase", Kind::Bool),
    ("core", "logallrefupdates", Kind::Word(&["always"])),
    ("core", "longpaths", Kind::Bool),
    ("core", "multipackindex", Kind::Bool),
    ("core", "precomposeunicode", Kind::Bool),
    ("core", "preloadindex", Kind::Bool),
    ("core", "quotepath", Kind::Bool),
    ("core", "repositoryformatversion", Kind::Number),
    ("core", "safecrlf", Kind::Word(&["warn"])),
    ("core", "sparsecheckout", Kind::Bool),
    ("core", "sparsecheckoutcone", Kind::Bool),
    ("core", "splitindex", Kind::Bool),
    ("core", "symlinks", Kind::Bool),
    ("core", "untrackedcache", Kind::Word(&["keep"])),
    ("core", "worktree", Kind::WorkTree),
    (
        "extensions",
        "objectformat",
        Kind::Word(&["sha1", "sha256"]),
    ),
    ("extensions", "partialclone", Kind::Ref),
    (
        "extensions",
        "refstorage",
        Kind::Word(&["files", "reftable"]),
    ),
    ("extensions", "relativeworktrees", Kind::Bool),
    ("extensions", "worktreeconfig", Kind::Bool),
    ("fetch", "prune", Kind::Bool),
    ("fetch", "prunetags", Kind::Bool),
    ("gc", "auto", Kind::Number),
    ("gc", "autodetach", Kind::Bool),
    ("gc", "autopacklimit", Kind::Number),
    ("gc", "writecommitgraph", Kind::Bool),
    ("index", "sparse", Kind::Bool),
    ("index", "version", Kind::Number),
    ("init", "defaultbranch", Kind::Ref),
    ("lfs", "repositoryformatversion", Kind::Number),
    ("maintenance", "auto", Kind::Bool),
    (
        "maintenance",
        "strategy",
        Kind::Word(&["none", "incremental", "geometric"]),
    ),
    (
        "merge",
        "conflictstyle",
        Kind::Word(&["merge", "diff3", "zdiff3"]),
    ),
    ("pull", "ff", Kind::Word(&["only"])),
    ("pull", "rebase", Kind::Word(&["merges"])),
    ("push", "autosetupremote", Kind::Bool),
    ("rebase", "autostash", Kind::Bool),
    ("rerere", "enabled", Kind::Bool),
    ("submodule", "active", Kind::Text),
    ("submodule", "recurse", Kind::Bool),
    ("user", "email", Kind::Text),
    ("user", "name", Kind::Text),
];

/// The filter settings of `git lfs install`: programs of the owner with these arguments.
const LFS: [(&str, &str, Kind); 4] = [
    ("filter", "clean", Kind::Exactly("git-lfs clean -- %f")),
    ("filter", "process", Kind::Exactly("git-lfs filter-process")),
    ("filter", "required", Kind::Bool),
    ("filter", "smudge", Kind::Exactly("git-lfs smudge -- %f")),
];

/// Settings of one branch, remote or submodule.
const NAMED: [(&str, &str, Kind); 27] = [
    ("branch", "description", Kind::Text),
    ("branch", "gh-merge-base", Kind::Text),
    ("branch", "merge", Kind::Ref),
    ("branch", "pushremote", Kind::Remote),
    ("branch", "rebase", Kind::Word(&["merges"])),
    ("branch", "remote", Kind::Remote),
    ("branch", "vscode-merge-base", Kind::Text),
    ("lfs", "access", Kind::Word(&["none", "basic"])),
    ("lfs", "locksverify", Kind::Bool),
    ("maintenance", "enabled", Kind::Bool),
    ("remote", "fetch", Kind::Refspec),
    ("remote", "gh-resolved", Kind::Ref),
    ("remote", "mirror", Kind::BoolOfNew),
    ("remote", "partialclonefilter", Kind::Text),
    ("remote", "promisor", Kind::Bool),
    ("remote", "prune", Kind::Bool),
    ("remote", "prunetags", Kind::Bool),
    ("remote", "pushurl", Kind::Url),
    ("remote", "skipfetchall", Kind::Bool),
    ("remote", "tagopt", Kind::Word(&["--no-tags", "--tags"])),
    ("remote", "url", Kind::Url),
    ("submodule", "active", Kind::Bool),
    ("submodule", "branch", Kind::Ref),
    (
        "submodule",
        "fetchrecursesubmodules",
        Kind::Word(&["on-demand"]),
    ),
    (
        "submodule",
        "ignore",
        Kind::Word(&["all", "dirty", "untracked", "none"]),
    ),
    (
        "submodule",
        "update",
        Kind::Word(&["checkout", "rebase", "merge", "none"]),
    ),
    ("submodule", "url", Kind::SubmoduleUrl),
];
