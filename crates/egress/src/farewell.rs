//! What a client of a protocol that is not HTTP is told of a refusal, in its own protocol.

use crate::{
    limits::SENTENCE_BYTES_MAX,
    pkt_line::{DIGITS, pkt_line},
};

/// What every SSH client begins with (RFC 4253 section 4.2).
const SSH: &[u8] = b"SSH-";
/// Our own first line.
const SSH_VERSION: &[u8] = b"SSH-2.0-Stockade\r\n";
const SSH_MSG_DISCONNECT: u8 = 1;
const SSH_NOT_ALLOWED_TO_CONNECT: u32 = 1;
/// The parts of a packet together have a length that is a multiple of this, with so much padding at
/// least (RFC 4253 section 6).
const SSH_BLOCK: usize = 8;
const SSH_PADDING_MIN: usize = 4;

/// Returns what ends a connection whose client began with `head`; `None` if its protocol has no words
/// for a refusal, or is not known.
pub(crate) fn farewell(head: &[u8], sentence: &str) -> Option<Vec<u8>> {
    let cut = sentence.floor_char_boundary(SENTENCE_BYTES_MAX);
    let sentence = sentence.get(..cut).unwrap_or_default();
    if head.starts_with(SSH) {
        return ssh(sentence);
    }
    is_git(head).then(|| pkt_line(format!("ERR {sentence}").as_bytes()))
}

/// Tells whether a client asks a git daemon for a service (gitprotocol-pack(5)).
fn is_git(head: &[u8]) -> bool {
    let Some((digits, rest)) = head.split_at_checked(DIGITS) else {
        return false;
    };
    digits.iter().all(u8::is_ascii_hexdigit)
        && [&b"git-upload-"[..], b"git-receive-pack "]
            .iter()
            .any(|service| rest.starts_with(service))
}

/// Makes the first line of an SSH server, and its last message (RFC 4253 section 11.1).
fn ssh(sentence: &str) -> Option<Vec<u8>> {
    let mut payload = vec![SSH_MSG_DISCONNECT];
    payload.extend(SSH_NOT_ALLOWED_TO_CONNECT.to_be_bytes());
    payload.extend(u32::try_from(sentence.len()).ok()?.to_be_bytes());
    payload.extend(sentence.as_bytes());
    // The language, which is not told.
    payload.extend(0_u32.to_be_bytes());
    let bare = 5 + payload.len() + SSH_PADDING_MIN;
    let padding = SSH_PADDING_MIN + (bare.next_multiple_of(SSH_BLOCK) - bare);
    let mut bytes = SSH_VERSION.to_vec();
    bytes.extend(
        u32::try_from(1 + payload.len() + padding)
            .ok()?
            .to_be_bytes(),
    );
    bytes.push(u8::try_from(padding).ok()?);
    bytes.extend(payload);
    bytes.resize(bytes.len() + padding, 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{SENTENCE_BYTES_MAX, SSH_VERSION, farewell};

    #[test]
    fn each_protocol_has_its_own_words() {
        let git = farewell(b"0031git-upload-pack /p\0host=good.test\0", "no rule");
        assert_eq!(git.as_deref(), Some(&b"000fERR no rule"[..]));
        for other in [
            &b"0031git"[..],
            b"00",
            b"",
            b"zzzzgit-upload-pack ",
            b"PING",
        ] {
            assert_eq!(farewell(other, "no rule"), None);
        }
    }

    #[test]
    fn a_packet_of_ssh_has_the_lengths_that_it_says() {
        for length in [0, 1, 7, 8, 9, 100, SENTENCE_BYTES_MAX, 5000] {
            let said = farewell(b"SSH-2.0-OpenSSH_9.2\r\n", &"x".repeat(length)).unwrap();
            let packet = said.strip_prefix(SSH_VERSION).unwrap();
            let (stated, rest) = packet.split_first_chunk::<4>().unwrap();
            assert_eq!(u32::from_be_bytes(*stated) as usize, rest.len());
            assert_eq!(packet.len() % 8, 0, "{length}");
            assert!(rest[0] >= 4, "{length}");
            let text = length.min(SENTENCE_BYTES_MAX);
            assert_eq!(rest.len(), 1 + 13 + text + usize::from(rest[0]));
        }
    }
}
