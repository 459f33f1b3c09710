//! Tokens of OpenID Connect: one that is right in each way of signing, and everything we know to make of it
//! that must not be believed. Each row changes one thing of a token that is accepted.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};
use stockade_trust::oidc::{
    Claims, Discovery, DiscoveryError, Expected, KeySet, KeySetError, Purpose, TokenError,
    check_token,
};
use stockade_types::UnixMillis;

const ISSUER: &str = "https://login.test/org";
const NOW_S: u64 = 1_800_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A provider with one key for each way of signing.
struct Provider {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    discovery: Discovery,
}

fn discovery() -> Value {
    json!({
        "issuer": ISSUER,
        "authorization_endpoint": "https://login.test/org/auth",
        "token_endpoint": "https://login.test/org/token",
        "jwks_uri": "https://login.test/org/keys",
        "id_token_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA", "HS256", "none"],
        "claims_supported": ["sub"],
    })
}

fn read(document: &Value) -> Result<Discovery, DiscoveryError> {
    Discovery::read(document.to_string().as_bytes(), ISSUER)
}

impl Provider {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let ec = ec.expect("a key");
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random);
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Self {
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("lab-rsa.der")).expect("a key"),
            ec: ec.expect("a key"),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key"),
            discovery: read(&discovery()).expect("a document"),
        }
    }

    fn rsa(&self) -> Value {
        let parts = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"kty": "RSA", "n": b64(parts.n), "e": b64(parts.e), "use": "sig"})
    }

    fn key(&self, kid: &str) -> Value {
        let mut key = match kid {
            "RS256" | "PS256" => self.rsa(),
            "ES256" => {
                let point = self.ec.public_key().as_ref();
                let (_, point) = point.split_first().expect("a point");
                let (x, y) = point.split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)})
            }
            _ => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(self.ed.public_key())}),
        };
        let members = key.as_object_mut().expect("an object");
        members.insert("kid".to_owned(), kid.into());
        members.insert("alg".to_owned(), kid.into());
        key
    }

    fn keys(&self) -> Value {
        let keys = ["RS256", "PS256", "ES256", "EdDSA"].map(|kid| self.key(kid));
        json!({"keys": keys})
    }

    fn set(&self) -> KeySet {
        KeySet::read(self.keys().to_string().as_bytes()).expect("keys")
    }

    fn sign(&self, how: &str, header: &str, body: &str) -> String {
        let random = SystemRandom::new();
        let signed = format!("{}.{}", b64(header), b64(body));
        let message = signed.as_bytes();
        let mut rsa = vec![0; self.rsa.public().modulus_len()];
        let signature = match how {
            "RS256" => {
                let done = self.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut rsa);
                done.map(|()| rsa).expect("a signature")
            }
            "PS256" => {
                let done = self.rsa.sign(&RSA_PSS_SHA256, &random, message, &mut rsa);
                done.map(|()| rsa).expect("a signature")
            }
            "ES256" => self
                .ec
                .sign(&random, message)
                .expect("a signature")
                .as_ref()
                .to_vec(),
            "HS256" => {
                // The classic: the public key as the secret of a symmetric algorithm.
                let secret = ring::hmac::Key::new(
                    ring::hmac::HMAC_SHA256,
                    self.rsa().to_string().as_bytes(),
                );
                ring::hmac::sign(&secret, message).as_ref().to_vec()
            }
            "none" => Vec::new(),
            _ => self.ed.sign(message).as_ref().to_vec(),
        };
        format!("{signed}.{}", b64(signature))
    }

    fn token(&self, how: &str, header: &Value, claims: &Value) -> String {
        self.sign(how, &header.to_string(), &claims.to_string())
    }

    fn check(&self, token: &str) -> Result<Claims, TokenError> {
        check_token(token, &self.set(), &expected(&self.discovery))
    }
}

fn expected(provider: &Discovery) -> Expected<'_> {
    Expected {
        provider,
        audience: "stockade",
        purpose: Purpose::SignIn {
            nonce: "n-1",
            max_age_ms: None,
        },
        now: UnixMillis(NOW_S * 1_000),
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "stockade", "sub": "ann-1", "nonce": "n-1",
        "iat": NOW_S - 5, "exp": NOW_S + 300, "groups": ["dev", "sec"], "auth_time": NOW_S - 30,
    })
}

fn header(how: &str) -> Value {
    json!({"alg": how, "kid": how, "typ": "JWT"})
}

/// Returns `claims` with a member changed, or taken away by `null`.
fn with(mut claims: Value, name: &str, value: Value) -> Value {
    let members = claims.as_object_mut().expect("an object");
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
    claims
}

#[test]
fn a_token_is_believed_in_each_way_of_signing() {
    let provider = Provider::new();
    for how in ["RS256", "PS256", "ES256", "EdDSA"] {
        let token = provider.token(how, &header(how), &claims());
        let said = provider.check(&token).expect(how);
        assert_eq!(said.subject, "ann-1");
        assert_eq!(
            said.list("groups"),
            Some(vec!["dev".to_owned(), "sec".to_owned()])
        );
        assert_eq!(said.authenticated, Some(UnixMillis((NOW_S - 30) * 1_000)));
    }
}

/// What changes only what may change is still believed: the other half of each row below.
#[test]
fn what_a_provider_may_say_otherwise_is_believed() {
    let provider = Provider::new();
    for (name, value) in [
        ("aud", json!(["stockade"])),
        ("azp", json!("stockade")),
        ("exp", json!(NOW_S - 59)),
        ("exp", json!(1_800_000_300.75)),
        ("iat", json!(NOW_S + 59)),
        ("iat", json!(NOW_S - 600)),
        ("nbf", json!(NOW_S + 59)),
        ("auth_time", Value::Null),
        ("unknown", json!({"deep": [1, 2]})),
    ] {
        let token = provider.token("RS256", &header("RS256"), &with(claims(), name, value));
        assert!(provider.check(&token).is_ok(), "{name}");
    }
    let both = with(
        with(claims(), "aud", json!(["other", "stockade"])),
        "azp",
        json!("stockade"),
    );
    assert!(
        provider
            .check(&provider.token("RS256", &header("RS256"), &both))
            .is_ok()
    );
    for header in [
        json!({"alg": "RS256", "kid": "RS256"}),
        json!({"alg": "RS256", "kid": "RS256", "typ": "jwt", "x": 1}),
    ] {
        assert!(
            provider
                .check(&provider.token("RS256", &header, &claims()))
                .is_ok()
        );
    }
    // Without a name the one key that signs so is meant.
    let nameless = provider.token("ES256", &json!({"alg": "ES256"}), &claims());
    assert!(provider.check(&nameless).is_ok());
}

/// A token whose claims differ in one thing.
#[test]
fn tokens_that_say_something_else_are_refused() {
    let provider = Provider::new();
    let rows: Vec<(&str, Value, TokenError)> = vec![
        ("iss", json!("https://login.test/other"), TokenError::Issuer),
        ("iss", json!("https://login.test/org/"), TokenError::Issuer),
        ("iss", json!("HTTPS://login.test/org"), TokenError::Issuer),
        ("iss", Value::Null, TokenError::Issuer),
        ("iss", json!([ISSUER]), TokenError::Issuer),
        ("aud", json!("other"), TokenError::Audience),
        ("aud", json!("stockade "), TokenError::Audience),
        ("aud", json!(["other"]), TokenError::Audience),
        ("aud", json!(["stockade", "other"]), TokenError::Party),
        ("aud", json!(["stockade", 7]), TokenError::Claim("aud")),
        ("aud", Value::Null, TokenError::Claim("aud")),
        ("azp", json!("other"), TokenError::Party),
        ("azp", json!(["stockade"]), TokenError::Party),
        ("nonce", json!("n-2"), TokenError::Nonce),
        ("nonce", Value::Null, TokenError::Nonce),
        ("exp", json!(NOW_S - 60), TokenError::Expired),
        ("exp", Value::Null, TokenError::Claim("exp")),
        ("exp", json!("1800000300"), TokenError::Claim("exp")),
        ("exp", json!(-1), TokenError::Claim("exp")),
        ("exp", json!(1e300), TokenError::Claim("exp")),
        ("exp", json!(u64::MAX), TokenError::Claim("exp")),
        ("iat", json!(NOW_S + 61), TokenError::Early),
        ("iat", json!(NOW_S - 601), TokenError::Old),
        ("iat", Value::Null, TokenError::Claim("iat")),
        ("nbf", json!(NOW_S + 61), TokenError::Early),
        ("sub", json!(""), TokenError::Claim("sub")),
        ("sub", json!("a".repeat(256)), TokenError::Claim("sub")),
        ("sub", json!("ann\n1"), TokenError::Claim("sub")),
        ("sub", json!(7), TokenError::Claim("sub")),
        ("sub", Value::Null, TokenError::Claim("sub")),
        ("auth_time", json!(NOW_S + 3_600), TokenError::Early),
    ];
    for (name, value, error) in rows {
        let token = provider.token(
            "RS256",
            &header("RS256"),
            &with(claims(), name, value.clone()),
        );
        assert_eq!(provider.check(&token), Err(error), "{name} {value}");
    }
}

/// A token whose header or signature differs in one thing.
#[test]
#[allow(clippy::too_many_lines, reason = "one table of what is refused")]
fn tokens_that_are_signed_otherwise_are_refused() {
    let provider = Provider::new();
    let other = Provider::new();
    let body = claims();
    let good = provider.token("RS256", &header("RS256"), &body);
    let named = |name: &str, value: Value| with(header("RS256"), name, value);
    let refused = |token: String, error: TokenError| {
        assert_eq!(provider.check(&token), Err(error), "{token}");
    };
    let algorithm = |name: &str| TokenError::Algorithm(name.to_owned());
    for name in [
        "none", "None", "nOnE", "HS256", "RS512", "ES384", "ES256K", "",
    ] {
        let how = if name == "HS256" { "HS256" } else { "none" };
        refused(
            provider.token(how, &named("alg", json!(name)), &body),
            algorithm(name),
        );
    }
    refused(
        provider.token("none", &named("alg", Value::Null), &body),
        algorithm(""),
    );
    // A header that brings or points to a key, or that changes how the rest is read.
    for (name, value) in [
        ("jku", json!("https://evil.test/keys")),
        ("x5u", json!("https://evil.test/cert")),
        ("jwk", other.key("RS256")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("typ", json!("at+jwt")),
        ("typ", json!("logout+jwt")),
        ("kid", json!(7)),
    ] {
        let error = TokenError::Header(name.to_owned());
        refused(provider.token("RS256", &named(name, value), &body), error);
    }
    refused(
        provider.token("RS256", &named("kid", json!("other")), &body),
        TokenError::Key,
    );
    // The key of another algorithm, by its name: the algorithm belongs to the key.
    for (alg, kid) in [
        ("PS256", "RS256"),
        ("RS256", "PS256"),
        ("ES256", "RS256"),
        ("EdDSA", "ES256"),
    ] {
        let header = json!({"alg": alg, "kid": kid});
        refused(
            provider.token(alg, &header, &body),
            TokenError::OtherAlgorithm,
        );
    }
    // Without a name two keys of RSA could be meant, if both sign so.
    let twice = json!({"keys": [
        with(provider.key("RS256"), "kid", json!("a")), with(provider.key("RS256"), "kid", json!("b")),
    ]});
    let twice = KeySet::read(twice.to_string().as_bytes()).expect("keys");
    let nameless = provider.token("RS256", &json!({"alg": "RS256"}), &body);
    let found = check_token(&nameless, &twice, &expected(&provider.discovery));
    assert_eq!(found, Err(TokenError::Key));
    // Signed by another, changed after it was signed, cut, or of another token.
    for how in ["ES256", "EdDSA"] {
        refused(other.token(how, &header(how), &body), TokenError::Signature);
    }
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (head, _) = signed.split_once('.').expect("two parts");
    let changed = with(body.clone(), "sub", json!("ben-1"));
    refused(
        format!("{head}.{}.{signature}", b64(changed.to_string())),
        TokenError::Signature,
    );
    refused(format!("{signed}."), TokenError::Signature);
    refused(
        format!("{signed}.{}", &signature[..signature.len() - 6]),
        TokenError::Signature,
    );
    for at in 0..8 {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        bytes[at * 32] ^= 1 << at;
        refused(format!("{signed}.{}", b64(bytes)), TokenError::Signature);
    }
    assert!(provider.check(&good).is_ok());
}

/// What is no token, or can be read in two ways.
#[test]
fn what_has_another_form_is_refused() {
    let provider = Provider::new();
    let good = provider.token("ES256", &header("ES256"), &claims());
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    for wrong in [
        String::new(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{good}."),
        format!("{good}.x"),
        format!("{signed}.{signature}="),
        format!("{signed}.{signature}\n"),
        format!(" {good}"),
        good.replace('-', "+"),
        provider.sign("ES256", "[]", &claims().to_string()),
        provider.sign(
            "ES256",
            "{\"alg\":\"ES256\",\"alg\":\"ES256\"}",
            &claims().to_string(),
        ),
        provider.sign("ES256", &header("ES256").to_string(), "[]"),
        provider.sign(
            "ES256",
            &header("ES256").to_string(),
            "{\"iss\":1,\"iss\":2}",
        ),
        provider.sign(
            "ES256",
            &header("ES256").to_string(),
            &format!("{}{}", "[".repeat(200), "]".repeat(200)),
        ),
    ] {
        if wrong == good {
            continue;
        }
        let found = provider.check(&wrong);
        assert_eq!(found, Err(TokenError::Form), "{wrong}");
    }
    let long = with(claims(), "groups", json!(vec!["group"; 4_000]));
    let long = provider.token("ES256", &header("ES256"), &long);
    assert_eq!(provider.check(&long), Err(TokenError::TooLong));
    // A doubled claim is signed rightly, and still not believed.
    let doubled = claims().to_string().replacen('{', "{\"sub\":\"ben-1\",", 1);
    let doubled = provider.sign("ES256", &header("ES256").to_string(), &doubled);
    assert_eq!(provider.check(&doubled), Err(TokenError::Form));
}

#[test]
fn a_person_who_was_not_asked_again_does_not_count_as_asked() {
    let provider = Provider::new();
    let ask = |auth_time: Value, most_s: u64| {
        let token = provider.token(
            "EdDSA",
            &header("EdDSA"),
            &with(claims(), "auth_time", auth_time),
        );
        let mut expected = expected(&provider.discovery);
        expected.purpose = Purpose::SignIn {
            nonce: "n-1",
            max_age_ms: Some(most_s * 1_000),
        };
        check_token(&token, &provider.set(), &expected).map(|_| ())
    };
    assert_eq!(ask(json!(NOW_S - 100), 240), Ok(()));
    assert_eq!(ask(json!(NOW_S - 300), 240), Ok(()));
    assert_eq!(ask(json!(NOW_S - 301), 240), Err(TokenError::Stale));
    assert_eq!(ask(Value::Null, 240), Err(TokenError::Stale));
    assert_eq!(ask(json!("now"), 240), Err(TokenError::Claim("auth_time")));
}

#[test]
fn the_token_of_a_job_is_for_one_audience_short_and_the_only_one_of_its_kind() {
    let provider = Provider::new();
    let job = with(with(claims(), "nonce", Value::Null), "jti", json!("j-1"));
    let ask = |claims: &Value| {
        let token = provider.token("RS256", &header("RS256"), claims);
        let mut expected = expected(&provider.discovery);
        expected.purpose = Purpose::Workload;
        check_token(&token, &provider.set(), &expected).map(|_| ())
    };
    assert_eq!(ask(&job), Ok(()));
    // An authorised party of its own is what some platforms write.
    assert_eq!(ask(&with(job.clone(), "azp", json!("1234"))), Ok(()));
    for (name, value, error) in [
        ("aud", json!(["stockade", "other"]), TokenError::Audience),
        ("jti", Value::Null, TokenError::Claim("jti")),
        ("jti", json!(""), TokenError::Claim("jti")),
        ("jti", json!("j".repeat(257)), TokenError::Claim("jti")),
        ("exp", json!(NOW_S + 2 * 24 * 3_600), TokenError::Old),
        ("exp", json!(NOW_S - 61), TokenError::Expired),
    ] {
        assert_eq!(ask(&with(job.clone(), name, value)), Err(error), "{name}");
    }
}

#[test]
fn groups_that_a_provider_leaves_out_are_noticed() {
    let provider = Provider::new();
    let said = |claims: &Value| {
        let token = provider.token("RS256", &header("RS256"), claims);
        provider
            .check(&token)
            .expect("a token")
            .is_left_out("groups")
    };
    assert!(!said(&claims()));
    assert!(!said(&with(claims(), "groups", Value::Null)));
    let sources = json!({"groups": "src1"});
    assert!(said(&with(
        with(claims(), "groups", Value::Null),
        "_claim_names",
        sources
    )));
    assert!(said(&with(
        with(claims(), "groups", Value::Null),
        "hasgroups",
        json!(true)
    )));
}

#[test]
fn documents_and_keys_that_do_not_fit_are_refused() {
    let provider = Provider::new();
    let document = |name: &str, value: Value| read(&with(discovery(), name, value)).err();
    assert_eq!(read(&discovery()).err(), None);
    assert!(matches!(
        document("issuer", json!("https://login.test/org/")),
        Some(DiscoveryError::Issuer { .. })
    ));
    assert_eq!(
        document("jwks_uri", json!("http://login.test/keys")),
        Some(DiscoveryError::Plain("jwks_uri"))
    );
    assert_eq!(
        document("token_endpoint", json!("file:///etc/passwd")),
        Some(DiscoveryError::Plain("token_endpoint"))
    );
    assert!(matches!(
        document("jwks_uri", Value::Null),
        Some(DiscoveryError::Content(_))
    ));
    let weak = json!(["HS256", "none"]);
    assert_eq!(
        document("id_token_signing_alg_values_supported", weak),
        Some(DiscoveryError::Algorithm)
    );
    assert_eq!(
        document("x", json!("x".repeat(300_000))),
        Some(DiscoveryError::TooLong)
    );
    // A provider that says it signs with one algorithm only does not sign with another.
    let only = with(
        discovery(),
        "id_token_signing_alg_values_supported",
        json!(["RS256"]),
    );
    let only = read(&only).expect("a document");
    let token = provider.token("ES256", &header("ES256"), &claims());
    let found = check_token(&token, &provider.set(), &expected(&only));
    assert_eq!(found, Err(TokenError::OtherAlgorithm));

    let set = |keys: Value| KeySet::read(json!({"keys": keys}).to_string().as_bytes()).err();
    let key = || provider.key("RS256");
    assert_eq!(set(json!([key()])), None);
    // Others beside it are passed over.
    assert_eq!(
        set(json!([key(), {"kty": "oct", "k": "AAAA"}, {"kty": "EC", "crv": "P-384"}, 7])),
        None
    );
    assert_eq!(set(json!([key(), key()])), Some(KeySetError::Doubled));
    for none in [
        json!([]),
        json!([{"kty": "oct", "k": "AAAA", "kid": "RS256"}]),
        json!([with(key(), "use", json!("enc"))]),
        json!([with(key(), "key_ops", json!(["encrypt"]))]),
        json!([with(key(), "alg", json!("none"))]),
        json!([with(key(), "alg", json!("ES256"))]),
        json!([with(key(), "alg", json!(7))]),
        json!([with(key(), "n", json!("***"))]),
        json!([with(provider.key("ES256"), "x", json!(b64([1; 31])))]),
        json!([with(provider.key("EdDSA"), "crv", json!("X25519"))]),
    ] {
        assert_eq!(set(none.clone()), Some(KeySetError::Empty), "{none}");
    }
    assert_eq!(set(json!(vec![key(); 65])), Some(KeySetError::TooLong));
    assert!(matches!(
        KeySet::read(b"{}").err(),
        Some(KeySetError::Content(_))
    ));
}
