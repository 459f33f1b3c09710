//! Issuers of tokens of OpenID Connect: one that says whatever a test wants, and a certified provider.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::{
    http::{Request, Response},
    lab::TlsServer,
    run::require_tool,
};

/// The name of its key.
const KID: &str = "lab-1";

/// An issuer on loopback that signs what a test wants, and answers each code with the token that was put
/// there.
pub struct Issuer {
    server: TlsServer,
    url: String,
    key: Ed25519KeyPair,
    token: Arc<Mutex<Option<String>>>,
}

impl Issuer {
    /// Starts one.
    pub fn start() -> Self {
        let random = ring::rand::SystemRandom::new();
        let key = Ed25519KeyPair::generate_pkcs8(&random).expect("a key can be made");
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a new key can be read");
        let token = Arc::new(Mutex::new(None));
        let public = URL_SAFE_NO_PAD.encode(key.public_key());
        let put: Arc<Mutex<Option<String>>> = Arc::clone(&token);
        let server = TlsServer::with(&["localhost"], move |request| {
            answer(request, &public, &put)
        });
        Self {
            url: format!("https://localhost:{}/org", server.port()),
            server,
            key,
            token,
        }
    }

    /// Returns its address, which is its name.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the certificate by which it is known, PEM.
    pub fn certificate_pem(&self) -> &str {
        self.server.certificate_pem()
    }

    /// Returns what it was asked.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": "EdDSA", "kid": KID, "typ": "JWT"}), claims)
    }

    /// Signs claims under a header.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Answers codes with this token from now on.
    pub fn put(&self, token: String) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

fn answer(request: &Request, public: &str, token: &Mutex<Option<String>>) -> Response {
    let host = request.header("host").unwrap_or_default();
    let issuer = format!("https://{host}/org");
    let body = match request.path() {
        "/org/.well-known/openid-configuration" => json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"),
            "id_token_signing_alg_values_supported": ["EdDSA"],
        }),
        "/org/keys" => json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": KID, "use": "sig", "x": public},
        ]}),
        "/org/token" => {
            let token = token.lock().unwrap_or_else(PoisonError::into_inner);
            json!({"token_type": "Bearer", "access_token": "a", "id_token": *token})
        }
        _ => return Response::text(404, "not found\n"),
    };
    Response::text(200, body.to_string())
}

/// `oidc-provider`, a provider that the OpenID Foundation has certified, as a program of its own. It believes
/// every name and password; dropping it ends it.
pub struct CertifiedProvider {
    child: Child,
    groups: PathBuf,
    url: String,
}

/// What a client at the provider is.
pub struct ProviderClient<'a> {
    /// Its id, for example `stockade`.
    pub id: &'a str,
    /// Its secret; without one it is a public client.
    pub secret: Option<&'a str>,
    /// Where browsers come back.
    pub redirect: &'a str,
    /// How its tokens are signed: `RS256`, `PS256`, `ES256` or `EdDSA`.
    pub algorithm: &'a str,
}

impl CertifiedProvider {
    /// Starts one at `https://127.0.0.1:PORT`, with files in `dir`, the certificate and its key (PEM).
    pub fn start(
        dir: &Path,
        port: u16,
        (certificate, key): (&str, &str),
        client: &ProviderClient<'_>,
    ) -> Self {
        let node = require_tool("node");
        let modules = std::env::var_os("STOCKADE_TEST_AGENTS").map(PathBuf::from);
        let package = modules.map(|folder| folder.join("node_modules/oidc-provider/lib/index.js"));
        let package = package.filter(|path| path.is_file()).expect(
            "this test needs `oidc-provider`: install it with npm and set STOCKADE_TEST_AGENTS to the \
             directory that has node_modules, or run `cargo xtask test`",
        );
        let groups = dir.join("groups.json");
        std::fs::write(&groups, "{}").expect("the directory is ours");
        let script = dir.join("provider.mjs");
        std::fs::write(&script, include_str!("issuer/provider.mjs"))
            .expect("the directory is ours");
        let url = format!("https://127.0.0.1:{port}");
        let told = json!({
            "package": package, "issuer": url, "port": port, "certificate": certificate, "key": key,
            "groups": groups, "client": client.id, "secret": client.secret,
            "redirect": client.redirect, "algorithm": client.algorithm,
        });
        let mut child = Command::new(node)
            .arg(&script)
            .env("PROVIDER", told.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts");
        let out = child.stdout.take().expect("it is a pipe");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("it writes");
        assert_eq!(line.trim(), "ready", "the provider does not listen");
        Self { child, groups, url }
    }

    /// Returns its address, which is its name.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts people into groups: `{"ann": ["dev"]}`.
    pub fn groups(&self, groups: &Value) {
        std::fs::write(&self.groups, groups.to_string()).expect("the directory is ours");
    }
}

impl Drop for CertifiedProvider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
