//! Finds the program of an agent in a command line: as its first word, after programs that start
//! others (`env`, `npx`, `node`), or as the first word of a shell command line.
//!
//! Only certain cases count: after an unknown option of a launcher the search ends.

use stockade_types::RawText;

/// Maximum nesting of launchers that the search goes through.
const DEPTH_MAX: usize = 6;
/// Programs that run a package by its name.
const PACKAGE_RUNNERS: [&str; 4] = ["bunx", "npx", "pnpx", "uvx"];
/// Programs that do so after these subcommand words.
const PACKAGE_SUBCOMMANDS: [(&str, &[&str]); 12] = [
    ("bun", &["x"]),
    ("npm", &["exec"]),
    ("npm", &["x"]),
    ("pipx", &["run"]),
    ("pnpm", &["dlx"]),
    ("pnpm", &["exec"]),
    ("poetry", &["run"]),
    ("uv", &["run"]),
    ("uv", &["tool", "run"]),
    ("yarn", &["dlx"]),
    ("yarn", &["exec"]),
    ("yarn", &["run"]),
];
/// Options of these runners that take the next word.
const PACKAGE_VALUES: [&str; 9] = [
    "--from",
    "--package",
    "--prefix",
    "--python",
    "--spec",
    "--with",
    "-p",
    "-w",
    "--index",
];
/// Programs that run another command line, and their options that take the next word.
const WRAPPERS: [(&str, &[&str]); 7] = [
    ("env", &["-u", "--unset", "-C", "--chdir"]),
    ("ionice", &["-c", "-n"]),
    ("nice", &["-n"]),
    ("nohup", &[]),
    ("setsid", &[]),
    ("stdbuf", &["-i", "-o", "-e"]),
    ("timeout", &["-k", "-s", "--kill-after", "--signal"]),
];
/// Interpreters of the scripts as which agents are installed.
const INTERPRETERS: [&str; 4] = ["bun", "deno", "node", "nodejs"];
const SHELLS: [&str; 6] = ["bash", "dash", "fish", "ksh", "sh", "zsh"];

/// The names of an agent's program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names<'a> {
    /// File names.
    pub(crate) commands: &'a [&'a str],
    /// Names of the packages that contain it.
    pub(crate) packages: &'a [&'a str],
}

/// The place for arguments of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// After this word.
    Word(usize),
    /// After this word, with a `--` in front of it, without which they would not reach the agent.
    WordAfterDashes(usize),
    /// In the shell command line that is this word, at this byte.
    Line(usize, usize),
}

/// Finds the agent's program in a command line.
pub(crate) fn find(argv: &[RawText], names: Names<'_>) -> Option<Place> {
    let mut index = 0;
    for _ in 0..DEPTH_MAX {
        let word = text(argv, index)?;
        let name = file_name(word);
        if names.commands.contains(&name) {
            return Some(Place::Word(index));
        }
        if SHELLS.contains(&name) {
            return in_line(argv, index, names);
        }
        if let Some(found) = package(argv, index, name) {
            let word = text(argv, found.at)?;
            if names.has_package(word) {
                return Some(found.place());
            }
            // For example `uv run python -m …`: the program that it runs can be a launcher too.
            index = found.at;
            continue;
        }
        if let Some((_, values)) = WRAPPERS.iter().find(|(wrapper, _)| *wrapper == name) {
            index = wrapped(argv, index + 1, name, values)?;
            continue;
        }
        return script(argv, index, name, names);
    }
    None
}

/// Inserts the agent's arguments after its program.
pub(crate) fn insert(argv: &mut Vec<RawText>, place: Place, arguments: &[String]) {
    let words = || arguments.iter().map(|word| RawText::from(word.as_str()));
    let insert = |argv: &mut Vec<RawText>, index: usize| {
        let rest = argv.split_off(index.min(argv.len()));
        argv.extend(words());
        argv.extend(rest);
    };
    match place {
        Place::Word(index) => insert(argv, index + 1),
        Place::WordAfterDashes(index) => {
            insert(argv, index + 1);
            argv.insert(index, "--".into());
        }
        Place::Line(index, at) => {
            let Some(line) = argv.get_mut(index) else {
                return;
            };
            let (before, after) = line.as_bytes().split_at(at);
            let quoted = arguments.iter().map(|word| format!(" {}", quote(word)));
            let quoted: String = quoted.collect();
            *line = RawText::from_bytes([before, quoted.as_bytes(), after].concat());
        }
    }
}

/// Quotes a word for any shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn text(argv: &[RawText], index: usize) -> Option<&str> {
    std::str::from_utf8(argv.get(index)?.as_bytes()).ok()
}

fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

impl Names<'_> {
    /// Whether a word of a package runner names the agent: its command or its package, with any
    /// version.
    fn has_package(&self, word: &str) -> bool {
        let at = word.char_indices().skip(1).find(|(_, c)| *c == '@');
        let bare = at.map_or(word, |(at, _)| word.get(..at).unwrap_or(word));
        self.packages.contains(&bare) || self.commands.contains(&bare)
    }

    /// Whether a script file is the agent's, by its name or by the package that contains it.
    fn has_script(&self, path: &str) -> bool {
        let name = file_name(path);
        let stem = [".js", ".mjs", ".cjs", ".py"]
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(name);
        let lies_in = |package: &&str| path.contains(&format!("/node_modules/{package}/"));
        self.commands.contains(&stem) || self.packages.iter().any(lies_in)
    }
}

/// The package that a package runner runs.
struct Package {
    at: usize,
    needs_dashes: bool,
}

impl Package {
    const fn place(&self) -> Place {
        if self.needs_dashes {
            Place::WordAfterDashes(self.at)
        } else {
            Place::Word(self.at)
        }
    }
}

fn package(argv: &[RawText], index: usize, name: &str) -> Option<Package> {
    let mut next = index + 1;
    let mut is_npm = false;
    if !PACKAGE_RUNNERS.contains(&name) {
        let fits = |(runner, words): &&(&str, &[&str])| {
            let mut words = words.iter().enumerate();
            *runner == name && words.all(|(n, word)| text(argv, index + 1 + n) == Some(*word))
        };
        let (_, words) = PACKAGE_SUBCOMMANDS.iter().find(fits)?;
        next += words.len();
        is_npm = name == "npm";
    }
    loop {
        let word = text(argv, next)?;
        if word == "--" {
            let at = next + 1;
            let needs_dashes = false;
            return Some(Package { at, needs_dashes });
        }
        if !word.starts_with('-') {
            // npm takes the options of the program that it runs as its own.
            let needs_dashes = is_npm;
            return Some(Package {
                at: next,
                needs_dashes,
            });
        }
        // A shell command line is not a name.
        if matches!(word, "-c" | "--call") {
            return None;
        }
        next += if PACKAGE_VALUES.contains(&word) { 2 } else { 1 };
    }
}

/// Returns the index of the word with which the command after a wrapper begins.
fn wrapped(argv: &[RawText], mut next: usize, name: &str, values: &[&str]) -> Option<usize> {
    loop {
        let word = text(argv, next)?;
        if word == "--" {
            next += 1;
            break;
        }
        if values.contains(&word) {
            next += 2;
        } else if word.starts_with('-') {
            // The text that it splits into words is a command line of its own.
            if name == "env" && (word.starts_with("-S") || word.starts_with("--split")) {
                return None;
            }
            next += 1;
        } else if name == "env" && word.contains('=') {
            next += 1;
        } else {
            break;
        }
    }
    // The first word of `timeout` is the duration.
    Some(if name == "timeout" { next + 1 } else { next })
}

/// Finds the agent as the script or module that an interpreter runs.
fn script(argv: &[RawText], index: usize, name: &str, names: Names<'_>) -> Option<Place> {
    let is_python = name
        .strip_prefix("python")
        .is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'));
    if !is_python && !INTERPRETERS.contains(&name) {
        return None;
    }
    let mut next = index + 1;
    while let Some(word) = text(argv, next) {
        if is_python && word == "-m" {
            let module = text(argv, next + 1)?;
            return names
                .commands
                .contains(&module)
                .then_some(Place::Word(next + 1));
        }
        if matches!(word, "-c" | "-e" | "-p" | "--eval" | "--print") {
            return None;
        }
        if !word.starts_with('-') {
            return names.has_script(word).then_some(Place::Word(next));
        }
        next += 1;
    }
    None
}

/// Finds the agent as the first word of `sh -c LINE`, if the shell would not change that word.
fn in_line(argv: &[RawText], index: usize, names: Names<'_>) -> Option<Place> {
    let mut next = index + 1;
    loop {
        let word = text(argv, next)?;
        if !word.starts_with('-') {
            return None;
        }
        next += 1;
        if !word.starts_with("--") && word.contains('c') {
            break;
        }
    }
    let line = text(argv, next)?;
    let start = line.len() - line.trim_start().len();
    let rest = line.get(start..)?;
    let start = start + rest.strip_prefix("exec ").map_or(0, |_| "exec ".len());
    let word = line.get(start..)?;
    let end = word.find(char::is_whitespace).unwrap_or(word.len());
    let word = word.get(..end)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@./+-".contains(c);
    let is_agent = word.chars().all(plain) && names.commands.contains(&file_name(word));
    is_agent.then_some(Place::Line(next, start + end))
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use super::{Names, find, insert};

    /// Returns the command line with the argument `X` for an agent `codex` of the package
    /// `@openai/codex`.
    fn with(line: &[&str]) -> Vec<String> {
        let names = Names {
            commands: &["codex"],
            packages: &["@openai/codex"],
        };
        let mut argv: Vec<RawText> = line.iter().map(|word| RawText::from(*word)).collect();
        if let Some(place) = find(&argv, names) {
            insert(&mut argv, place, &["X".to_owned()]);
        }
        argv.iter().map(RawText::display).collect()
    }

    #[test]
    fn arguments_follow_the_agents_program_wherever_it_stands() {
        for line in [
            "codex | exec hi",
            "/usr/bin/codex |",
            "env -u A -i B=c codex | exec",
            "timeout -k 5 10m nice -n 5 codex | exec",
            "npx -y @openai/codex@latest | exec",
            "npx --yes codex |",
            "npx -p @openai/codex codex | exec",
            "bunx @openai/codex |",
            "bun x @openai/codex@0.1.0 |",
            "npm exec -- @openai/codex | exec",
            "pnpm dlx @openai/codex |",
            "node --no-warnings /usr/lib/node_modules/@openai/codex/bin/run.js | exec",
            "node /opt/codex.js |",
            "uvx codex@latest |",
            "uv run --with x python3 -m codex |",
            "env A=b npx -y @openai/codex |",
        ] {
            let expected: Vec<String> = line
                .split(' ')
                .map(|word| if word == "|" { "X" } else { word }.to_owned())
                .collect();
            let given: Vec<&str> = line.split(' ').filter(|word| *word != "|").collect();
            assert_eq!(with(&given), expected, "{line}");
        }
        let dashes = with(&["npm", "exec", "@openai/codex", "exec"]);
        assert_eq!(dashes, ["npm", "exec", "--", "@openai/codex", "X", "exec"]);
        let shell = with(&["bash", "-lc", "codex exec hi | tee log"]);
        assert_eq!(shell, ["bash", "-lc", "codex 'X' exec hi | tee log"]);
        let shell = with(&["sh", "-e", "-c", " exec /opt/codex"]);
        assert_eq!(shell, ["sh", "-e", "-c", " exec /opt/codex 'X'"]);
    }

    #[test]
    fn no_other_command_gets_them() {
        let lines: [&[&str]; 14] = [
            &["sh", "-c", "echo hi"],
            &["sh", "-c", "codex() { :; }; codex"],
            &["sh", "-c", "codex; rm x"],
            &["sh", "-c", "echo codex"],
            &["sh", "codex"],
            &["sh", "-c"],
            &["env", "-S", "codex exec"],
            &["env", "cat", "codex"],
            &["cat", "codex"],
            &["npx", "-c", "codex"],
            &["npx", "other", "codex"],
            &["node", "-e", "codex"],
            &["python3", "-m", "http.server", "codex"],
            &["grep", "--", "codex"],
        ];
        for line in lines {
            assert_eq!(with(line), line, "{line:?}");
        }
    }
}
