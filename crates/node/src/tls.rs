//! Who the server is, and who this machine is: TLS 1.3 alone.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
        pem::PemObject as _,
    },
};
use stockade_types::Digest;

/// What stands before the 32 bytes of a key of Ed25519 in PKCS #8 (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why there can be no connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate of this machine or of the authority cannot be read.
    #[error("the {what} cannot be read: {why}")]
    Certificate {
        /// Which.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// TLS does not take it.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Makes the configuration for enrolment: the authority is known by its digest alone, and this machine
/// has no certificate.
pub(crate) fn pinned(ca: Digest) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned {
        ca,
        provider: provider.clone(),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(finished(config))
}

/// Makes the configuration for the terminal of a person: the server has a certificate of one of these
/// authorities, and the terminal has none.
pub(crate) fn known(ca_pem: &str) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // What the system trusts has certificates that are not read here; there must be one that is.
    roots.add_parsable_certificates(certificates(ca_pem, "certificates of authorities")?);
    if roots.is_empty() {
        return Err(none("certificates of authorities"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(finished(config))
}

/// Makes the configuration for everything after it: the server has a certificate of the pinned authority,
/// and this machine shows its own.
pub(crate) fn mutual(
    ca_pem: &str,
    certificate_pem: &str,
    seed: &[u8; 32],
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(ca_pem, "certificate of the authority")? {
        roots.add(ca)?;
    }
    let chain = certificates(certificate_pem, "certificate of this machine")?;
    let mut key = PKCS8.to_vec();
    key.extend_from_slice(seed);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(finished(config))
}

/// Returns the digest of the first certificate of a PEM text.
pub(crate) fn digest_of(pem: &str) -> Result<Digest, TlsError> {
    let all = certificates(pem, "certificate of the authority")?;
    let digest = all.first().map(|first| Digest::of(first));
    digest.ok_or_else(|| none("certificate of the authority"))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| TlsError::Certificate {
        what,
        why: error.to_string(),
    })?;
    if all.is_empty() {
        return Err(none(what));
    }
    Ok(all)
}

fn none(what: &'static str) -> TlsError {
    TlsError::Certificate {
        what,
        why: "there is none".to_owned(),
    }
}

/// Takes a server whose certificate is by the one authority with this digest, which the server sends
/// along, and is for the host that was dialled.
#[derive(Debug)]
struct Pinned {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |one: &&CertificateDer<'_>| Digest::of(one) == self.ca;
        let Some(ca) = intermediates.iter().find(is_pinned) else {
            let what = "its authority is not the one that the token names";
            return Err(rustls::Error::General(what.to_owned()));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is required".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
