//! Places of the caller that no policy may share with a session, in any spelling.

use crate::{Policy, Problem, Problems, Sourced};

/// Places of the caller's own things; absolute paths, as texts without `.`, `..` or links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The home, under each of its paths.
    pub homes: Vec<String>,
    /// Stockade's state: keys, records and credentials of agents.
    pub state: Vec<String>,
    /// Directories and files of policies.
    pub policies: Vec<String>,
}

impl Policy {
    /// Checks that no entry shares the whole home, or names a place in the state or, for writing,
    /// in the policies. Directories that contain the state or policies can be shared, because
    /// the view covers those places.
    ///
    /// A session that reads the state has the key that signs the record; one that writes a policy
    /// decides what the next session may do.
    ///
    /// # Errors
    /// One problem for each entry of `[filesystem]` that shares such a place.
    pub fn check_places(&self, places: &Places) -> Result<(), Problems> {
        let files = &self.settings().filesystem;
        let read = files.read.iter().map(|at| ("read", at));
        let write = files.write.iter().map(|at| ("write", at));
        let caches = files.caches.iter().map(|at| ("caches", at));
        let problems: Vec<Problem> = read
            .chain(write)
            .chain(caches)
            .filter_map(|(key, at)| {
                let why = places.shared_by(&at.value, key == "write")?;
                Some(problem(key, at, &why))
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problems(problems))
        }
    }
}

impl Places {
    /// Returns the reason why an entry must not be shared.
    fn shared_by(&self, entry: &str, writable: bool) -> Option<String> {
        let paths = self.absolute(entry);
        let holds = |place: &String| paths.iter().any(|path| is_within(place, path));
        // The view covers such a place in a shared directory; an entry for the place itself makes
        // no sense.
        let lies_in = |place: &&String| paths.iter().any(|path| is_within(path, place));
        if self.homes.iter().any(holds) {
            return Some(
                "is or contains your whole home; name the files that are needed".to_owned(),
            );
        }
        if let Some(place) = self.state.iter().find(lies_in) {
            return Some(format!(
                "shares Stockade's state in `{place}`, with the key that signs the record; name \
                 something else"
            ));
        }
        let policy = self.policies.iter().find(lies_in);
        policy.filter(|_| writable).map(|place| {
            format!(
                "lets a session write the policy of the next one in `{place}`; name something else"
            )
        })
    }

    /// Returns an entry below each home, or unchanged.
    fn absolute(&self, entry: &str) -> Vec<String> {
        match entry.strip_prefix("~/") {
            Some(rest) => self
                .homes
                .iter()
                .map(|home| format!("{}/{rest}", home.trim_end_matches('/')))
                .collect(),
            None => vec![entry.to_owned()],
        }
    }
}

/// Returns whether `path` is `above` or lies below it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn problem(key: &str, at: &Sourced<String>, why: &str) -> Problem {
    let (file, line) = at.source.rsplit_once(':').unwrap_or((&at.source, "1"));
    Problem {
        file: file.to_owned(),
        line: line.parse().unwrap_or(1),
        column: 1,
        field: format!("filesystem.{key}"),
        message: format!("`{}` {why}", at.value),
    }
}
