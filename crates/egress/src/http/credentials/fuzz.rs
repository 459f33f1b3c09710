//! The readers of tokens and signatures against changed inputs.

use serde_json::{Map, Value};
use stockade_fuzz::{TRIES, Target};
use stockade_types::Digest;

use super::{
    aws,
    spent::{Fresh, spent},
};
use crate::http::{Field, Head};

const PLACEHOLDER: &str = "placeholder-0123456789abcdefghij";
/// It has letters that each form writes in another way, and is in no sample.
const VALUE: &str = "real/token+1\"é";

fn samples(texts: &[&str]) -> Vec<Vec<u8>> {
    let texts = texts.iter();
    texts.map(|text| text.as_bytes().to_vec()).collect()
}

/// A token is given in its place alone: whoever reads the new body finds it once, as the token for new
/// ones, and everything else as it was.
#[test]
fn fuzz_token_request() {
    let target = Target {
        name: "token-request",
        samples: samples(&[
            &format!("{{\"grant_type\":\"refresh_token\",\"refresh_token\":\"{PLACEHOLDER}\"}}"),
            &format!("grant_type=refresh_token&client_id=a%20b&refresh_token={PLACEHOLDER}"),
        ]),
        words: &[
            b"refresh_token",
            b"grant_type",
            b"placeholder-0123456789abcdefghij",
            b"&",
            b"=",
            b"\"",
            b"{",
            b"%",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |body| {
        let Some(new) = spent(body, PLACEHOLDER, VALUE) else {
            return;
        };
        let table = |bytes: &[u8]| serde_json::from_slice::<Map<String, Value>>(bytes);
        if let Ok(mut fields) = table(&new) {
            let given = fields.insert("refresh_token".to_owned(), PLACEHOLDER.into());
            assert_eq!(given, Some(VALUE.into()));
            let Ok(mut old) = table(body) else {
                panic!("a form became JSON");
            };
            old.insert("refresh_token".to_owned(), PLACEHOLDER.into());
            assert_eq!(fields, old);
            return;
        }
        let form = |bytes: &[u8]| -> Vec<(String, String)> {
            let pairs = url::form_urlencoded::parse(bytes);
            pairs.into_owned().collect()
        };
        let (old, new) = (form(body), form(&new));
        assert_eq!(old.len(), new.len());
        let changed = old.iter().zip(&new).filter(|(old, new)| old != new);
        let changed: Vec<_> = changed.map(|(_, new)| new.clone()).collect();
        assert_eq!(
            changed,
            [("refresh_token".to_owned(), VALUE.to_owned())],
            "{old:?}"
        );
    });
}

/// No token of an answer gets inside: each that is read is one, and is nowhere in what is passed on.
#[test]
fn fuzz_token_answer() {
    const MEMBERS: [&str; 3] = ["access_token", "refresh_token", "id_token"];
    let target = Target {
        name: "token-answer",
        samples: samples(&[
            "{\"access_token\":\"first-token-01\",\"refresh_token\":\"second-token-02\",\"expires_in\":3600}",
            "{\"id_token\":\"head.claims.signature\",\"token_type\":\"Bearer\",\"more\":[{\"api_key\":\"x\"}]}",
        ]),
        words: &[
            b"access_token",
            b"refresh_token",
            b"id_token",
            b"null",
            b"\"",
            b"{",
            b"\\u0041",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |body| {
        let Ok(mut fresh) = Fresh::read(body) else {
            return;
        };
        let mut tokens = Vec::new();
        for member in MEMBERS {
            match fresh.token(member) {
                Ok(Some(token)) => tokens.push((member, token.to_owned())),
                Ok(None) => {}
                // Such an answer is not passed on.
                Err(_) => return,
            }
        }
        for (member, token) in &tokens {
            assert!((8..=16 * 1024).contains(&token.len()));
            assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
            fresh.hide(member, PLACEHOLDER);
        }
        let hidden = |name: &str| MEMBERS.contains(&name);
        let written = fresh.written(hidden);
        let Ok(all) = serde_json::from_slice::<Map<String, Value>>(&written) else {
            panic!("an answer that is no table");
        };
        for (member, token) in &tokens {
            assert_ne!(all.get(*member), Some(&Value::from(token.as_str())));
        }
    });
}

/// A request that is signed again has one signature, by the key, and the placeholder is gone.
#[test]
fn fuzz_aws_authorization() {
    let sample = "AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/20150830/us-east-1/service/aws4_request, \
                  SignedHeaders=host;x-amz-date, Signature=00";
    let target = Target {
        name: "aws-authorization",
        samples: samples(&[sample]),
        words: &[
            b"Credential=",
            b"SignedHeaders=",
            b"Signature=",
            b"aws4_request",
            b"AKIAPLACEHOLDER",
            b"AWS4-HMAC-SHA256",
            b"/",
            b",",
            b";",
            b"host",
        ],
        tries: TRIES,
    };
    stockade_fuzz::target(&target, |value| {
        let own: [(&str, &[u8]); 3] = [
            ("Host", b"example.test"),
            ("X-Amz-Date", b"20150830T123600Z"),
            ("Authorization", value),
        ];
        let fields = own.iter().map(|(name, value)| Field {
            name: name.as_bytes(),
            value,
        });
        let Ok(host) = "example.test".parse() else {
            panic!("it is a name");
        };
        let head = Head {
            method: "GET".to_owned(),
            host,
            port: None,
            path: "/a?b=c".into(),
            fields: fields.collect(),
        };
        let body = Digest::of(b"");
        let again = aws::signed(&head, "KEYID:SECRETVALUE", (None, None), Some(&body));
        let Ok(again) = again else {
            return;
        };
        let mut signatures = again.iter().filter(|field| field.is("authorization"));
        let (one, more) = (signatures.next(), signatures.next());
        let text = one.map(|field| String::from_utf8_lossy(field.value).into_owned());
        let text = text.unwrap_or_default();
        assert!(more.is_none() && text.starts_with("AWS4-HMAC-SHA256 Credential=KEYID/"));
        assert!(!text.contains("SECRETVALUE"), "{text}");
    });
}
