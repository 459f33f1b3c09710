//! The caller's ssh settings, as far as they say to which host a name refers (ssh_config(5)). A
//! setting that names a key, a command or another file is not copied.

/// Blocks of one settings file, in their order.
#[derive(Debug)]
pub(super) struct Aliases<'t>(Vec<Block<'t>>);

/// The settings that apply to some names.
#[derive(Debug)]
struct Block<'t> {
    /// Patterns of names; a leading `!` excludes the names that match.
    patterns: Vec<&'t str>,
    settings: Vec<(String, &'t str)>,
}

impl<'t> Aliases<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        // Settings before the first block apply to every name.
        let mut blocks = vec![Block {
            patterns: vec!["*"],
            settings: Vec::new(),
        }];
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let end = line.find(|c: char| c.is_whitespace() || c == '=');
            let (key, value) = line
                .split_at_checked(end.unwrap_or(line.len()))
                .unwrap_or((line, ""));
            let value = value.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
            let value = value.trim_matches('"');
            let patterns = match key.to_ascii_lowercase().as_str() {
                "host" => value.split_whitespace().collect(),
                // Other conditions are not known here, so such a block applies to no name.
                "match" if value.eq_ignore_ascii_case("all") => vec!["*"],
                "match" => Vec::new(),
                key => {
                    if let Some(block) = blocks.last_mut() {
                        block.settings.push((key.to_owned(), value));
                    }
                    continue;
                }
            };
            blocks.push(Block {
                patterns,
                settings: Vec::new(),
            });
        }
        Self(blocks)
    }

    /// Returns the first value of a setting that applies to a name: ssh uses that one.
    fn value(&self, name: &str, key: &str) -> Option<&'t str> {
        let blocks = self.0.iter().filter(|block| block.holds_for(name));
        let mut settings = blocks.flat_map(|block| &block.settings);
        settings
            .find(|(own, _)| own == key)
            .map(|(_, value)| *value)
    }

    /// Returns the block that describes a name inside; nothing if it refers to the host of that
    /// name, if the connection goes through another host or a command, or if a value is not of the
    /// usual form.
    pub(super) fn shown(&self, name: &str) -> Option<String> {
        let on_the_way = |key| {
            let value = self.value(name, key).unwrap_or("none");
            !value.eq_ignore_ascii_case("none")
        };
        if !is_plain(name) || on_the_way("proxyjump") || on_the_way("proxycommand") {
            return None;
        }
        let host = self
            .value(name, "hostname")
            .map(|host| host.replace("%h", name));
        let port = self.value(name, "port").map(str::to_owned);
        let user = self.value(name, "user").map(str::to_owned);
        let key = self.value(name, "hostkeyalias").map(str::to_owned);
        let settings = [
            ("HostName", host),
            ("Port", port),
            ("User", user),
            ("HostKeyAlias", key),
        ];
        let mut lines = String::new();
        for (key, value) in settings {
            let Some(value) = value else { continue };
            if !is_plain(&value) {
                return None;
            }
            lines.extend(["  ", key, " ", &value, "\n"]);
        }
        (!lines.is_empty()).then(|| format!("Host {name}\n{lines}"))
    }
}

impl Block<'_> {
    fn holds_for(&self, name: &str) -> bool {
        let out = |pattern: &str| pattern.strip_prefix('!').is_some_and(|own| fits(own, name));
        let mut patterns = self.patterns.iter();
        patterns.clone().any(|pattern| fits(pattern, name)) && !patterns.any(|pattern| out(pattern))
    }
}

/// Matches a pattern with `*` and `?`.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = pattern_chars.as_str();
            // A star at the end, and each of several stars, matches any rest.
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.filter_map(|at| name.get(at..))
                .any(|tail| fits(rest, tail))
        }
        Some(one) => {
            let mut name = name.chars();
            name.next()
                .is_some_and(|own| one == '?' || own.eq_ignore_ascii_case(&one))
                && fits(pattern_chars.as_str(), name.as_str())
        }
    }
}

/// Whether a name or value is plain text, both for ssh and for readers of the file.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:+@[]".contains(c);
    !text.is_empty() && text.len() <= 255 && !text.starts_with('-') && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::{Aliases, fits};

    const SETTINGS: &str = "\
User everyone
Host work !work-old
  HostName = git.corp.test
  Port 2222
  IdentityFile ~/.ssh/secret
  ProxyCommand none
Host far
  HostName far.test
  ProxyJump jump.test
Host *.short
  HostName %h.corp.test
Host odd
  HostName $(id)
Match host work exec \"id\"
  User matched
Host work
  User git
";

    #[test]
    fn names_lead_where_the_caller_says_and_nothing_else_is_shown() {
        let aliases = Aliases::new(SETTINGS);
        assert_eq!(
            aliases.shown("work").unwrap(),
            "Host work\n  HostName git.corp.test\n  Port 2222\n  User everyone\n"
        );
        assert_eq!(
            aliases.shown("a.short").unwrap(),
            "Host a.short\n  HostName a.short.corp.test\n  User everyone\n"
        );
        for name in ["far", "odd", "-oProxyCommand=id", "a b", "*"] {
            assert_eq!(aliases.shown(name), None, "{name}");
        }
        assert_eq!(
            Aliases::new("Host x\n  HostName y\n").shown("git.test"),
            None
        );
        assert_eq!(Aliases::new("").shown("git.test"), None);
    }

    #[test]
    fn patterns_are_those_of_ssh() {
        assert!(fits("*", "") && fits("a?c*", "abcd") && fits("*.test", "a.test"));
        assert!(!fits("*.test", "test") && !fits("a?", "a") && !fits("", "a"));
    }
}
