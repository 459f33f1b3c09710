//! Path patterns by component: `*` within one, `**` for any number of them.

use super::{Glob, PatternError, glob::Case};

/// A path pattern; without a leading `/` it matches at any depth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    text: String,
    rooted: bool,
    components: Vec<Component>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// `**`: any number of components, including none.
    Many,
    /// One component.
    One(Glob),
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::new("a path pattern cannot be empty"));
        }
        if text.contains('\0') {
            return Err(PatternError::new(format!(
                "`{}` has a NUL byte",
                text.escape_debug()
            )));
        }
        let mut components = Vec::new();
        for component in text.split('/').filter(|c| !c.is_empty()) {
            components.push(match component {
                "." | ".." => {
                    return Err(PatternError::new(format!(
                        "`{text}` has a `{component}` component; write the path without it"
                    )));
                }
                "**" => Component::Many,
                _ if component.contains("**") => {
                    return Err(PatternError::new(format!(
                        "`{text}`: `**` must be a whole component; write `*` within a name"
                    )));
                }
                _ => Component::One(Glob::parse(component)?),
            });
        }
        if components.last() == Some(&Component::Many) {
            // `dir/**` means everything below `dir`, so a final `**` needs at least one component.
            components.push(Component::One(Glob::parse("*")?));
        }
        Ok(Self {
            text: text.to_owned(),
            rooted: text.starts_with('/'),
            components,
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) const fn is_rooted(&self) -> bool {
        self.rooted
    }

    pub(crate) fn components(&self) -> &[Component] {
        &self.components
    }

    /// Returns whether everything matches.
    pub(crate) fn is_any(&self) -> bool {
        matches!(self.text.as_str(), "**" | "/**")
    }

    pub(crate) fn matches(&self, path: &[u8], case: Case) -> bool {
        let parts: Vec<&[u8]> = split(path).collect();
        self.matches_parts(&parts, case)
    }

    /// The same, except that `dir/**` also matches `dir` itself, as it does for servers.
    pub(crate) fn matches_or_heads(&self, path: &[u8], case: Case) -> bool {
        let heads = || {
            let parts: Vec<&[u8]> = split(path).chain([&b""[..]]).collect();
            self.text.ends_with("/**") && self.matches_parts(&parts, case)
        };
        self.matches(path, case) || heads()
    }

    pub(crate) fn matches_parts(&self, parts: &[&[u8]], case: Case) -> bool {
        if self.rooted {
            return matches_components(&self.components, parts, case);
        }
        (0..=parts.len())
            .filter_map(|start| parts.get(start..))
            .any(|tail| matches_components(&self.components, tail, case))
    }

    /// Returns a path that it matches.
    pub(crate) fn sample(&self) -> String {
        let parts = self
            .components
            .iter()
            .filter_map(|component| match component {
                Component::One(glob) => Some(glob.sample()),
                // It matches no component too.
                Component::Many => None,
            });
        let path = parts.collect::<Vec<_>>().join("/");
        if self.rooted {
            format!("/{path}")
        } else {
            path
        }
    }

    /// Returns whether everything that matches `inner` certainly matches this one.
    pub(crate) fn contains(&self, inner: &Self) -> bool {
        if self.is_any() || self == inner {
            return true;
        }
        let literal: Option<Vec<Vec<u8>>> = inner
            .components
            .iter()
            .map(|component| match component {
                Component::One(glob) => match glob.literals()?.as_slice() {
                    [one] => Some(one.to_vec()),
                    _ => None,
                },
                Component::Many => None,
            })
            .collect();
        // Only a pattern that may match anywhere contains another one that may.
        literal.is_some_and(|parts| {
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            (inner.rooted || !self.rooted) && self.matches_parts(&parts, Case::Exact)
        })
    }
}

/// Removes `.`, `..` and empty segments, as resolving the path in a run would; links are not
/// examined. A path above its start keeps its `..`.
pub(crate) fn without_dots(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match (segment, kept.last()) {
            (b"" | b".", _) => {}
            (b"..", Some(&last)) if last != b".." => {
                kept.pop();
            }
            (b"..", None) if rooted => {}
            (segment, _) => kept.push(segment),
        }
    }
    let joined = kept.join(&b'/');
    if rooted {
        [b"/", joined.as_slice()].concat()
    } else {
        joined
    }
}

/// Splits a path into its components, without empty ones.
pub(crate) fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

/// The last `**` takes more and more components until the rest matches. No earlier `**` has to
/// change after that, so the time is at most pattern times path.
fn matches_components(pattern: &[Component], parts: &[&[u8]], case: Case) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), parts.get(s)) {
            (None, None) => return true,
            (Some(Component::Many), _) => {
                p += 1;
                retry = Some((p, s));
            }
            (Some(Component::One(glob)), Some(part)) if glob.matches(part, case) => {
                p += 1;
                s += 1;
            }
            (_, None) => return false,
            (_, Some(_)) => {
                let Some((after, from)) = retry else {
                    return false;
                };
                retry = Some((after, from + 1));
                p = after;
                s = from + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Case, PathPattern};

    fn matches(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern)
            .unwrap()
            .matches(path.as_bytes(), Case::Exact)
    }

    #[test]
    fn components_are_compared_whole() {
        assert!(matches("/work/app/**", "/work/app/x"));
        assert!(matches("/work/app/**", "/work/app/a/b/c"));
        assert!(!matches("/work/app/**", "/work/app"));
        assert!(!matches("/work/app/**", "/work/app-evil/x"));
        assert!(matches("/a/**/z", "/a/z"));
        assert!(matches("/a/**/z", "/a/b/c/z"));
        assert!(!matches("/a/*/z", "/a/b/c/z"));
        assert!(matches("/a/*.{rs,toml}", "/a/x.toml"));
        assert!(matches("**", "a"));
    }

    #[test]
    fn without_a_root_any_depth_matches() {
        assert!(matches(".git/hooks/**", "sub/.git/hooks/pre-commit"));
        assert!(matches(".envrc", "a/b/.envrc"));
        assert!(!matches(".envrc", "a/.envrc/b"));
        assert!(!matches("/etc/**", "/x/etc/y"));
    }

    #[test]
    fn containment_is_never_claimed_wrongly() {
        let contains = |a: &str, b: &str| {
            PathPattern::parse(a)
                .unwrap()
                .contains(&PathPattern::parse(b).unwrap())
        };
        assert!(contains("/a/**", "/a/b/c"));
        assert!(contains("a/*", "a/b"));
        assert!(contains("**", "/x/*"));
        assert!(!contains("/a/**", "a/b"));
        assert!(!contains("/a/b", "/a/*"));
    }

    #[test]
    fn broken_patterns_are_refused() {
        for text in ["", "a/../b", "./a", "a**b", "a/{b", "a\0b"] {
            assert!(PathPattern::parse(text).is_err(), "{text}");
        }
    }
}
