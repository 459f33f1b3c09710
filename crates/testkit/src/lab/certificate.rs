//! A certificate that vouches for itself, for servers behind TLS.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// How many were made.
static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

impl Certificate {
    /// Makes one for `names`.
    pub(crate) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new(names).expect("the names fit into a certificate");
        // A client that trusts several finds the one of a server by its subject.
        let subject = format!("lab {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, subject);
        let cert = params.self_signed(&key).expect("it signs for itself");
        Self {
            pem: cert.pem(),
            der: cert.der().clone(),
            key,
        }
    }

    /// Returns it in PEM, which a client must trust (`curl --cacert`).
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns its key in PEM, for servers that are other programs.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Returns how a server shows it.
    pub(crate) fn server(&self) -> ServerConfig {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                let chain = vec![self.der.clone()];
                builder.with_no_client_auth().with_single_cert(chain, key)
            })
            .expect("a new key and its certificate belong together")
    }
}
