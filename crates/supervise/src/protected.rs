//! Finding the protected paths that exist in a workspace when the session starts.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::FileType;
use stockade_plan::{ProtectedEntry, ShareFact};
use stockade_policy::WorkspaceSettings;
use stockade_types::AbsPath;

use crate::{
    places::{self, Places},
    repository::{GitShare, Part},
    tree::{self, Entry, Search, TooMany, Unlocked},
};

/// Why the protected paths of a directory cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum ProtectedError {
    /// It has more entries than are searched for protected paths.
    #[error(
        "the workspace `{path}` has more than {entries_max} entries; a protected path among them could be missed"
    )]
    WorkspaceTooLarge {
        /// The workspace.
        path: AbsPath,
        /// The limit.
        entries_max: usize,
    },
    /// Links and pointers with protected names lead to more places than are watched.
    #[error(
        "protected links and git directories of the workspace `{path}` lead to more than {places_max} places; one of them could be missed"
    )]
    TooManyPlaces {
        /// The workspace.
        path: AbsPath,
        /// The limit.
        places_max: usize,
    },
}

/// Entries that are visited. A monorepo with its dependencies has a few hundred thousand; above
/// this limit the search would take seconds, and a missed path would be a silent weakness.
const ENTRIES_MAX: usize = 2_000_000;
/// Places that protected names lead to. Each is searched by itself; a repository with many
/// submodules has some hundred.
const PLACES_MAX: usize = 4096;
/// File of a git directory with the path of the git directory that it shares with others.
const COMMON: &[u8] = b"commondir";

/// The protected paths of a workspace at the start of the session.
#[derive(Debug, Default)]
pub struct Found {
    /// For the mounts.
    pub entries: Vec<ProtectedEntry>,
    /// For the notifier.
    pub places: Places,
}

/// Searches the whole workspace without following links, and then the targets of links with
/// protected names.
///
/// # Errors
/// When there are too many entries or places. An unreadable directory of another owner is skipped:
/// the session cannot make it readable either.
pub fn find(workspace: &AbsPath, settings: &WorkspaceSettings) -> Result<Found, ProtectedError> {
    find_up_to(workspace, b"", settings, PLACES_MAX)
}

/// Searches a directory of git beside the workspace, by its name for git; the parts of other
/// worktrees there cannot be changed either.
///
/// # Errors
/// As [`find`].
pub fn in_git(
    share: &GitShare,
    settings: &WorkspaceSettings,
) -> Result<Vec<ProtectedEntry>, ProtectedError> {
    let found = find_up_to(&share.path, b".git", settings, PLACES_MAX)?.entries;
    let mut others = Vec::new();
    if let Part::Worktree { others: names, .. } = &share.part {
        let top = share.path.as_path();
        let worktrees = names.iter().map(|name| top.join("worktrees").join(name));
        let all = worktrees.chain([top.join("info"), top.join("modules")]);
        let there = all.filter(|path| path.is_dir() && !path.is_symlink());
        others.extend(there.filter_map(|path| AbsPath::new(path).ok()));
    }
    let covered = |entry: &ProtectedEntry| others.iter().any(|other| entry.path.is_within(other));
    let mut all: Vec<_> = found.into_iter().filter(|entry| !covered(entry)).collect();
    all.extend(others.iter().map(|path| ProtectedEntry {
        path: path.clone(),
        read_only: true,
    }));
    Ok(all)
}

/// Searches a directory beside the workspace that policy makes writable: the same names are
/// protected there. Pointers of git are followed in the workspace alone. Paths are those inside.
///
/// # Errors
/// As [`find`].
pub fn in_share(
    share: &ShareFact,
    settings: &WorkspaceSettings,
) -> Result<Vec<ProtectedEntry>, ProtectedError> {
    let inside = |entry: ProtectedEntry| {
        let below = entry
            .path
            .as_path()
            .strip_prefix(share.from.as_path())
            .ok()?;
        let path = AbsPath::new(share.path.as_path().join(below)).ok()?;
        Some(ProtectedEntry { path, ..entry })
    };
    let within;
    let settings = if in_packages(share, settings) {
        within = settings.within_packages();
        &within
    } else {
        settings
    };
    let found = find(&share.from, settings)?.entries;
    Ok(found.into_iter().filter_map(inside).collect())
}

/// Whether a share is a directory of packages, or lies in one.
pub fn in_packages(share: &ShareFact, settings: &WorkspaceSettings) -> bool {
    [&share.path, &share.from]
        .iter()
        .any(|path| settings.in_packages(path.as_path().as_os_str().as_bytes()))
}

fn find_up_to(
    workspace: &AbsPath,
    called: &[u8],
    settings: &WorkspaceSettings,
    places_max: usize,
) -> Result<Found, ProtectedError> {
    let top = workspace.as_path();
    let mut unlocked = Unlocked::default();
    // A directory that was locked may contain pointers, so the search restarts after unlocking.
    let mut finder = loop {
        let mut finder = Finder {
            workspace,
            settings,
            entries: BTreeMap::new(),
            places: Places::default(),
            todo: Vec::new(),
        };
        let before = unlocked.len();
        let visit = |path: &Path, name: &[u8], kind| finder.classify(path, name, kind, 0);
        search(workspace, top, called, settings, Some(&mut unlocked), visit)?;
        if unlocked.len() == before {
            break finder;
        }
    };
    while let Some((path, name, leads)) = finder.todo.pop() {
        if finder.places.len() > places_max {
            return Err(ProtectedError::TooManyPlaces {
                path: workspace.clone(),
                places_max,
            });
        }
        let Some(kind) = kind_of(&path) else {
            continue;
        };
        // The workspace itself does not get an entry of its own.
        if path == top || finder.classify(&path, &name, kind, leads) != Search::Nothing {
            search(
                workspace,
                &path,
                &name,
                settings,
                None,
                |path, name, kind| finder.classify(path, name, kind, leads),
            )?;
        }
    }
    Ok(Found {
        entries: entries(&finder.entries),
        places: finder.places,
    })
}

/// Visits every entry below `top` that could be protected, by its path and by its name if `top` is
/// called `name`.
fn search(
    workspace: &AbsPath,
    top: &Path,
    name: &[u8],
    settings: &WorkspaceSettings,
    unlocked: Option<&mut Unlocked>,
    mut visit: impl FnMut(&Path, &[u8], FileType) -> Search,
) -> Result<(), ProtectedError> {
    let beginnings = settings.beginnings();
    let begins = |part: &[u8]| !name.is_empty() || beginnings.include(part);
    let visit = |entry: &Entry| {
        let path = entry.path.as_path();
        if name.is_empty() {
            visit(path, &entry.below, entry.kind)
        } else {
            visit(path, &places::join(name, &entry.below), entry.kind)
        }
    };
    match tree::walk(top, ENTRIES_MAX, unlocked, begins, visit) {
        Ok(_) => Ok(()),
        Err(TooMany) => Err(ProtectedError::WorkspaceTooLarge {
            path: workspace.clone(),
            entries_max: ENTRIES_MAX,
        }),
    }
}

/// Returns how far to search below an entry that is not protected itself: most directories of a
/// repository have thousands of entries and no pattern that continues in them.
fn further(settings: &WorkspaceSettings, name: &[u8], directory: bool) -> Search {
    if !directory {
        Search::Nothing
    } else if settings.protects_below(name).is_some() {
        Search::Everything
    } else {
        Search::Beginnings
    }
}

fn kind_of(path: &Path) -> Option<FileType> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(FileType::from_raw_mode(metadata.mode()))
}

/// Leaves out entries in a directory that cannot be changed anyway: a mount for the entry alone
/// would open the directory again.
fn entries(found: &BTreeMap<AbsPath, bool>) -> Vec<ProtectedEntry> {
    let covered = |path: &AbsPath| {
        let mut above = path.as_path().ancestors().skip(1);
        above.any(|path| AbsPath::new(path).is_ok_and(|path| found.get(&path) == Some(&true)))
    };
    found
        .iter()
        .filter(|(path, _)| !covered(path))
        .map(|(path, read_only)| ProtectedEntry {
            path: path.clone(),
            read_only: *read_only,
        })
        .collect()
}

/// The state of a search through the workspace.
struct Finder<'a> {
    workspace: &'a AbsPath,
    settings: &'a WorkspaceSettings,
    /// Each with whether it is read-only.
    entries: BTreeMap<AbsPath, bool>,
    places: Places,
    /// Places that are still to be searched: their path, their name and the number of leads on the
    /// way to them.
    todo: Vec<(PathBuf, Vec<u8>, usize)>,
}

impl Finder<'_> {
    /// Notes an entry of this name if it is protected; returns how far to search below it.
    fn classify(&mut self, path: &Path, name: &[u8], kind: FileType, leads: usize) -> Search {
        let protected = self.settings.protects(name).is_some();
        match kind {
            // A link cannot be bound onto itself, so the change notifier protects it.
            FileType::Symlink => {
                if protected || self.settings.stands_for(name).is_some() {
                    let text = fs::read_link(path).ok();
                    self.lead(path.parent(), text.as_deref(), name, leads);
                    self.common(path, name, leads);
                }
                Search::Nothing
            }
            FileType::RegularFile => {
                if protected {
                    self.note(path, true);
                    self.common(path, name, leads);
                } else if self.settings.stands_for(name).is_some() {
                    self.note(path, true);
                    for text in places::read_pointer(path) {
                        self.lead(path.parent(), Some(Path::new(&text)), name, leads);
                    }
                }
                Search::Nothing
            }
            FileType::Directory if protected => {
                // Spared entries below could not be changed in a read-only mount.
                let whole = !self.settings.spares_below(name);
                self.note(path, whole);
                if whole {
                    Search::Nothing
                } else {
                    Search::Everything
                }
            }
            FileType::Directory => {
                let further = further(self.settings, name, true);
                if further == Search::Everything {
                    self.note(path, false);
                }
                further
            }
            // No program reads a socket, pipe or device as configuration.
            _ => Search::Nothing,
        }
    }

    fn note(&mut self, path: &Path, read_only: bool) {
        if let Ok(path) = AbsPath::new(path) {
            *self.entries.entry(path).or_default() |= read_only;
        }
    }

    /// Notes the target of `name`, whose link or pointer has this text, and queues its search.
    fn lead(&mut self, from: Option<&Path>, text: Option<&Path>, name: &[u8], leads: usize) {
        let (Some(from), Some(text)) = (from, text) else {
            return;
        };
        let Some(name) = self.settings.known_end(name) else {
            return;
        };
        let Some(way) = places::follow(from, text.as_os_str()) else {
            return;
        };
        // Protecting everything would leave no place to work in.
        let everything = way.target == self.workspace.as_path();
        // No path goes through more links.
        if leads >= places::LINKS_MAX || everything && self.settings.protects(&name).is_some() {
            return;
        }
        let (target, leads) = (way.target.as_path(), leads + 1);
        if self.places.note(self.workspace, &way, &name) {
            self.todo.push((target.to_owned(), name.clone(), leads));
        }
        // Git resolves a pointer behind a link from the place of the link.
        for pointer in places::read_pointer(target) {
            self.lead(Some(from), Some(Path::new(&pointer)), &name, leads);
        }
        let common = places::read_common(&target.join(OsStr::from_bytes(COMMON)));
        self.lead(Some(target), common.as_deref().map(Path::new), &name, leads);
    }

    /// Notes the directory that worktrees share, if this is their file that names it.
    fn common(&mut self, path: &Path, name: &[u8], leads: usize) {
        let front = name.strip_suffix(COMMON);
        let directory = front.and_then(|front| front.strip_suffix(b"/"));
        if let Some(directory) = directory
            && self.settings.stands_for(directory).is_some()
        {
            let text = places::read_common(path);
            let text = text.as_deref().map(Path::new);
            self.lead(path.parent(), text, directory, leads);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use stockade_policy::{HostSets, Origin, Source, WorkspaceSettings};
    use stockade_types::AbsPath;

    use super::ProtectedError;
    use super::{Found, PLACES_MAX, find_up_to};

    /// Searches a directory with links, given as path and target, and files, as path and text.
    fn found(links: &[(&str, &str)], files: &[(&str, &str)]) -> Found {
        found_up_to(PLACES_MAX, links, files).unwrap()
    }

    fn found_up_to(
        places_max: usize,
        links: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Found, ProtectedError> {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        for (path, _) in links.iter().chain(files) {
            fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
        }
        for (path, target) in links {
            symlink(target, top.join(path)).unwrap();
        }
        for (path, text) in files {
            fs::write(top.join(path), text).unwrap();
        }
        let workspace = AbsPath::new(&top).unwrap();
        let mut found = find_up_to(&workspace, b"", &settings(), places_max)?;
        for entry in &mut found.entries {
            let below = entry.path.as_path().strip_prefix(&top).unwrap();
            entry.path = AbsPath::new(Path::new("/").join(below)).unwrap();
        }
        Ok(found)
    }

    fn settings() -> WorkspaceSettings {
        let source = Source {
            origin: Origin::User,
            name: "t".to_owned(),
            text: r#"
                schema = 1
                [workspace]
                protect = [
                  ".git/config", ".git/hooks/**", ".git/commondir", ".git/modules/**/config",
                  ".git/modules/**/info/attributes", ".envrc", ".tools/**",
                ]
            "#
            .to_owned(),
        };
        let policy = stockade_policy::load(&[source], &HostSets::default()).unwrap();
        policy.settings().workspace.clone()
    }

    fn entries(found: &Found) -> Vec<(&str, bool)> {
        let all = found.entries.iter();
        all.map(|e| (e.path.as_path().to_str().unwrap(), e.read_only))
            .collect()
    }

    fn places(found: &Found) -> Vec<(&str, &str)> {
        let all = found.places.all();
        all.map(|(path, name)| (path.to_str().unwrap(), str::from_utf8(name).unwrap()))
            .collect()
    }

    #[test]
    fn pointers_and_links_are_followed() {
        let found = found(
            &[("s/.git", "../hop"), ("hop", "store"), (".envrc", "env/rc")],
            &[
                (".git", "gitdir: ./.bare\n"),
                (".bare/config", ""),
                (".bare/modules/m/config", ""),
                ("store/commondir", "../shared\n"),
                ("shared/hooks/x", ""),
                ("env/rc", ""),
                ("none/.git", "gitdir: ../late/store"),
                ("odd/.git", "store"),
            ],
        );
        assert_eq!(
            entries(&found),
            [
                ("/.bare", false),
                ("/.bare/config", true),
                ("/.bare/modules", false),
                ("/.bare/modules/m", false),
                ("/.bare/modules/m/config", true),
                ("/.git", true),
                ("/env/rc", true),
                ("/none/.git", true),
                ("/odd/.git", true),
                ("/shared", false),
                ("/shared/hooks", true),
                ("/store", false),
                ("/store/commondir", true),
            ]
        );
        assert_eq!(
            places(&found),
            [
                (".bare", ".git"),
                ("env/rc", ".envrc"),
                ("hop", ".git"),
                ("late/store", ".git"),
                ("shared", ".git"),
                ("store", ".git"),
            ]
        );
    }

    #[test]
    fn what_begins_in_a_directory_that_no_pattern_goes_on_in_is_found() {
        let found = found(
            &[(".git/objects/l/.git", "../../store")],
            &[
                (".git/objects/ab/cd", ""),
                (".git/objects/.git/hooks/x", ""),
                (".git/objects/config", ""),
                (".git/modules/a/b/info/attributes", ""),
                (".git/modules/a/objects/config", ""),
                (".git/store/config", ""),
                ("src/deep/.envrc", ""),
                ("src/config", ""),
            ],
        );
        assert_eq!(
            entries(&found),
            [
                ("/.git", false),
                ("/.git/modules", false),
                ("/.git/modules/a", false),
                ("/.git/modules/a/b", false),
                ("/.git/modules/a/b/info", false),
                ("/.git/modules/a/b/info/attributes", true),
                ("/.git/modules/a/objects", false),
                ("/.git/modules/a/objects/config", true),
                ("/.git/objects/.git", false),
                ("/.git/objects/.git/hooks", true),
                ("/.git/store", false),
                ("/.git/store/config", true),
                ("/src/deep/.envrc", true),
            ]
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: 60,
            failure_persistence: None,
            ..proptest::prelude::ProptestConfig::default()
        })]

        #[test]
        fn nothing_is_missed_that_a_look_at_every_path_finds(
            paths in proptest::collection::vec(
                proptest::collection::vec(
                    proptest::sample::select(vec![
                        ".git", "hooks", "config", "modules", "info", "attributes", "objects", ".envrc",
                    ]),
                    1..6,
                ),
                1..12,
            ),
        ) {
            let mut files: Vec<String> = Vec::new();
            for path in paths.iter().map(|parts| parts.join("/")) {
                let clashes = |other: &String| {
                    format!("{other}/").starts_with(&format!("{path}/"))
                        || format!("{path}/").starts_with(&format!("{other}/"))
                };
                if !files.iter().any(clashes) {
                    files.push(path);
                }
            }
            let texts: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), "")).collect();
            let found = found(&[], &texts);
            let settings = settings();
            let mut expected = std::collections::BTreeSet::new();
            for file in &files {
                let fronts = Path::new(file).ancestors().collect::<Vec<_>>();
                let held = fronts.iter().rev().filter(|path| !path.as_os_str().is_empty()).find(|path| {
                    let name = path.to_str().unwrap().as_bytes();
                    let is_file = **path == Path::new(file);
                    settings.protects(name).is_some()
                        || (is_file && settings.stands_for(name).is_some())
                });
                expected.extend(held.map(|path| format!("/{}", path.display())));
            }
            let held = found.entries.iter().filter(|entry| entry.read_only);
            let held: std::collections::BTreeSet<String> =
                held.map(|entry| entry.path.as_path().display().to_string()).collect();
            proptest::prop_assert_eq!(held, expected);
        }
    }

    #[test]
    fn a_place_in_a_read_only_directory_is_not_opened_again() {
        let found = found(&[(".git", ".tools/git")], &[(".tools/git/config", "")]);
        assert_eq!(entries(&found), [("/.tools", true)]);
        assert_eq!(places(&found), [(".tools/git", ".git")]);
    }

    #[test]
    fn the_workspace_can_be_a_git_directory_and_nothing_else() {
        let links = [("a/.git", ".."), ("a/.envrc", ".."), ("a/.tools", "..")];
        let found = found(&links, &[("config", ""), ("hooks/x", "")]);
        assert_eq!(entries(&found), [("/config", true), ("/hooks", true)]);
        assert_eq!(places(&found), [("", ".git")]);
    }

    #[test]
    fn links_in_circles_come_to_an_end() {
        let files = [(".git/modules/m/config", "")];
        let found = found(&[(".git/modules/m/info", "."), ("b/.git", ".git")], &files);
        assert!(found.places.len() <= 41, "{:?}", places(&found));
    }

    #[test]
    fn more_places_than_are_watched_are_refused() {
        let files = [("a/.git", "gitdir: ../x"), ("b/.git", "gitdir: ../y")];
        assert!(found_up_to(2, &[], &files).is_ok());
        let error = found_up_to(1, &[], &files).map(drop);
        assert!(matches!(
            error,
            Err(ProtectedError::TooManyPlaces { places_max: 1, .. })
        ));
    }
}
