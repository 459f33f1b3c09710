//! Requests with certain methods to what lies below one path of a host: the widest answer to a question
//! about one request.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::{Host, Port, RawText};

use super::HttpRequest;
use crate::request_path::RequestPath;

/// Methods that change nothing and are the same to a person (RFC 9110 section 9.2.1).
const READING: [&str; 2] = ["GET", "HEAD"];

/// The requests to one host and port with certain methods, below one path.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Below {
    host: Host,
    port: Port,
    /// As they are sent.
    methods: Vec<String>,
    /// Begins and ends with a slash; decoded once.
    prefix: String,
}

impl Below {
    /// Returns what is offered for a request: its method, and what lies beside and below its path.
    /// `None` if servers could read the path in different ways, if what is beside it has a secret, which
    /// no list shows, or if the request is known by what it means: then its path says less of it.
    pub(crate) fn around(request: &HttpRequest) -> Option<Self> {
        if !request.meaning.is_empty() {
            return None;
        }
        let path = RequestPath::new(request.path.as_bytes());
        if path.ambiguity().is_some() {
            return None;
        }
        let plain = std::str::from_utf8(path.plain()).ok()?;
        let (directory, _) = plain.rsplit_once('/')?;
        let shown = RequestPath::new(request.shown_path().as_bytes());
        if !shown
            .plain()
            .starts_with(format!("{directory}/").as_bytes())
        {
            return None;
        }
        let method = request.method.as_str();
        let methods = if READING.contains(&method) {
            READING.map(str::to_owned).to_vec()
        } else {
            vec![method.to_owned()]
        };
        Some(Self {
            host: request.host.clone(),
            port: request.port,
            methods,
            prefix: format!("{directory}/"),
        })
    }

    /// Tells whether a request is certainly one of them.
    pub(crate) fn covers(&self, request: &HttpRequest) -> bool {
        let path = RequestPath::new(request.path.as_bytes());
        self.host == request.host
            && self.port == request.port
            && request.meaning.is_empty()
            && self.methods.contains(&request.method)
            && path.ambiguity().is_none()
            && path.plain().starts_with(self.prefix.as_bytes())
    }
}

impl fmt::Display for Below {
    /// Writes `GET, HEAD of api.test:443/v1/**`; foreign characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = RawText::from(self.methods.join(", ").as_str());
        let prefix = RawText::from(self.prefix.as_str());
        let (methods, prefix) = (methods.display(), prefix.display());
        write!(f, "{methods} of {}:{}{prefix}**", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::{Port, RawText, Subject};

    use super::Below;
    use crate::{Git, HttpRequest, Meaning};

    fn request(method: &str, host: &str, path: &str) -> HttpRequest {
        HttpRequest {
            host: host.parse().unwrap(),
            port: Port::new(443).unwrap(),
            method: method.to_owned(),
            path: RawText::from(path),
            meaning: Vec::new(),
            shown: None,
            subject: Subject::default(),
        }
    }

    #[test]
    fn it_covers_what_it_says_and_nothing_beside_it() {
        let asked = request("GET", "api.test", "/v1/items/7?page=2");
        let below = Below::around(&asked).unwrap();
        assert_eq!(below.to_string(), "GET, HEAD of api.test:443/v1/items/**");
        for (method, path) in [
            ("GET", "/v1/items/7?page=2"),
            ("HEAD", "/v1/items/8"),
            ("GET", "/v1/items/"),
            ("GET", "/v1/items/8/parts?x"),
            ("GET", "/v1/%69tems/8"),
        ] {
            let other = request(method, "api.test", path);
            assert!(below.covers(&other), "{method} {path}");
        }
        for (method, host, path) in [
            ("POST", "api.test", "/v1/items/7"),
            ("get", "api.test", "/v1/items/7"),
            ("GET", "api.test", "/v1/items"),
            ("GET", "api.test", "/v1/items-2/7"),
            ("GET", "api.test", "/V1/items/7"),
            ("GET", "api.test", "/v1/users/7"),
            ("GET", "www.api.test", "/v1/items/7"),
            ("GET", "api.test", "/v1/items/../users"),
            ("GET", "api.test", "/v1/items/..%2fusers"),
            ("GET", "api.test", "/v1/items/%2e%2e/users"),
            ("GET", "api.test", "/v1/items/..;/users"),
            ("GET", "api.test", "/v1/items//../../users"),
            ("GET", "api.test", "/v1/items/%252e%252e/users"),
            ("GET", "api.test", "/v1/items/x#/../users"),
            ("GET", "api.test", "/v1/items\\..\\users"),
        ] {
            let other = request(method, host, path);
            assert!(!below.covers(&other), "{method} {host}{path}");
        }
        let port = Port::new(80).unwrap();
        assert!(!below.covers(&HttpRequest {
            port,
            ..asked.clone()
        }));
        let meaning = vec![Meaning::Git(Git::unclear())];
        assert!(!below.covers(&HttpRequest { meaning, ..asked }));
    }

    #[test]
    fn it_is_offered_only_where_it_says_all() {
        let words = |method, path| {
            Below::around(&request(method, "api.test", path)).map(|below| below.to_string())
        };
        assert_eq!(
            words("POST", "/x").as_deref(),
            Some("POST of api.test:443/**")
        );
        assert_eq!(
            words("PUT", "/a/").as_deref(),
            Some("PUT of api.test:443/a/**")
        );
        for path in ["/a/../b", "/a;b/c", "*", "/a%2fb/c", "/\u{ff0e}/x"] {
            assert_eq!(words("GET", path), None, "{path}");
        }
        let git = HttpRequest {
            meaning: vec![Meaning::Git(Git::unclear())],
            ..request("POST", "api.test", "/p.git/git-receive-pack")
        };
        assert_eq!(Below::around(&git), None);
    }
}
