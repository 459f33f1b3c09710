//! Judges which changes of a repository's settings run nothing outside: by value, key by key.
//!
//! The list is closed. A key that is not on it may not change, whatever its purpose: git has more
//! than forty that name a program, and tools add their own.

mod keys;

use std::collections::HashMap;

use self::keys::{Kind, kind, parts};
use crate::push::{Setting, parse_settings};

/// Longest value that is accepted: a description of a branch can have some lines.
const VALUE_BYTES_MAX: usize = 4096;

/// The settings of one repository, before and after.
pub(super) struct Change<'a> {
    /// As the session found them; `None` where it made the repository.
    pub(super) first: Option<&'a [u8]>,
    /// The current settings; `None` if there are none.
    pub(super) old: Option<&'a [u8]>,
    /// The new settings.
    pub(super) new: &'a [u8],
}

/// The facts that values are compared with.
pub(super) trait Surroundings {
    /// Whether a working tree at this place has a pointer that leads back to the settings.
    fn is_own_work_tree(&self, value: &[u8]) -> bool;
    /// Whether the session sees a repository at this path, and it is the same outside.
    fn is_seen(&self, path: &[u8]) -> bool;
    /// Whether this is an empty place for hooks, to which every addition needs a question.
    fn is_new_hook_place(&self, value: &[u8]) -> bool;
}

/// The first setting that may not change, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) setting: Vec<u8>,
    pub(super) why: &'static str,
}

const NOT_LISTED: &str = "is not among the settings that are known to run nothing";
const NOT_PLAIN: &str = "has a value that could mean more than it says";
const OTHER_PLACE: &str = "would lead what you push or fetch to another place";

fn refused(setting: &[u8], why: &'static str) -> Refused {
    Refused {
        setting: setting.to_owned(),
        why,
    }
}

/// Judges a change of settings.
///
/// # Errors
/// With the first setting that may not change in this way.
pub(super) fn judge(change: &Change<'_>, around: &dyn Surroundings) -> Result<(), Refused> {
    lines_are_plain(change.old.unwrap_or_default(), change.new)?;
    let read = |text: &[u8]| {
        parse_settings(text).ok_or_else(|| refused(b"the file", "is nothing that git could read"))
    };
    let first = change.first.map(read).transpose()?;
    let old = read(change.old.unwrap_or_default())?;
    let new = read(change.new)?;
    let judge = Judge {
        first: first.as_deref(),
        old: &old,
        new: &new,
        around,
    };
    judge.all()
}

/// Every new line is written as git writes it: complete in itself, without a byte that readers
/// interpret differently.
fn lines_are_plain(old: &[u8], new: &[u8]) -> Result<(), Refused> {
    let mut known: HashMap<&[u8], usize> = HashMap::new();
    for line in old.split(|byte| *byte == b'\n') {
        *known.entry(line).or_default() += 1;
    }
    for line in new.split(|byte| *byte == b'\n') {
        if let Some(count) = known.get_mut(line).filter(|count| **count > 0) {
            *count -= 1;
            continue;
        }
        let control = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7f;
        let text = line.trim_ascii();
        let whole = match text.first() {
            None | Some(b'#' | b';') => true,
            Some(b'[') => text.ends_with(b"]"),
            Some(_) => text.contains(&b'='),
        };
        if line.iter().any(control) || text.ends_with(b"\\") || !whole {
            return Err(refused(b"a line of the file", NOT_PLAIN));
        }
    }
    Ok(())
}

/// A name of a branch, remote or submodule that is nothing else: no option, no `..`, no address.
fn is_name(name: &[u8]) -> bool {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"._/-+@#=,%".contains(byte) || *byte >= 0x80;
    let parts = || name.split(|byte| *byte == b'/');
    !name.is_empty()
        && name.iter().all(plain)
        && !name.starts_with(b"-")
        && parts().all(|part| !part.is_empty() && part != b"." && part != b"..")
}

struct Judge<'a> {
    /// `None` in a repository that the session made.
    first: Option<&'a [Setting]>,
    old: &'a [Setting],
    new: &'a [Setting],
    around: &'a dyn Surroundings,
}

impl Judge<'_> {
    fn all(&self) -> Result<(), Refused> {
        for gone in difference(self.old, self.new) {
            // Without it a repository has another meaning, or none.
            let known = kind(&gone.name).is_some_and(|kind| kind != Kind::HookPlace);
            if !known || gone.name.starts_with(b"extensions.") {
                return Err(refused(&gone.name, NOT_LISTED));
            }
        }
        for added in difference(self.new, self.old) {
            self.added(added)?;
        }
        let others = |all: &[Setting]| {
            let others = all.iter().filter(|one| kind(&one.name).is_none());
            others.cloned().collect::<Vec<Setting>>()
        };
        if others(self.old) != others(self.new) {
            return Err(refused(b"the order of other settings", NOT_LISTED));
        }
        Ok(())
    }

    fn added(&self, setting: &Setting) -> Result<(), Refused> {
        let (name, value) = (setting.name.as_slice(), setting.value.as_slice());
        let kind = kind(name).ok_or_else(|| refused(name, NOT_LISTED))?;
        let control = |byte: &u8| *byte < b' ' && *byte != b'\n' && *byte != b'\t' || *byte == 0x7f;
        if value.len() > VALUE_BYTES_MAX || value.iter().any(control) {
            return Err(refused(name, NOT_PLAIN));
        }
        let fits = match kind {
            Kind::Text => true,
            Kind::Bool => is_bool(value),
            Kind::BoolOfNew => is_bool(value) && (self.first.is_none() || is_false(value)),
            Kind::Word(words) => {
                is_bool(value) || words.iter().any(|word| word.as_bytes() == value)
            }
            Kind::Exactly(text) => text.as_bytes() == value,
            Kind::HookPlace => self.around.is_new_hook_place(value),
            Kind::Number => value == b"auto" || is_number(value),
            Kind::Ref => is_name(value) || value == b".",
            Kind::Refspec => self.is_refspec(value),
            Kind::WorkTree => self.around.is_own_work_tree(value),
            Kind::SubmoduleUrl => self.is_url(value),
            Kind::Url => {
                self.is_known_place(name, value)?;
                self.is_url(value)
            }
            Kind::Remote => {
                self.is_known_upstream(name, value)?;
                value == b"." || is_name(value)
            }
        };
        if fits {
            Ok(())
        } else {
            Err(refused(name, NOT_PLAIN))
        }
    }

    /// A remote that the session found keeps its addresses: the owner's pushes to it go there.
    fn is_known_place(&self, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        let (_, Some(remote), _) = parts(name) else {
            return Err(refused(name, NOT_LISTED));
        };
        let known = Self::places(self.first.unwrap_or_default(), remote);
        let now = Self::places(self.old, remote);
        if known.is_empty() || known.contains(&value) || now.contains(&value) {
            Ok(())
        } else {
            Err(refused(name, OTHER_PLACE))
        }
    }

    /// A branch that has an upstream keeps the upstream's address, under any name.
    fn is_known_upstream(&self, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        let first = self.first.unwrap_or_default();
        let known = values(first, name);
        if known.is_empty() || known.contains(&value) || values(self.old, name).contains(&value) {
            return Ok(());
        }
        let places = Self::places(self.new, value);
        let before = known.iter().flat_map(|remote| Self::places(first, remote));
        let before: Vec<&[u8]> = before.collect();
        if value == b"." || !places.is_empty() && places.iter().all(|one| before.contains(one)) {
            Ok(())
        } else {
            Err(refused(name, OTHER_PLACE))
        }
    }

    fn places<'s>(all: &'s [Setting], remote: &[u8]) -> Vec<&'s [u8]> {
        [&b"url"[..], b"pushurl"]
            .into_iter()
            .flat_map(|key| values(all, &[b"remote.", remote, b".", key].concat()))
            .collect()
    }

    /// Fetched refs go to the places for fetched refs; a mirror is a repository of its own.
    fn is_refspec(&self, value: &[u8]) -> bool {
        let value = value.strip_prefix(b"+").unwrap_or(value);
        let plain = |side: &[u8]| {
            let star = |byte: &u8| *byte == b'*';
            side.iter().filter(|byte| star(byte)).count() <= 1
                && is_name(
                    &side
                        .iter()
                        .copied()
                        .filter(|b| !star(b))
                        .chain(*b"x")
                        .collect::<Vec<_>>(),
                )
        };
        let Some(at) = value.iter().position(|byte| *byte == b':') else {
            return plain(value);
        };
        let (from, to) = (
            value.get(..at).unwrap_or_default(),
            value.get(at + 1..).unwrap_or_default(),
        );
        let to_own = [
            &b"refs/remotes/"[..],
            b"refs/tags/",
            b"refs/pull/",
            b"refs/notes/",
        ];
        let fits = to_own.iter().any(|front| to.starts_with(front));
        plain(from) && plain(to) && (fits || self.first.is_none())
    }

    /// An address that git itself handles: no helper, no option, no text for another program.
    fn is_url(&self, value: &[u8]) -> bool {
        let Ok(text) = str::from_utf8(value) else {
            return false;
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || "\\\"'`$;|&<>(){}^".contains(c);
        if text.is_empty() || text.starts_with('-') || text.contains(odd) || text.contains("::") {
            return false;
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let network = ["https", "http", "ssh", "git", "git+ssh", "ssh+git"];
            return match scheme {
                "file" => self.around.is_seen(rest.as_bytes()),
                _ => network.contains(&scheme) && is_authority(rest),
            };
        }
        if text.starts_with('/') {
            return self.around.is_seen(value);
        }
        // `host:path`, as in scp; with a slash before the colon it is a path.
        match text.split_once(':') {
            Some((host, _)) if !host.contains('/') => is_authority(host),
            _ => false,
        }
    }
}

/// `user@host…`: neither part begins with the sign of an option.
fn is_authority(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or_default();
    let (user, host) = host.rsplit_once('@').unwrap_or(("x", host));
    let begins = |text: &str| {
        let first = text.chars().next();
        first.is_some_and(|c| c.is_ascii_alphanumeric() || c == '[' || c == '_')
    };
    begins(user) && begins(host)
}

fn values<'s>(all: &'s [Setting], name: &[u8]) -> Vec<&'s [u8]> {
    let named = all.iter().filter(|one| one.name == name);
    named.map(|one| one.value.as_slice()).collect()
}

/// The settings that are in the first list and are missing, or less frequent, in the second.
fn difference<'s>(all: &'s [Setting], without: &[Setting]) -> Vec<&'s Setting> {
    let mut count: HashMap<&Setting, usize> = HashMap::new();
    for one in without {
        *count.entry(one).or_default() += 1;
    }
    let mut left = Vec::new();
    for one in all {
        match count.get_mut(one).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => left.push(one),
        }
    }
    left
}

fn is_bool(value: &[u8]) -> bool {
    let words = ["true", "false", "yes", "no", "on", "off", "1", "0", ""];
    words
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_false(value: &[u8]) -> bool {
    let words = ["false", "no", "off", "0", ""];
    words
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_number(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    !digits.is_empty() && digits.len() < 12 && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
