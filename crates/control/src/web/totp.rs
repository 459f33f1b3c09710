//! One-time codes of RFC 6238 (SHA-1, 30 seconds, six digits), as every authenticator app makes them.

use ring::hmac;

/// Seconds for which one code is valid.
const STEP_S: u64 = 30;
/// Steps before and after now that are accepted, because clocks differ.
const SLACK: u64 = 1;
/// Bytes of the secret (RFC 4226 recommends 160 bits).
pub(crate) const SECRET_BYTES: usize = 20;

/// Returns the step of an accepted code. The caller keeps it and refuses a step that is not newer than the
/// last one, so that no code counts twice.
pub(crate) fn check(secret: &[u8], code: &str, now_s: u64) -> Option<u64> {
    let is_code = code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit());
    let given = is_code.then(|| code.parse::<u32>().ok()).flatten()?;
    let step = now_s / STEP_S;
    let steps = step.saturating_sub(SLACK)..=step.saturating_add(SLACK);
    // All are computed, so that the time does not tell which one fits.
    let fits = steps.filter(|step| code_of(secret, *step) == given);
    fits.max()
}

/// Returns the code of a step.
pub(super) fn code_of(secret: &[u8], step: u64) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
    let bytes = tag
        .get(offset..offset.saturating_add(4))
        .and_then(|bytes| <[u8; 4]>::try_from(bytes).ok())
        .unwrap_or_default();
    (u32::from_be_bytes(bytes) & 0x7fff_ffff) % 1_000_000
}

/// Writes a secret as people type it into an app (RFC 4648, base32 without padding).
pub(crate) fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            let digit = usize::try_from(held >> bits & 31).unwrap_or_default();
            text.extend(DIGITS.get(digit).copied().map(char::from));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        let digit = usize::try_from(held << (5 - bits) & 31).unwrap_or_default();
        text.extend(DIGITS.get(digit).copied().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{base32, check, code_of};

    /// The vectors of RFC 6238, appendix B, with six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (time, code) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_234_567_890, 5_924),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(code_of(secret, time / 30), code, "{time}");
            assert_eq!(check(secret, &format!("{code:06}"), time), Some(time / 30));
        }
        assert_eq!(check(secret, "287082", 59 + 30), Some(1));
        assert_eq!(check(secret, "287082", 59 + 60), None);
        for wrong in ["", "28708", "2870820", "28708a", "+28708", "２８７０８２"] {
            assert_eq!(check(secret, wrong, 59), None, "{wrong}");
        }
    }

    /// The vectors of RFC 4648, section 10.
    #[test]
    fn secrets_are_written_in_base32() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
