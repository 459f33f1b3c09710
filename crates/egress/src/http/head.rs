//! What is judged of a request, whatever protocol carries it.

use stockade_policy::{AsRequest, HttpRequest, HttpShown, Meaning, Request};
use stockade_types::{Digest, Host, Port, RawText, Subject};

/// Fields by which a request names another path or method than the one that it is sent with, which
/// some servers and frameworks follow; `-` and `_` are the same to many.
const OVERRIDES: [&str; 8] = [
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-rewrite-uri",
    "x-forwarded-uri",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// Name as sent.
    pub(crate) name: &'a [u8],
    /// Value without the white space around it.
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// Compares the name without regard to case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Tells whether some server takes the name for `name`.
    fn may_be(&self, name: &str) -> bool {
        let letter = |byte: &u8| match byte {
            b'_' => b'-',
            other => other.to_ascii_lowercase(),
        };
        self.name.iter().map(letter).eq(name.bytes())
    }
}

/// Header fields in their order, in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    text: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
}

impl Fields {
    /// Adds one at the end.
    pub(crate) fn add(&mut self, field: Field<'_>) {
        self.text.extend_from_slice(field.name);
        let name = self.text.len();
        self.text.extend_from_slice(field.value);
        self.ends.push((name, self.text.len()));
    }

    /// Iterates over them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        let mut start = 0;
        self.ends.iter().map(move |(name, value)| {
            let field = Field {
                name: self.text.get(start..*name).unwrap_or_default(),
                value: self.text.get(*name..*value).unwrap_or_default(),
            };
            start = *value;
            field
        })
    }

    /// Returns the bytes of all names and values.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

impl<'a> FromIterator<Field<'a>> for Fields {
    fn from_iter<I: IntoIterator<Item = Field<'a>>>(fields: I) -> Self {
        let mut all = Self::default();
        fields.into_iter().for_each(|field| all.add(field));
        all
    }
}

/// The head of a request that has exactly one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Method, upper-case letters.
    pub(crate) method: String,
    /// Host that the request names, canonical.
    pub(crate) host: Host,
    /// Port that it names.
    pub(crate) port: Option<u16>,
    /// Path with query, or `*`.
    pub(crate) path: RawText,
    /// Its fields.
    pub(crate) fields: Fields,
}

impl Head {
    /// Returns how the client names itself.
    pub(crate) fn agent(&self) -> &[u8] {
        let agent = self.fields.iter().find(|field| field.is("user-agent"));
        agent.map_or(&[], |field| field.value)
    }

    /// Returns a field that can name another path or method than the one that is judged.
    pub(crate) fn overriding(&self) -> Option<&'static str> {
        let is = |own: &&str| self.fields.iter().any(|field| field.may_be(own));
        OVERRIDES.into_iter().find(is)
    }
}

/// A request on the connection that carries it: what is judged is what is sent. `carried` is what its
/// protocol says beside the head.
#[derive(Clone, Debug)]
pub(crate) struct Addressed<C> {
    /// The head.
    pub(crate) head: Head,
    /// What the protocol adds.
    pub(crate) carried: C,
    /// What it means, as far as rules about this host need it.
    pub(crate) meaning: Vec<Meaning>,
    /// What people and records see of it, where it has secrets.
    pub(crate) shown: Option<Box<HttpShown>>,
    /// The digest of its whole body, where it was needed and could be read.
    pub(crate) body: Option<Digest>,
    /// Where the connection leads.
    pub(crate) host: Host,
    /// Its port.
    pub(crate) port: Port,
    /// Who sends it.
    pub(crate) subject: Subject,
}

impl<C> AsRequest for Addressed<C> {
    fn as_request(&self) -> Request {
        Request::Http(HttpRequest {
            host: self.host.clone(),
            port: self.port,
            method: self.head.method.clone(),
            path: self.head.path.clone(),
            meaning: self.meaning.clone(),
            shown: self.shown.clone(),
            subject: self.subject.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Fields, Head};

    fn head(names: &[&'static str]) -> Head {
        let field = |name: &&'static str| Field {
            name: name.as_bytes(),
            value: b"/other",
        };
        Head {
            method: "GET".to_owned(),
            host: "good.test".parse().unwrap(),
            port: None,
            path: "/".into(),
            fields: names.iter().map(field).collect(),
        }
    }

    #[test]
    fn fields_come_back_as_they_were_added() {
        let table: [(&[u8], &[u8]); 4] =
            [(b"A", b"b"), (b"c", b""), (b"A", b"\xfc"), (b"d", b"e f")];
        let fields: Fields = table
            .map(|(name, value)| Field { name, value })
            .into_iter()
            .collect();
        let back: Vec<_> = fields
            .iter()
            .map(|field| (field.name, field.value))
            .collect();
        assert_eq!(back, table);
        assert_eq!((fields.len(), fields.bytes()), (4, 9));
    }

    #[test]
    fn fields_that_name_another_request_are_found_however_they_are_written() {
        assert_eq!(
            head(&["Host", "X-Original", "X-Original-Urls"]).overriding(),
            None
        );
        for (written, known) in [
            ("X-Original-URL", "x-original-url"),
            ("x_http_method-override", "x-http-method-override"),
            ("X_FORWARDED_URI", "x-forwarded-uri"),
        ] {
            assert_eq!(
                head(&["Host", written]).overriding(),
                Some(known),
                "{written}"
            );
        }
    }
}
