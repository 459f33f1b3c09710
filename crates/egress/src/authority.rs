//! The authority of one session, by which its TLS is opened: its key is made in this process, is in
//! no file, and goes with it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use stockade_types::Host;

use crate::{
    alpn::Http,
    limits::{AUTHORITY_LASTS, LEAVES_MAX},
};

/// Why TLS cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A certificate cannot be made.
    #[error("a certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Makes certificates for the hosts of a session.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    /// The key of all of them: who has it is this process.
    key: KeyPair,
    provider: Arc<CryptoProvider>,
    leaves: Mutex<HashMap<(Host, Http), Arc<ServerConfig>>>,
}

impl fmt::Debug for Authority {
    /// Shows nothing of the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one with a key of its own.
    pub(crate) fn new() -> Result<Self, AuthorityError> {
        let made = AuthorityError::Certificate;
        let mut params = dated(CertificateParams::default());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = named("Stockade session");
        let own = KeyPair::generate().map_err(made)?;
        let certificate = params.self_signed(&own).map_err(made)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, own),
            key: KeyPair::generate().map_err(made)?,
            provider: Arc::new(ring::default_provider()),
            leaves: Mutex::default(),
        })
    }

    /// Returns its certificate, which programs of the session must trust.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns what is said to clients of a host, with whom `best` is spoken if they offer it; the same
    /// as long as it is kept.
    pub(crate) fn server(
        &self,
        host: &Host,
        best: Http,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = leaves.get(&(host.clone(), best)) {
            return Ok(Arc::clone(config));
        }
        if leaves.len() + Http::ALL.len() > LEAVES_MAX {
            leaves.clear();
        }
        let leaf = self.leaf(host)?;
        // One certificate for both.
        for http in Http::ALL {
            let mut config = leaf.clone();
            config.alpn_protocols = http.offer();
            leaves.insert((host.clone(), http), Arc::new(config));
        }
        let config = leaves.get(&(host.clone(), best));
        config
            .map(Arc::clone)
            .ok_or(AuthorityError::Setup(rustls::Error::General(
                "no certificate".to_owned(),
            )))
    }

    fn leaf(&self, host: &Host) -> Result<ServerConfig, AuthorityError> {
        let names = vec![host.to_string()];
        let mut params = CertificateParams::new(names).map_err(AuthorityError::Certificate)?;
        params = dated(params);
        params.distinguished_name = named("Stockade session, for one host");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params
            .signed_by(&self.key, &self.issuer)
            .map_err(AuthorityError::Certificate)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(AuthorityError::Setup)
    }

    /// Returns how servers are spoken to, without a protocol inside: those are trusted that one of
    /// `roots` vouches for, in PEM.
    pub(crate) fn client(&self, roots: &[u8]) -> Result<ClientConfig, AuthorityError> {
        let certificates = CertificateDer::pem_slice_iter(roots).filter_map(Result::ok);
        let mut store = RootCertStore::empty();
        // What is no authority is left out, as every client does: then it vouches for nobody.
        store.add_parsable_certificates(certificates);
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(AuthorityError::Setup)?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(config)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// Lets it hold for as long as a session may last, and for clocks that are a little behind.
fn dated(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_hours(24)).into();
    params.not_after = (now + AUTHORITY_LASTS).into();
    params
}

#[cfg(test)]
mod tests {
    use super::{Authority, Http, LEAVES_MAX};

    #[test]
    fn certificates_are_kept_and_bounded() {
        let authority = Authority::new().unwrap();
        assert!(authority.pem().starts_with("-----BEGIN CERTIFICATE-----"));
        let host = |name: &str| name.parse().unwrap();
        let first = authority.server(&host("good.test"), Http::Two).unwrap();
        let again = authority.server(&host("good.test"), Http::Two).unwrap();
        assert!(std::sync::Arc::ptr_eq(&first, &again));
        for number in 0..LEAVES_MAX {
            authority
                .server(&host(&format!("h{number}.good.test")), Http::One)
                .unwrap();
        }
        let kept = authority.leaves.lock().unwrap().len();
        assert!((1..=LEAVES_MAX).contains(&kept), "{kept}");
        authority.server(&host("203.0.113.7"), Http::Two).unwrap();
        assert!(!format!("{authority:?}").contains("key"), "{authority:?}");
    }

    #[test]
    fn two_sessions_share_nothing() {
        let (one, other) = (Authority::new().unwrap(), Authority::new().unwrap());
        assert_ne!(one.pem(), other.pem());
        assert_ne!(one.key.serialize_der(), other.key.serialize_der());
    }
}
