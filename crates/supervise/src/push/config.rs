//! The settings of git, read as git reads them (git-config(1), "Syntax" and "Files"), but without
//! git: settings of a repository could make it run programs.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::Files;

/// Files of settings that are read for one question, with includes.
const FILES_MAX: usize = 32;

/// One setting: `remote.origin.url`, the section and the key in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// Its name.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// All settings, in the order in which git reads them.
#[derive(Debug, Default)]
pub(super) struct Settings {
    all: Vec<Setting>,
    files: usize,
    /// Why the settings may differ from these.
    pub(super) doubt: Option<String>,
    /// Content of every file that was read, if there is a doubt: then an answer binds it.
    pub(super) read: Vec<u8>,
}

impl Settings {
    /// Returns every value of a setting.
    pub(super) fn all(&self, name: &[u8]) -> Vec<&[u8]> {
        let named = self.all.iter().filter(|own| own.name == name);
        named.map(|own| own.value.as_slice()).collect()
    }

    /// Returns the effective value.
    pub(super) fn last(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.all.iter().rfind(|own| own.name == name);
        found.map(|own| own.value.as_slice())
    }

    /// Iterates over the settings `beginning.*.key` as the middle part and the value.
    pub(super) fn between<'s>(
        &'s self,
        beginning: &'s [u8],
        end: &'s [u8],
    ) -> impl Iterator<Item = (&'s [u8], &'s [u8])> {
        self.all.iter().filter_map(move |own| {
            let middle = own.name.strip_prefix(beginning)?.strip_suffix(end)?;
            Some((middle, own.value.as_slice()))
        })
    }

    /// Adds one setting from the command line or the environment.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        let name = canonical(name);
        if name.starts_with(b"include") {
            self.doubt("settings outside files include others".to_owned());
        }
        self.all.push(Setting {
            name,
            value: value.to_vec(),
        });
    }

    /// Records a doubt; the first reason stays.
    pub(super) fn doubt(&mut self, reason: String) {
        self.doubt.get_or_insert(reason);
    }

    /// Reads a file and its includes; a missing file sets nothing.
    pub(super) fn read(&mut self, files: &dyn Files, path: &Path, home: Option<&Path>) {
        if self.files >= FILES_MAX {
            return self.doubt("there are too many files of settings".to_owned());
        }
        self.files += 1;
        let text = match files.read(path) {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(error) => return self.doubt(format!("{} cannot be read: {error}", path.display())),
        };
        self.read.extend_from_slice(&text);
        let Some(found) = parse(&text) else {
            return self.doubt(format!("{} has an error", path.display()));
        };
        for setting in found {
            let condition = setting.name.starts_with(b"includeif.");
            let include =
                setting.name == b"include.path" || (condition && setting.name.ends_with(b".path"));
            if condition {
                self.doubt(format!("{} has conditional settings", path.display()));
            }
            let target = setting.value.clone();
            self.all.push(setting);
            if include {
                let target = PathBuf::from(OsStr::from_bytes(&target));
                let target = match (target.strip_prefix("~"), home) {
                    (Ok(rest), Some(home)) => home.join(rest),
                    _ => path.parent().unwrap_or(path).join(target),
                };
                self.read(files, &target, home);
            }
        }
    }
}

/// Writes a name in the form for comparison: the part in the middle keeps its case.
fn canonical(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_vec();
    let first = name.iter().position(|byte| *byte == b'.');
    let last = name.iter().rposition(|byte| *byte == b'.');
    if let Some(part) = first.and_then(|at| name.get_mut(..at)) {
        part.make_ascii_lowercase();
    }
    if let Some(part) = last.and_then(|at| name.get_mut(at..)) {
        part.make_ascii_lowercase();
    }
    name
}

/// Reads a file of settings; `None` if git would refuse it.
pub fn parse(text: &[u8]) -> Option<Vec<Setting>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut rest = text.iter().copied().peekable();
    let mut section: Vec<u8> = Vec::new();
    let mut found = Vec::new();
    while let Some(byte) = rest.next() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'#' | b';' => while rest.next().is_some_and(|byte| byte != b'\n') {},
            b'[' => section = header(&mut rest)?,
            byte if byte.is_ascii_alphabetic() && !section.is_empty() => {
                let mut key = vec![byte];
                while let Some(byte) =
                    rest.next_if(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
                {
                    key.push(byte);
                }
                key.make_ascii_lowercase();
                let value = value(&mut rest)?;
                let name = [section.as_slice(), b".", &key].concat();
                found.push(Setting { name, value });
            }
            _ => return None,
        }
    }
    Some(found)
}

type Bytes<I> = std::iter::Peekable<I>;

/// Reads `section]`, `section.sub]` or `section "sub"]`.
fn header<I: Iterator<Item = u8>>(rest: &mut Bytes<I>) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    loop {
        match rest.next()? {
            b']' => return (!name.is_empty()).then_some(name),
            b' ' | b'\t' => break,
            byte if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' => {
                name.push(byte.to_ascii_lowercase());
            }
            _ => return None,
        }
    }
    while rest.next_if(|byte| matches!(byte, b' ' | b'\t')).is_some() {}
    if rest.next()? != b'"' {
        return None;
    }
    name.push(b'.');
    loop {
        match rest.next()? {
            b'"' => break,
            b'\n' => return None,
            b'\\' => name.push(rest.next().filter(|byte| *byte != b'\n')?),
            byte => name.push(byte),
        }
    }
    (rest.next()? == b']').then_some(name)
}

/// Reads the rest of a line: nothing, which means true, or `= value`.
fn value<I: Iterator<Item = u8>>(rest: &mut Bytes<I>) -> Option<Vec<u8>> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    while rest.next_if(blank).is_some() {}
    match rest.next() {
        None | Some(b'\n') => return Some(b"true".to_vec()),
        Some(b'=') => {}
        Some(b'#' | b';') => {
            while rest.next().is_some_and(|byte| byte != b'\n') {}
            return Some(b"true".to_vec());
        }
        Some(_) => return None,
    }
    while rest.next_if(blank).is_some() {}
    let (mut value, mut kept, mut quoted) = (Vec::new(), 0, false);
    loop {
        match rest.next() {
            None | Some(b'\n') if quoted => return None,
            None | Some(b'\n') => break,
            Some(b'"') => quoted = !quoted,
            Some(b'#' | b';') if !quoted => {
                while rest.next().is_some_and(|byte| byte != b'\n') {}
                break;
            }
            Some(b'\\') => {
                match rest.next()? {
                    b'\n' => {}
                    b'n' => value.push(b'\n'),
                    b't' => value.push(b'\t'),
                    b'b' => value.push(8),
                    byte @ (b'"' | b'\\') => value.push(byte),
                    _ => return None,
                }
                kept = value.len();
                continue;
            }
            Some(byte) => {
                value.push(byte);
                if !quoted && blank(&byte) {
                    continue;
                }
            }
        }
        kept = value.len();
    }
    // Unquoted blanks at the end do not count.
    value.truncate(kept);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::{canonical, parse};

    fn shown(text: &str) -> Option<Vec<String>> {
        let found = parse(text.as_bytes())?;
        let line = |one: &super::Setting| {
            let part = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            format!("{}={}", part(&one.name), part(&one.value))
        };
        Some(found.iter().map(line).collect())
    }

    #[test]
    fn settings_are_read_as_git_reads_them() {
        let text = "# c\n[Core]\n\tbare = false ; c\n\tx\n[remote \"Or\\\"igin\"] URL = \"a b \" c # d\n\
                    \tfetch = a\\\n b  \n[branch.Main]\nmerge=\"x\\\\y\\t\"\n[a]b=\"#;\"\r\n";
        let expected = [
            "core.bare=false",
            "core.x=true",
            "remote.Or\"igin.url=a b  c",
            "remote.Or\"igin.fetch=a b",
            "branch.main.merge=x\\y\t",
            "a.b=#;",
        ];
        assert_eq!(shown(text).unwrap(), expected);
        assert_eq!(
            canonical(b"URL.Https://X/.InsteadOf"),
            b"url.Https://X/.insteadof"
        );
    }

    #[test]
    fn what_git_refuses_is_not_understood() {
        for wrong in [
            "x = 1",
            "[a\nb = 1",
            "[a]\nb = \"x",
            "[a]\n1 = 2",
            "[a \"b]\n",
            "[a]\nb \\",
        ] {
            assert_eq!(shown(wrong), None, "{wrong:?}");
        }
    }
}
