//! What holds for every request and every answer: the host and the page that a request may come from, and
//! the headers that tell a browser what the answer may do.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use stockade_trust::RelyingParty;

use super::problem::Problem;

/// Says which page made a request; browsers set it, and scripts cannot.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Headers that are the same for every answer.
///
/// `Referrer-Policy` is not `no-referrer`, because browsers then say `Origin: null` for forms of our own
/// pages.
const HEADERS: [(HeaderName, &str); 8] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-embedder-policy"),
        "require-corp",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "publickey-credentials-create=(self), publickey-credentials-get=(self), camera=(), \
         microphone=(), geolocation=(), payment=(), usb=(), clipboard-read=()",
    ),
];

/// Writes the policy for what a page may load and do. Only scripts with the nonce of this answer run, and
/// nothing is loaded from or sent to another origin.
pub(crate) fn content_policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types htmx"
    )
}

/// Adds the headers that every answer has.
pub(crate) fn add_headers(headers: &mut HeaderMap, nonce: &str) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = HeaderValue::from_str(&content_policy(nonce));
    // A nonce has only characters that a header may have; without one nothing is loaded at all.
    let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    // Files of the program are the only answers that are kept; they say so themselves.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Returns the host and port of an origin.
fn authority(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, rest)| rest)
}

/// Checks that a request is for this server's own name, so that a name of a stranger that leads to our
/// address (DNS rebinding) reaches nothing.
///
/// # Errors
/// When it is for another one.
pub(crate) fn is_for_us(host: Option<&str>, party: &RelyingParty) -> Result<(), Problem> {
    let own = authority(&party.origin);
    if host.is_some_and(|host| host.eq_ignore_ascii_case(own)) {
        return Ok(());
    }
    Err(Problem::other_host(&party.origin))
}

/// Checks that a request which changes something was made by a page of this server. It is refused if the
/// browser does not say so.
///
/// # Errors
/// When another page made it, or it is not said which.
pub(crate) fn is_from_us(
    method: &Method,
    headers: &HeaderMap,
    party: &RelyingParty,
) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = said(header::ORIGIN.as_str());
    let site = said(SEC_FETCH_SITE);
    if origin == Some(party.origin.as_str()) && site == Some("same-origin") {
        return Ok(());
    }
    Err(Problem::forbidden(
        "the request was not made by a page of this server, or the browser does not say which page made it",
        format!(
            "open {} and do it there; programs use a token",
            party.origin
        ),
    ))
}

/// Tells whether a request comes from a link on a page of another site. Such a request has no cookie,
/// since ours are `SameSite=Strict`.
pub(crate) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get(SEC_FETCH_SITE);
    site.is_some_and(|site| site == "cross-site" || site == "same-site")
}

/// Returns the page that a request was made on, to come back to: a GET is a page itself, and for a form
/// the browser says which page it is on.
pub(crate) fn page_of(
    method: &Method,
    here: &str,
    headers: &HeaderMap,
    party: &RelyingParty,
) -> String {
    if matches!(*method, Method::GET | Method::HEAD) {
        return here.to_owned();
    }
    let referer = headers
        .get(header::REFERER)
        .and_then(|value| value.to_str().ok());
    let path = referer.and_then(|referer| referer.strip_prefix(party.origin.as_str()));
    path.filter(|path| is_own_path(path))
        .unwrap_or("/")
        .to_owned()
}

/// Tells whether a text is a path of this server to go on to after signing in. A path that a browser would
/// read as another origin (`//host`, `/\host`) is none.
pub(crate) fn is_own_path(text: &str) -> bool {
    const CHARS_MAX: usize = 300;
    let mut bytes = text.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && text.len() <= CHARS_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.?=&%~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, Method};
    use stockade_trust::RelyingParty;

    use super::{is_for_us, is_from_us, is_own_path};

    fn party() -> RelyingParty {
        RelyingParty {
            id: "stockade.test".to_owned(),
            origin: "https://stockade.test:7444".to_owned(),
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = axum::http::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    #[test]
    fn only_pages_of_this_server_change_something() {
        let own = "https://stockade.test:7444";
        let good = headers(&[("origin", own), ("sec-fetch-site", "same-origin")]);
        assert!(is_from_us(&Method::POST, &good, &party()).is_ok());
        for wrong in [
            vec![],
            vec![("origin", own)],
            vec![("sec-fetch-site", "same-origin")],
            vec![("origin", "null"), ("sec-fetch-site", "same-origin")],
            vec![("origin", own), ("sec-fetch-site", "cross-site")],
            vec![("origin", own), ("sec-fetch-site", "same-site")],
            vec![("origin", own), ("sec-fetch-site", "none")],
            vec![
                ("origin", "https://stockade.test"),
                ("sec-fetch-site", "same-origin"),
            ],
            vec![
                ("origin", "https://stockade.test:7444.evil.test"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let refused = is_from_us(&method, &headers(&wrong), &party());
                assert!(refused.is_err(), "{method} {wrong:?}");
            }
            assert!(is_from_us(&Method::GET, &headers(&wrong), &party()).is_ok());
        }
    }

    #[test]
    fn no_other_name_leads_here() {
        assert!(is_for_us(Some("stockade.test:7444"), &party()).is_ok());
        assert!(is_for_us(Some("Stockade.Test:7444"), &party()).is_ok());
        for host in [
            None,
            Some(""),
            Some("stockade.test"),
            Some("evil.test:7444"),
        ] {
            assert!(is_for_us(host, &party()).is_err(), "{host:?}");
        }
    }

    #[test]
    fn nothing_else_is_a_path_of_this_server() {
        for path in ["/", "/inbox", "/sessions/n-0/1?page=2", "/a/%2e"] {
            assert!(is_own_path(path), "{path}");
        }
        for wrong in [
            "",
            "inbox",
            "//evil.test",
            "/\\evil.test",
            "https://evil.test",
            "/\t/evil.test",
            "/a\r\nb",
            "javascript:alert(1)",
            "/a#b",
            "/@evil.test:",
            &format!("/{}", "a".repeat(300)),
        ] {
            assert!(!is_own_path(wrong), "{wrong}");
        }
    }
}
