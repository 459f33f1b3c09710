//! A key store of Java (JKS) with the authorities that programs trust: virtual machines read nothing
//! else.
//!
//! All numbers are big-endian. The form is that of `sun.security.provider.JavaKeyStore` in `OpenJDK`:
//! magic, version, number of entries; per entry its kind, name, date and certificate; then a SHA-1 of
//! the password, a fixed text and all that is before. The store is no secret: its password is the one
//! that every such store has.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
/// The kind of an entry that is a certificate without a key.
const TRUSTED: u32 = 2;
const KIND: &str = "X.509";
/// The password that the stores of Java come with.
const PASSWORD: &str = "changeit";
/// What the digest of each store begins with, after the password.
const WHITENER: &[u8] = b"Mighty Aphrodite";

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Writes the certificates of `pem`, one after the other. What cannot be read is left out, as it is by
/// every client.
pub(crate) fn write(pem: &str) -> Vec<u8> {
    let certificates: Vec<Vec<u8>> = certificates(pem).collect();
    let mut store = Vec::new();
    number(&mut store, MAGIC);
    number(&mut store, VERSION);
    number(&mut store, length(certificates.len()));
    for (place, certificate) in certificates.iter().enumerate() {
        number(&mut store, TRUSTED);
        text(&mut store, &format!("a{place}"));
        // When it was added, in milliseconds; nothing depends on it.
        store.extend([0; 8]);
        text(&mut store, KIND);
        number(&mut store, length(certificate.len()));
        store.extend(certificate);
    }
    let mut digest = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        digest.update(unit.to_be_bytes());
    }
    digest.update(WHITENER);
    digest.update(&store);
    store.extend(digest.finalize());
    store
}

/// Finds the certificates in PEM, in DER.
fn certificates(pem: &str) -> impl Iterator<Item = Vec<u8>> {
    pem.split(BEGIN).skip(1).filter_map(|rest| {
        let (body, _) = rest.split_once(END)?;
        let body: String = body.split_ascii_whitespace().collect();
        STANDARD.decode(body).ok()
    })
}

fn number(to: &mut Vec<u8>, number: u32) {
    to.extend(number.to_be_bytes());
}

/// Writes a name, which is ASCII and short.
fn text(to: &mut Vec<u8>, text: &str) {
    to.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend(text.as_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::write;

    /// The form, byte by byte; that Java reads it is seen with Java.
    #[test]
    fn each_certificate_is_an_entry() {
        let pem = "x\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n# y\n\
                   -----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        let store = write(pem);
        let (body, digest) = store.split_at(store.len() - 20);
        let expected = b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\x02a0\0\0\0\0\0\0\0\0\0\x05X.509\0\0\0\x03\x01\x02\x03";
        assert_eq!(body, expected);
        assert!(digest.iter().any(|byte| *byte != 0));
    }
}
