//! The command line of `git push` (git(1), git-push(1)).

use stockade_policy::ExecRequest;
use stockade_types::RawText;

/// The command line of a push.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    /// `-C`, in order.
    pub(super) directories: Vec<Vec<u8>>,
    /// `--git-dir`.
    pub(super) git_dir: Option<Vec<u8>>,
    /// `-c`, in order.
    pub(super) settings: Vec<(Vec<u8>, Vec<u8>)>,
    /// The repository.
    pub(super) remote: Option<Vec<u8>>,
    /// The refspecs, as written.
    pub(super) refspecs: Vec<Vec<u8>>,
    /// `--all`, `--mirror`, `--tags`, …
    pub(super) sets: Vec<&'static str>,
    /// Whether the remote may lose commits.
    pub(super) forces: bool,
    /// Whether the push removes branches of the remote.
    pub(super) deletes: bool,
    /// An unknown option, after which the rest may be read wrongly.
    pub(super) unknown: Option<Vec<u8>>,
}

/// Options of git itself that take no value.
const PLAIN: [&[u8]; 10] = [
    b"-p",
    b"--paginate",
    b"-P",
    b"--no-pager",
    b"--no-replace-objects",
    b"--no-optional-locks",
    b"--no-lazy-fetch",
    b"--literal-pathspecs",
    b"--no-advice",
    b"--bare",
];
/// Options of push that take the next word, unless an `=` follows them.
const VALUED: [&[u8]; 5] = [
    b"--repo",
    b"--push-option",
    b"--receive-pack",
    b"--exec",
    b"--recurse-submodules",
];
/// Options that select what is pushed.
const SETS: [(&[u8], &str); 5] = [
    (b"--all", "all branches"),
    (b"--branches", "all branches"),
    (b"--mirror", "everything, as a mirror"),
    (b"--tags", "all tags"),
    (b"--follow-tags", "tags of what is pushed"),
];

impl Command {
    /// Reads a request; `None` if it is not a push.
    pub(super) fn of(request: &ExecRequest) -> Option<Self> {
        let own = base(request.program.as_bytes());
        let called = base(request.argv.first()?.as_bytes());
        let mut words = request.argv.iter().skip(1).map(RawText::as_bytes);
        let mut command = Self::default();
        if own == b"git-push" || called == b"git-push" {
            command.push(words);
            return Some(command);
        }
        if own != b"git" && called != b"git" && !request.aliases.iter().any(|name| name == "git") {
            return None;
        }
        loop {
            let word = words.next()?;
            match word {
                b"push" => break,
                b"-C" => command.directories.push(words.next()?.to_vec()),
                b"-c" => command.settings.push(setting(words.next()?)),
                b"--git-dir" => command.git_dir = Some(words.next()?.to_vec()),
                b"--work-tree" => drop(words.next()?),
                word if PLAIN.contains(&word) || word.starts_with(b"--work-tree=") => {}
                word if word.starts_with(b"--git-dir=") => {
                    command.git_dir = word.strip_prefix(b"--git-dir=").map(<[u8]>::to_vec);
                }
                word if word.starts_with(b"-") => {
                    // It is unknown whether it takes the next word; if this is a push, the question
                    // says so.
                    command.unknown.get_or_insert_with(|| word.to_vec());
                }
                _ if command.unknown.is_some() => {}
                _ => return None,
            }
        }
        command.push(words);
        Some(command)
    }

    fn push<'a>(&mut self, mut words: impl Iterator<Item = &'a [u8]>) {
        let mut options = true;
        while let Some(word) = words.next() {
            if !options || !word.starts_with(b"-") || word == b"-" {
                self.argument(word);
            } else if word == b"--" {
                options = false;
            } else if word.starts_with(b"--") {
                self.option(word, &mut words);
            } else if self.flags(word) {
                words.next();
            }
        }
    }

    fn argument(&mut self, word: &[u8]) {
        if self.remote.is_none() {
            self.remote = Some(word.to_vec());
        } else {
            self.forces |= word.starts_with(b"+");
            self.deletes |= word.starts_with(b":") && word.len() > 1;
            self.refspecs.push(word.to_vec());
        }
    }

    fn option<'a>(&mut self, word: &[u8], words: &mut impl Iterator<Item = &'a [u8]>) {
        // Git accepts every unambiguous beginning of a long option.
        let name = word.split(|byte| *byte == b'=').next().unwrap_or(word);
        let is = |full: &[u8]| full.starts_with(name) && name.len() > 4;
        self.forces |= is(b"--force") || name.starts_with(b"--force-") || is(b"--mirror");
        self.deletes |= is(b"--delete") || is(b"--prune") || is(b"--mirror");
        let set = SETS.iter().find(|(full, _)| *full == name || is(full));
        self.sets.extend(set.map(|(_, words)| *words));
        let valued = VALUED.iter().find(|full| is(full));
        let value = match (valued, word.strip_prefix(name)) {
            (Some(_), Some([])) => words.next(),
            (_, Some([b'=', value @ ..])) => Some(value),
            _ => None,
        };
        if is(b"--repo") && self.remote.is_none() {
            self.remote = value.map(<[u8]>::to_vec);
        }
    }

    /// Reads a group of short options; tells whether the last one takes the next word.
    fn flags(&mut self, word: &[u8]) -> bool {
        for (index, flag) in word.iter().enumerate().skip(1) {
            match flag {
                b'f' => self.forces = true,
                b'd' => self.deletes = true,
                b'o' => return index + 1 == word.len(),
                _ => {}
            }
        }
        false
    }
}

fn setting(word: &[u8]) -> (Vec<u8>, Vec<u8>) {
    match word.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            let (name, value) = word.split_at(at);
            (name.to_vec(), value.get(1..).unwrap_or_default().to_vec())
        }
        None => (word.to_vec(), b"true".to_vec()),
    }
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use stockade_policy::ExecRequest;

    use super::Command;

    fn read(line: &str) -> Option<Command> {
        Command::of(&ExecRequest {
            program: "/usr/bin/git".into(),
            argv: line.split(' ').map(Into::into).collect(),
            ..ExecRequest::default()
        })
    }

    #[test]
    fn what_is_pushed_and_how_is_found() {
        let plain = read("git push origin main").unwrap();
        assert_eq!(plain.remote.as_deref(), Some(b"origin".as_slice()));
        assert_eq!(plain.refspecs, [b"main".to_vec()]);
        assert!(!plain.forces && !plain.deletes);
        for forced in [
            "git push -f",
            "git push -uf origin main",
            "git push --force origin",
            "git push --forc origin",
            "git push --force-with-lease=main:1 origin",
            "git push origin +main",
            "git push --mirror origin",
            "git -C x -c a.b=c --no-pager push -f",
        ] {
            assert!(read(forced).unwrap().forces, "{forced}");
        }
        for deleting in [
            "git push origin :main",
            "git push -d origin main",
            "git push --delete origin main",
            "git push --prune origin",
        ] {
            assert!(read(deleting).unwrap().deletes, "{deleting}");
        }
        let valued = read("git push -o ci.skip --receive-pack x -- origin main").unwrap();
        assert_eq!(valued.remote.as_deref(), Some(b"origin".as_slice()));
        assert_eq!(valued.refspecs, [b"main".to_vec()]);
        let repo = read("git push --repo=up --all").unwrap();
        assert_eq!(repo.remote.as_deref(), Some(b"up".as_slice()));
        assert_eq!(repo.sets, ["all branches"]);
    }

    #[test]
    fn what_is_no_push_is_none() {
        for other in ["git status", "git commit -m push", "git stash push", "git"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(
            read("git --new thing push origin")
                .unwrap()
                .unknown
                .is_some()
        );
    }
}
