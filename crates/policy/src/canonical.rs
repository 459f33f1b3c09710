//! Hashes over lists of fields.

use sha2::{Digest as _, Sha256};
use stockade_types::{Digest, Host, Port, RawText};

/// A hash over fields with their lengths, so that no two different lists of fields collide.
pub(crate) struct Canonical(Sha256);

impl Canonical {
    pub(crate) fn new(domain: &[u8]) -> Self {
        let mut hash = Self(Sha256::new());
        hash.field(domain);
        hash
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len());
        self.0.update(bytes);
        self
    }

    pub(crate) fn number(&mut self, number: usize) -> &mut Self {
        // `usize` is at most 64 bits wide on every target, so nothing is lost.
        self.0
            .update(u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes());
        self
    }

    pub(crate) fn endpoint(&mut self, host: &Host, port: Port) -> &mut Self {
        self.field(host.to_string().as_bytes())
            .field(&port.get().to_be_bytes())
    }

    pub(crate) fn content(&mut self, path: &RawText, digest: Option<&Digest>) -> &mut Self {
        let digest: &[u8] = digest.map_or(&[], |digest| digest.as_bytes());
        self.field(path.as_bytes()).field(digest)
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}
