//! The path of an HTTP request as servers read it, and the reasons why some paths are ambiguous.
//!
//! Servers and the proxies in front of them differ in what they do to a path before they look it
//! up: how often they decode it, whether they cut parameters, trim blanks or fold letters. A rule
//! that names paths can only be compared with a path that all of them read alike.

use std::fmt;

use crate::pattern::{PathPattern, glob::Case};

/// Why a path means different things to different servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ambiguity {
    /// Not the path of a resource, for example `*` or an address.
    NotAPath,
    /// `#`, also encoded: some servers cut the path there.
    Fragment,
    /// An encoded `?`: some servers take the rest as the query.
    EncodedQuery,
    /// `;`, also encoded: Java servers cut the parameter, also of `..;`.
    Parameter,
    /// `%2f`: some servers decode it before they split, others afterwards.
    EncodedSlash,
    /// `\`, also encoded: a slash for Windows servers.
    Backslash,
    /// A `%` that remains after decoding: encoded twice, `%u002f`, or not an encoding at all.
    TwiceEncoded,
    /// `.` or `..` as a segment.
    DotSegment,
    /// Two slashes in a row.
    EmptySegment,
    /// A segment that ends in a dot, which Windows drops.
    TrailingDot,
    /// A segment that begins or ends in white space, which some servers trim.
    OuterBlank,
    /// A NUL or another control character.
    Control,
    /// Bytes that are not UTF-8, such as an over-long `/`.
    NotUtf8,
    /// A letter that some servers turn into an ASCII character, such as a full-width one.
    Folded,
}

impl Ambiguity {
    /// Returns what the path has, as the object of a sentence.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotAPath => "no `/` at its start",
            Self::Fragment => "a `#`",
            Self::EncodedQuery => "an encoded `?`",
            Self::Parameter => "a `;`",
            Self::EncodedSlash => "an encoded `/`",
            Self::Backslash => "a `\\`",
            Self::TwiceEncoded => "a `%` that is encoded twice or encodes nothing",
            Self::DotSegment => "a segment `.` or `..`",
            Self::EmptySegment => "two slashes in a row",
            Self::TrailingDot => "a segment that ends in a dot",
            Self::OuterBlank => "a segment that begins or ends in white space",
            Self::Control => "a control character",
            Self::NotUtf8 => "bytes that are not UTF-8",
            Self::Folded => "a letter that some servers turn into one of ASCII",
        }
    }
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A path with its query.
#[derive(Debug)]
pub(crate) struct RequestPath<'r> {
    whole: &'r [u8],
    /// Decoded once, without the query.
    plain: Vec<u8>,
    /// The same with the query decoded too, if there is one.
    plain_query: Option<Vec<u8>>,
    /// In the other case, if it has letters that ASCII folding does not change.
    other_case: Vec<Vec<u8>>,
    ambiguity: Option<Ambiguity>,
}

impl<'r> RequestPath<'r> {
    pub(crate) fn new(whole: &'r [u8]) -> Self {
        let end = whole.iter().position(|b| *b == b'?');
        let (path, query) = whole.split_at(end.unwrap_or(whole.len()));
        let plain = decoded(path);
        let plain_query = end.map(|_| {
            let spaced: Vec<u8> = query
                .iter()
                .map(|b| if *b == b'+' { b' ' } else { *b })
                .collect();
            [plain.as_slice(), &decoded(&spaced)].concat()
        });
        let other_case = match std::str::from_utf8(&plain) {
            Ok(text) if !text.is_ascii() => vec![
                text.to_lowercase().into_bytes(),
                text.to_uppercase().into_bytes(),
            ],
            _ => Vec::new(),
        };
        Self {
            ambiguity: ambiguity(path, &plain, query),
            whole,
            plain,
            plain_query,
            other_case,
        }
    }

    /// Returns the path decoded once, without the query.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Returns the path and the query as they were sent.
    pub(crate) const fn whole(&self) -> &'r [u8] {
        self.whole
    }

    /// Returns the query as it was sent, without its `?`.
    pub(crate) fn query(&self) -> &'r [u8] {
        let end = self.whole.iter().position(|b| *b == b'?');
        end.and_then(|end| self.whole.get(end + 1..))
            .unwrap_or_default()
    }

    /// Returns path and query decoded as often as some server could, in lower case: a text in which a
    /// name is found wherever it hides.
    pub(crate) fn folded(&self) -> String {
        let mut text = self.whole.to_vec();
        for _ in 0..DECODED_MAX {
            if !text.contains(&b'%') {
                break;
            }
            text = decoded(&text);
        }
        String::from_utf8_lossy(&text).to_lowercase()
    }

    /// Returns the reason why servers may disagree about the meaning of the path.
    pub(crate) const fn ambiguity(&self) -> Option<Ambiguity> {
        self.ambiguity
    }

    /// Returns whether the path certainly matches `pattern`.
    pub(crate) fn allows(&self, pattern: &PathPattern) -> bool {
        let text = if pattern.text().contains('?') {
            self.whole
        } else {
            &self.plain
        };
        self.ambiguity.is_none() && pattern.matches(text, Case::Exact)
    }

    /// Returns whether some server could read the path as one that `pattern` matches. An ambiguous
    /// path could be anything. Letter case does not count, because many servers ignore it, and
    /// `/dir` counts as a path below `/dir/`, because servers answer both alike.
    pub(crate) fn could_mean(&self, pattern: &PathPattern) -> bool {
        let texts = [
            Some(self.whole),
            Some(&self.plain),
            self.plain_query.as_deref(),
        ];
        let other = self.other_case.iter().map(Vec::as_slice);
        self.ambiguity.is_some()
            || texts
                .into_iter()
                .flatten()
                .chain(other)
                .any(|text| pattern.matches_or_heads(text, Case::Ignore))
    }
}

/// How often a path is decoded to find a name in it: by a proxy, by the server, and by its program.
const DECODED_MAX: usize = 3;

/// Looks for parts that servers read in different ways; the order is that of the messages.
fn ambiguity(path: &[u8], plain: &[u8], query: &[u8]) -> Option<Ambiguity> {
    let has = |text: &[u8], byte: u8| text.contains(&byte);
    if path.first() != Some(&b'/') {
        return Some(Ambiguity::NotAPath);
    }
    let characters = [
        (b'#', Ambiguity::Fragment),
        (b'?', Ambiguity::EncodedQuery),
        (b';', Ambiguity::Parameter),
        (b'\\', Ambiguity::Backslash),
        (b'%', Ambiguity::TwiceEncoded),
    ];
    let found = characters.into_iter().find(|(byte, _)| has(plain, *byte));
    if let Some((_, ambiguity)) = found {
        return Some(ambiguity);
    }
    // Some servers cut a fragment that is sent, and with it the path if there is no query.
    if has(query, b'#') {
        return Some(Ambiguity::Fragment);
    }
    let segments = |text: &[u8]| text.split(|b| *b == b'/').count();
    if segments(plain) != segments(path) {
        return Some(Ambiguity::EncodedSlash);
    }
    let Ok(text) = std::str::from_utf8(plain) else {
        return Some(Ambiguity::NotUtf8);
    };
    if text.chars().any(char::is_control) {
        return Some(Ambiguity::Control);
    }
    if text.chars().any(is_folded) {
        return Some(Ambiguity::Folded);
    }
    let mut segments = text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let found = match segment {
            "" if last => None,
            "" => Some(Ambiguity::EmptySegment),
            "." | ".." => Some(Ambiguity::DotSegment),
            _ if segment.trim() != segment => Some(Ambiguity::OuterBlank),
            _ => segment.ends_with('.').then_some(Ambiguity::TrailingDot),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Returns whether some server turns `c` into an ASCII character: the full-width forms (best fit of
/// Windows, and Unicode's compatibility forms), other dots, slashes and the like, and letters whose
/// other case is ASCII.
const fn is_folded(c: char) -> bool {
    matches!(c,
        '\u{ff01}'..='\u{ff5e}'
        | '\u{2024}'..='\u{2026}'
        | '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f8}' | '\u{29f9}'
        | '\u{fe50}'..='\u{fe6b}'
        | '\u{37e}'
        | '\u{130}' | '\u{131}' | '\u{17f}' | '\u{212a}')
}

/// Decodes percent-encoding once.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if let (b'%', [high, low, tail @ ..]) = (*first, after)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push(high * 16 + low);
            rest = tail;
            continue;
        }
        out.push(*first);
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Ambiguity, PathPattern, RequestPath};

    /// Whether the rule for `pattern` allows the path, and whether one for it denies it.
    fn told(pattern: &str, path: &[u8]) -> (bool, bool) {
        let pattern = PathPattern::parse(pattern).unwrap();
        let path = RequestPath::new(path);
        (path.allows(&pattern), path.could_mean(&pattern))
    }

    /// Every spelling that some server was seen to read differently, by its kind.
    const AMBIGUOUS: &[(Ambiguity, &[&[u8]])] = &[
        (
            Ambiguity::NotAPath,
            &[
                b"",
                b"*",
                b"public/x",
                b"http://good.test/public/x",
                b"?x",
                b"#x",
            ],
        ),
        (
            Ambiguity::Fragment,
            &[b"/public/x#y", b"/public/x%23y", b"/public/x?y#z"],
        ),
        (
            Ambiguity::EncodedQuery,
            &[b"/public/x%3fy", b"/public/..%3f/admin"],
        ),
        (
            Ambiguity::Parameter,
            &[
                b"/public/..;/admin",
                b"/public/..%3b/admin",
                b"/public/x;y=z",
                b"/public/x%3By",
                b"/public/;/admin",
                b"/;x/public/y",
            ],
        ),
        (
            Ambiguity::EncodedSlash,
            &[b"/public/a%2fb", b"/public/..%2Fadmin", b"/%2fpublic/x"],
        ),
        (
            Ambiguity::Backslash,
            &[b"/public/..\\admin", b"/public/..%5cadmin", b"/public%5Cx"],
        ),
        (
            Ambiguity::TwiceEncoded,
            &[
                b"/public/%252e%252e/admin",
                b"/public/a%252fb",
                b"/public/%25",
                b"/public/100%",
                b"/public/%zz",
                b"/public/%2",
                b"/public/%u002e%u002e/admin",
                b"/public/%25252e",
            ],
        ),
        (
            Ambiguity::DotSegment,
            &[
                b"/public/../admin",
                b"/public/%2e%2e/admin",
                b"/public/.%2E/admin",
                b"/public/./x",
                b"/public/..",
                b"/public/.",
                b"/public/%2e",
                b"/../public/x",
            ],
        ),
        (
            Ambiguity::EmptySegment,
            &[b"//public/x", b"/public//x", b"/public///", b"//"],
        ),
        (
            Ambiguity::TrailingDot,
            &[
                b"/public/x.",
                b"/public./x",
                b"/public%2e/x",
                b"/public/...",
                b"/public/x%2E",
            ],
        ),
        (
            Ambiguity::OuterBlank,
            &[
                b"/public/x%20",
                b"/public/%20x",
                b"/public%20/x",
                b"/%20/public",
                b"/public/x%c2%a0",
                b"/public/x%e3%80%80",
                b"/public/%20",
                b"/public/. ",
            ],
        ),
        (
            Ambiguity::Control,
            &[
                b"/public%00/x",
                b"/public/x%00.html",
                b"/public/x%0d%0aHost:evil.test",
                b"/public/x%09y",
                b"/public/x%7f",
                b"/public/x%c2%85",
                b"/public/x\0",
            ],
        ),
        (
            Ambiguity::NotUtf8,
            &[
                b"/public/%c0%ae%c0%ae/admin",
                b"/public/%c0%afadmin",
                b"/public/%e0%80%af",
                b"/public/%f0%80%80%af",
                b"/public/%ff",
                b"/public/%c3",
                b"/public/%ed%a0%80",
                b"/public/\xe4",
            ],
        ),
        (
            Ambiguity::Folded,
            &[
                "/public/．．/admin".as_bytes(),
                b"/public/%ef%bc%8fadmin",
                b"/public/%ef%bd%81",
                b"/public/%e2%88%95x",
                b"/lin%e2%84%aa",
                b"/adm%c4%b1n",
                b"/acce%c5%bf%c5%bf",
                b"/public/x%cd%be",
            ],
        ),
    ];

    #[test]
    fn what_servers_read_differently_is_never_allowed_and_always_denied() {
        for (kind, paths) in AMBIGUOUS {
            for path in *paths {
                let shown = String::from_utf8_lossy(path);
                assert_eq!(RequestPath::new(path).ambiguity(), Some(*kind), "{shown}");
                for pattern in ["/**", "/public/**"] {
                    assert!(!told(pattern, path).0, "{shown} by {pattern}");
                }
                assert!(told("/elsewhere", path).1, "{shown}");
            }
        }
    }

    #[test]
    fn ordinary_paths_have_one_meaning() {
        for path in [
            "/public/x",
            "/public/",
            "/public/a%20b",
            "/public/a b",
            "/public/%41%2B%2b+c",
            "/public/@scope/name",
            "/public/%40scope/name",
            "/public/caf%C3%A9/na%C3%AFve",
            "/public/日本語",
            "/public/.hidden/..x/x..y",
            "/public/v1.2.3/x.tar.gz",
            "/public/~user/x-y_z!$&'()*,=:@",
            "/public/x?next=/../admin;a=b%2f//%00",
            "/public/x?",
            "/public/a:b",
        ] {
            assert_eq!(
                RequestPath::new(path.as_bytes()).ambiguity(),
                None,
                "{path}"
            );
            assert!(
                told("/public/**", path.as_bytes()).0 || path == "/public/",
                "{path}"
            );
            assert!(!told("/admin/**", path.as_bytes()).1, "{path}");
        }
        assert_eq!(RequestPath::new(b"/").ambiguity(), None);
        assert!(!told("/public/**", b"/other").0);
    }

    #[test]
    fn a_deny_means_every_reading() {
        for path in [
            "/admin/x",
            "/%61dmin/x",
            "/ADMIN/x",
            "/admin",
            "/admin/",
            "/Admin/?x",
        ] {
            assert!(told("/admin/**", path.as_bytes()).1, "{path}");
        }
        for path in ["/adminx", "/x/admin", "/", "/public/admin"] {
            assert!(!told("/admin/**", path.as_bytes()).1, "{path}");
        }
        // Only a final `**` includes the directory.
        assert!(!told("/admin/*.json", b"/admin").1);
        for (pattern, path) in [("/é/x", "/%C3%89/X"), ("/É/x", "/%c3%a9/x")] {
            assert!(told(pattern, path.as_bytes()).1, "{pattern}");
        }
    }

    #[test]
    fn a_query_is_compared_where_the_pattern_has_one() {
        assert_eq!(told("/x?a=b", b"/x?a=b"), (true, true));
        assert_eq!(told("/x?a=b", b"/x?a=%62"), (false, true));
        assert_eq!(told("/x?a=b c", b"/x?a=b+c"), (false, true));
        assert_eq!(told("/x?a=*", b"/x"), (false, false));
        assert_eq!(told("/x", b"/x?a=b"), (true, true));
    }
}
