//! The certificate authority of the server: it vouches for the server to machines and browsers, and for
//! machines to the server.

use std::{
    fs,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SignatureAlgorithm,
};
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use stockade_api::{NodeId, limits::CERTIFICATE_MS};
use stockade_trust::PublicKey;
use stockade_types::{Digest, UnixMillis};

use crate::{
    ControlError,
    clock::now,
    keys::{read_private, write_private},
};

/// How long the authority's own certificate is valid; machines pin it.
const AUTHORITY_LASTS: Duration = Duration::from_hours(10 * 365 * 24);
/// How long a certificate of the server is valid; it is made again at half of that.
const SERVER_LASTS: Duration = Duration::from_hours(60 * 24);
/// How far clocks may be behind.
const SKEW: Duration = Duration::from_mins(10);
/// Bytes of a file with a key or a certificate.
const FILE_BYTES_MAX: u64 = 16 * 1024;

const KEY_FILE: &str = "authority.key";
const CERTIFICATE_FILE: &str = "authority.pem";

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    provider: Arc<CryptoProvider>,
}

/// A certificate of a machine.
#[derive(Clone, Debug)]
pub struct NodeCertificate {
    /// With those above it, PEM.
    pub pem: String,
    /// SHA-256 of it, DER: by that the server knows whose it is.
    pub fingerprint: Digest,
    /// From when it is valid.
    pub not_before: UnixMillis,
    /// Until when.
    pub not_after: UnixMillis,
}

impl Authority {
    /// Makes the authority's files in `dir`.
    pub(crate) fn create(dir: &Path, org: &str) -> Result<(), ControlError> {
        let made = ControlError::Certificate;
        let key = KeyPair::generate().map_err(made)?;
        let certificate = own_params(org).self_signed(&key).map_err(made)?;
        write_private(&dir.join(KEY_FILE), key.serialize_pem().as_bytes())?;
        write_private(&dir.join(CERTIFICATE_FILE), certificate.pem().as_bytes())
    }

    /// Reads the authority's files.
    pub(crate) fn load(dir: &Path, org: &str) -> Result<Self, ControlError> {
        let wrong = |name: &str, what: &str| ControlError::Wrong {
            path: dir.join(name),
            what: format!("{what}; take it from a backup"),
        };
        let key = read_private(&dir.join(KEY_FILE), FILE_BYTES_MAX)?;
        let key = zeroize::Zeroizing::new(String::from_utf8_lossy(&key).into_owned());
        let key = KeyPair::from_pem(&key).map_err(|_| wrong(KEY_FILE, "is no key"))?;
        let pem = read_private(&dir.join(CERTIFICATE_FILE), FILE_BYTES_MAX)?;
        let pem = String::from_utf8_lossy(&pem).into_owned();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| wrong(CERTIFICATE_FILE, "is no certificate"))?;
        Ok(Self {
            issuer: Issuer::new(own_params(org), key),
            certificate,
            pem,
            provider: Arc::new(ring::default_provider()),
        })
    }

    /// Returns its certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns by what machines pin it: SHA-256 of its certificate, DER.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// Returns what does the arithmetic of TLS.
    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    /// Vouches for a machine and its key, for [`CERTIFICATE_MS`].
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn node(&self, node: &NodeId, key: &PublicKey) -> Result<NodeCertificate, ControlError> {
        self.node_at(node, key, now())
    }

    /// Vouches for a machine and its key from `now` on, as [`Self::node`] does.
    ///
    /// # Errors
    /// As [`Self::node`].
    pub fn node_at(
        &self,
        node: &NodeId,
        key: &PublicKey,
        now: UnixMillis,
    ) -> Result<NodeCertificate, ControlError> {
        let lasts = Duration::from_millis(CERTIFICATE_MS);
        let at = UNIX_EPOCH + Duration::from_millis(now.0);
        let mut params = dated_from(CertificateParams::default(), at, lasts);
        params.distinguished_name = named(node.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&NodeKey(key.to_bytes()), &self.issuer)
            .map_err(ControlError::Certificate)?;
        Ok(NodeCertificate {
            fingerprint: Digest::of(certificate.der()),
            pem: format!("{}{}", certificate.pem(), self.pem),
            not_before: UnixMillis(now.0.saturating_sub(millis(SKEW))),
            not_after: UnixMillis(now.0.saturating_add(millis(lasts))),
        })
    }

    /// Vouches for the server itself under `host` and the names of loopback.
    fn server(&self, host: &str) -> Result<CertifiedKey, ControlError> {
        let mut names = vec![host.to_owned()];
        for name in ["localhost", "127.0.0.1", "::1"] {
            if name != host {
                names.push(name.to_owned());
            }
        }
        let made = ControlError::Certificate;
        let params = CertificateParams::new(names).map_err(made)?;
        let mut params = dated(params, SERVER_LASTS);
        params.distinguished_name = named(host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(made)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        CertifiedKey::from_der(chain, key, &self.provider).map_err(ControlError::Tls)
    }
}

/// The certificate that the server shows; it is made again before it ends.
pub(crate) struct ServerCertificate {
    authority: Arc<Authority>,
    host: String,
    current: RwLock<(SystemTime, Arc<CertifiedKey>)>,
}

impl ServerCertificate {
    pub(crate) fn new(authority: Arc<Authority>, host: &str) -> Result<Self, ControlError> {
        let first = Arc::new(authority.server(host)?);
        Ok(Self {
            authority,
            host: host.to_owned(),
            current: RwLock::new((SystemTime::now(), first)),
        })
    }

    /// Makes it again if half of its time is over.
    pub(crate) fn renew(&self) -> Result<(), ControlError> {
        let made = self
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let age = SystemTime::now().duration_since(made).unwrap_or_default();
        if age < SERVER_LASTS / 2 {
            return Ok(());
        }
        let next = Arc::new(self.authority.server(&self.host)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (SystemTime::now(), next);
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.1))
    }
}

impl std::fmt::Debug for ServerCertificate {
    /// Shows nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Reads a certificate and its key that a person has given for the pages.
pub(crate) fn from_files(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, ControlError> {
    let wrong = |path: &Path, what: String| ControlError::Wrong {
        path: path.to_owned(),
        what,
    };
    let read = |path: &Path| fs::read(path).map_err(ControlError::file("read", path));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| wrong(certificate, format!("is not PEM: {error}")))?;
    let bytes = zeroize::Zeroizing::new(read(key)?);
    let der = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| wrong(key, format!("holds no private key in PEM: {error}")))?;
    CertifiedKey::from_der(chain, der, provider)
        .map_err(|error| wrong(certificate, format!("does not go with its key: {error}")))
}

/// The public key of a machine, as a certificate names it.
struct NodeKey([u8; 32]);

impl PublicKeyData for NodeKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// Returns what the authority's own certificate says; the certificates that it makes repeat the name.
fn own_params(org: &str) -> CertificateParams {
    let mut params = dated(CertificateParams::default(), AUTHORITY_LASTS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = named(&format!("Stockade server of {org}"));
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

fn dated(params: CertificateParams, lasts: Duration) -> CertificateParams {
    dated_from(params, SystemTime::now(), lasts)
}

fn dated_from(
    mut params: CertificateParams,
    now: SystemTime,
    lasts: Duration,
) -> CertificateParams {
    params.not_before = (now - SKEW).into();
    params.not_after = (now + lasts).into();
    params
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
