//! A certificate that vouches for itself, for servers behind TLS.

use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

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
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("the names fit into a certificate");
        Self {
            pem: cert.pem(),
            der: cert.der().clone(),
            key: signing_key,
        }
    }

    /// Returns it in PEM, which a client must trust (`curl --cacert`).
    pub(crate) fn pem(&self) -> &str {
        &self.pem
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
