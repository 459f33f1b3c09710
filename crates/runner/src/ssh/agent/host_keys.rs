//! Signatures of hosts (RFC 4253 section 6.6, RFC 5656, RFC 8332, RFC 8709).

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use super::frames::Values;

/// Tells whether a host signed `data` with its key. Keys of other kinds than Ed25519, ECDSA on P-256 and
/// P-384, and RSA from 2048 bits with SHA-2, and certificates, are not known.
pub(super) fn is_signed(key: &[u8], data: &[u8], signature: &[u8]) -> bool {
    check(key, data, signature).is_some()
}

fn check(key: &[u8], data: &[u8], signature: &[u8]) -> Option<()> {
    let (mut key, mut signature) = (Values(key), Values(signature));
    let (kind, algorithm, blob) = (key.string()?, signature.string()?, signature.string()?);
    let blob = signature.whole(blob)?;
    match (kind, algorithm) {
        (b"ssh-ed25519", b"ssh-ed25519") => {
            let point = key.string()?;
            by(&ED25519, key.whole(point)?, data, blob)
        }
        (b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp256") => {
            let fixed = fixed(blob, 32)?;
            by(
                &ECDSA_P256_SHA256_FIXED,
                point(key, b"nistp256")?,
                data,
                &fixed,
            )
        }
        (b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp384") => {
            let fixed = fixed(blob, 48)?;
            by(
                &ECDSA_P384_SHA384_FIXED,
                point(key, b"nistp384")?,
                data,
                &fixed,
            )
        }
        (b"ssh-rsa", b"rsa-sha2-256") => {
            let public = rsa(key)?;
            public.verify(&RSA_PKCS1_2048_8192_SHA256, data, blob).ok()
        }
        (b"ssh-rsa", b"rsa-sha2-512") => {
            let public = rsa(key)?;
            public.verify(&RSA_PKCS1_2048_8192_SHA512, data, blob).ok()
        }
        _ => None,
    }
}

fn by(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    data: &[u8],
    signature: &[u8],
) -> Option<()> {
    let key = UnparsedPublicKey::new(algorithm, key);
    key.verify(data, signature).ok()
}

/// Reads the point of a key on a curve.
fn point<'a>(mut key: Values<'a>, curve: &[u8]) -> Option<&'a [u8]> {
    let own = key.string()?;
    let point = key.string()?;
    key.whole(point).filter(|_| own == curve)
}

/// Reads a number without the zeros before it; none is negative.
fn positive<'a>(values: &mut Values<'a>) -> Option<&'a [u8]> {
    let number = values.string()?;
    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
        return None;
    }
    let start = number.iter().position(|byte| *byte != 0)?;
    number.get(start..)
}

/// Makes the two numbers of a signature as long as the curve's.
fn fixed(blob: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut values = Values(blob);
    let (r, s) = (positive(&mut values)?, positive(&mut values)?);
    let mut fixed = Vec::with_capacity(2 * bytes);
    for number in values.whole([r, s])? {
        fixed.resize(fixed.len() + bytes.checked_sub(number.len())?, 0);
        fixed.extend(number);
    }
    Some(fixed)
}

fn rsa(mut key: Values<'_>) -> Option<RsaPublicKeyComponents<&[u8]>> {
    let (e, n) = (positive(&mut key)?, positive(&mut key)?);
    key.whole(RsaPublicKeyComponents { n, e })
}
