//! Host keys for the session (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), with names hashed as by
//! `ssh-keygen -H`: a program inside finds the key of a host that it names, but learns of no host
//! that it does not already know.

use stockade_types::{Host, Port};

use super::client::fits;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Bytes of a block and of a digest of SHA-1 (RFC 3174).
const BLOCK_BYTES: usize = 64;
const DIGEST_BYTES: usize = 20;
/// Names that are written; for a file with more, only the first ones are shown.
const NAMES_MAX: usize = 20_000;

/// Returns the entries of a text with plain names hashed. Entries with patterns do not change;
/// comments and other lines are left out.
pub(super) fn hashed(text: &str) -> String {
    let mut shown = String::new();
    let mut names = 0;
    for line in text.lines() {
        let Some(entry) = Entry::of(line) else {
            continue;
        };
        let Entry { marker, hosts, key } = entry;
        let is_plain = |name: &&str| !name.contains(['*', '?', '!']);
        let keeps = hosts.starts_with("|1|") || !hosts.split(',').all(|name| is_plain(&name));
        if keeps {
            shown.extend([marker, hosts, " ", &key, "\n"]);
            continue;
        }
        for name in hosts.split(',') {
            names += 1;
            let mut salt = [0; DIGEST_BYTES];
            if names > NAMES_MAX || getrandom::fill(&mut salt).is_err() {
                return shown;
            }
            let digest = keyed(&salt, name.to_ascii_lowercase().as_bytes());
            let (salt, digest) = (STANDARD.encode(salt), STANDARD.encode(digest));
            shown.extend([marker, "|1|", &salt, "|", &digest, " ", &key, "\n"]);
        }
    }
    shown
}

/// What the owner knows of a host's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the host's.
    Known,
    /// It is not known.
    Unknown,
    /// It is nobody's any more.
    Revoked,
}

/// The port of ssh, which entries do not name.
const PORT: u16 = 22;

/// Looks a host's key up in a text, as ssh does: under the name with the port, then without. What an
/// authority certifies is not known here.
pub(super) fn standing(text: &str, (host, port): (&Host, Port), key: &[u8]) -> Standing {
    let host = host.to_string().to_ascii_lowercase();
    let at_port = (port.get() != PORT).then(|| format!("[{host}]:{port}"));
    let names: Vec<&str> = at_port
        .iter()
        .map(String::as_str)
        .chain([host.as_str()])
        .collect();
    let mut found = Standing::Unknown;
    for entry in text.lines().filter_map(Entry::of) {
        let own = entry.key.split_once(' ').map(|(_, key)| key);
        let is_key = own.is_some_and(|own| STANDARD.decode(own).is_ok_and(|own| own == key));
        if !is_key || !names.iter().any(|name| entry.is_for(name)) {
            continue;
        }
        match entry.marker {
            "" => found = Standing::Known,
            "@revoked " => return Standing::Revoked,
            _ => {}
        }
    }
    found
}

/// One line.
struct Entry<'t> {
    /// `@revoked ` or `@cert-authority `, or nothing.
    marker: &'t str,
    hosts: &'t str,
    /// Kind and key.
    key: String,
}

impl<'t> Entry<'t> {
    /// Reads a line; `None` if ssh would not accept it, so that no other file is shown.
    fn of(line: &'t str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        let (marker, hosts) = match first {
            "@revoked" => ("@revoked ", words.next()?),
            "@cert-authority" => ("@cert-authority ", words.next()?),
            hosts => ("", hosts),
        };
        let (kind, key) = (words.next()?, words.next()?);
        let is_kind = ["ssh-", "ecdsa-", "sk-"]
            .iter()
            .any(|begin| kind.starts_with(begin));
        let bytes = STANDARD.decode(key).ok()?;
        // A key begins with its own kind, after the length.
        let named = bytes
            .get(4..)
            .is_some_and(|rest| rest.starts_with(kind.as_bytes()));
        (is_kind && named && !hosts.starts_with(['#', '@'])).then(|| Self {
            marker,
            hosts,
            key: format!("{kind} {key}"),
        })
    }

    /// Tells whether it is for a name in lowercase.
    fn is_for(&self, name: &str) -> bool {
        if let Some(hashed) = self.hosts.strip_prefix("|1|") {
            let (salt, digest) = hashed.split_once('|').unwrap_or_default();
            let salt = STANDARD
                .decode(salt)
                .ok()
                .and_then(|salt| salt.try_into().ok());
            return salt.is_some_and(|salt| {
                STANDARD
                    .decode(digest)
                    .is_ok_and(|own| own == keyed(&salt, name.as_bytes()))
            });
        }
        let out = |pattern: &str| pattern.strip_prefix('!').is_some_and(|own| fits(own, name));
        let mut patterns = self.hosts.split(',');
        patterns.clone().any(|pattern| fits(pattern, name)) && !patterns.any(out)
    }
}

/// HMAC with SHA-1 (RFC 2104), with which ssh hashes names; the salt is the key.
fn keyed(salt: &[u8; DIGEST_BYTES], text: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut key = [0; BLOCK_BYTES];
    for (place, byte) in key.iter_mut().zip(salt) {
        *place = *byte;
    }
    let inner = sha1(&[&key.map(|byte| byte ^ 0x36), text].concat());
    sha1(&[&key.map(|byte| byte ^ 0x5c)[..], &inner].concat())
}

/// SHA-1 (RFC 3174). Its only purpose here is that ssh finds a name again.
fn sha1(text: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut padded = text.to_vec();
    padded.push(0x80);
    while padded.len() % BLOCK_BYTES != BLOCK_BYTES - 8 {
        padded.push(0);
    }
    let bits = u64::try_from(text.len())
        .unwrap_or(u64::MAX)
        .wrapping_mul(8);
    padded.extend(bits.to_be_bytes());
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xEFCD_AB89,
        0x98BA_DCFE,
        0x1032_5476,
        0xC3D2_E1F0,
    ];
    for block in padded.chunks_exact(BLOCK_BYTES) {
        let mut words: Vec<u32> = block
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_be_bytes(*word))
            .collect();
        while words.len() < 80 {
            let back = |by: usize| words.get(words.len() - by).copied().unwrap_or_default();
            words.push((back(3) ^ back(8) ^ back(14) ^ back(16)).rotate_left(1));
        }
        let mut now = state;
        for (round, word) in words.into_iter().enumerate() {
            let [first, x, y, z, last] = now;
            let (mixed, constant) = match round {
                0..20 => ((x & y) | (!x & z), 0x5A82_7999_u32),
                20..40 => (x ^ y ^ z, 0x6ED9_EBA1),
                40..60 => ((x & y) | (x & z) | (y & z), 0x8F1B_BCDC),
                _ => (x ^ y ^ z, 0xCA62_C1D6),
            };
            let next = first
                .rotate_left(5)
                .wrapping_add(mixed)
                .wrapping_add(last)
                .wrapping_add(constant)
                .wrapping_add(word);
            now = [next, first, x.rotate_left(30), y, z];
        }
        for (own, new) in state.iter_mut().zip(now) {
            *own = own.wrapping_add(new);
        }
    }
    let mut digest = [0; DIGEST_BYTES];
    for (place, byte) in digest
        .iter_mut()
        .zip(state.iter().flat_map(|word| word.to_be_bytes()))
    {
        *place = byte;
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::{Standing, hashed, keyed, sha1, standing};

    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIGk1OM6aBFnIJqNUbCZnq8KX1ZHVAsrUxm6u8Yq9Nn9d";

    fn hex(bytes: &[u8]) -> String {
        let pairs = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
        pairs
            .filter_map(|half| char::from_digit(half.into(), 16))
            .collect()
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        assert_eq!(
            hex(&sha1(b"abc")),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        assert_eq!(
            hex(&sha1(
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
            )),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1"
        );
        // RFC 2202, the first test case of SHA-1.
        assert_eq!(
            hex(&keyed(&[0x0b; 20], b"Hi There")),
            "b617318655057264e28bc0b6fb378c8ef146be00"
        );
    }

    #[test]
    fn names_are_hashed_and_nothing_but_entries_is_shown() {
        let text = format!(
            "# a remark about secret.test\nGit.test,[other.test]:2222 ssh-ed25519 {KEY} me@secret.test\n\
             *.corp.test ssh-ed25519 {KEY}\n@revoked bad.test ssh-ed25519 {KEY}\n\
             |1|c2FsdA==|aGFzaA== ssh-ed25519 {KEY}\n\
             -----BEGIN OPENSSH PRIVATE KEY-----\nexport TOKEN=secret value\na ssh-ed25519 c2VjcmV0\n"
        );
        let shown = hashed(&text);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 5, "{shown}");
        assert!(
            lines[0].starts_with("|1|") && lines[1].starts_with("|1|"),
            "{shown}"
        );
        assert!(lines[2].starts_with("*.corp.test ") && lines[3].starts_with("@revoked |1|"));
        assert!(lines[4].starts_with("|1|c2FsdA==|aGFzaA== "));
        for word in ["secret", "git.test", "other.test", "PRIVATE", "me@"] {
            assert!(!shown.contains(word), "{word}: {shown}");
        }
    }

    #[test]
    fn keys_are_looked_up_as_ssh_does() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};

        let key = STANDARD.decode(KEY).unwrap();
        let look = |text: &str, host: &str, port: u16, key: &[u8]| {
            let port = stockade_types::Port::new(port).unwrap();
            standing(text, (&host.parse().unwrap(), port), key)
        };
        let entry = |hosts: &str| format!("{hosts} ssh-ed25519 {KEY}\n");
        for (hosts, host, port, expected) in [
            ("git.test", "git.test", 22, Standing::Known),
            ("GIT.test,b.test", "git.test", 22, Standing::Known),
            ("git.test", "evil.test", 22, Standing::Unknown),
            ("git.test", "a.git.test", 22, Standing::Unknown),
            ("*.test", "git.test", 22, Standing::Known),
            ("*.test,!git.test", "git.test", 22, Standing::Unknown),
            ("[git.test]:2222", "git.test", 2222, Standing::Known),
            ("[git.test]:2222", "git.test", 22, Standing::Unknown),
            ("git.test", "git.test", 2222, Standing::Known),
            ("@revoked git.test", "git.test", 22, Standing::Revoked),
            (
                "@cert-authority git.test",
                "git.test",
                22,
                Standing::Unknown,
            ),
        ] {
            let plain = entry(hosts);
            for text in [&plain, &hashed(&plain)] {
                assert_eq!(
                    look(text, host, port, &key),
                    expected,
                    "{text} {host}:{port}"
                );
            }
        }
        // What is revoked is so wherever it stands, and another key is not known.
        let both = entry("git.test") + &entry("@revoked *");
        assert_eq!(look(&both, "git.test", 22, &key), Standing::Revoked);
        let text = entry("git.test");
        assert_eq!(look(&text, "git.test", 22, b"key"), Standing::Unknown);
        assert_eq!(look("", "git.test", 22, &key), Standing::Unknown);
    }

    #[test]
    fn fuzz_known_hosts() {
        let target = stockade_fuzz::Target {
            name: "known-hosts",
            samples: vec![
                b"good.test,192.0.2.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHhYZmx0\n# remark\n*.test ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHhYZmx0\n".to_vec(),
                b"@revoked [good.test]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHhYZmx0 who\n".to_vec(),
                b"|1|c2FsdHNhbHRzYWx0c2FsdHNhbA==|ZGlnZXN0ZGlnZXN0ZGlnZXN0ZGk= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHhYZmx0\n".to_vec(),
            ],
            words: &[b"@cert-authority ", b"|1|", b",", b"!", b"\n", b" ssh-rsa ", b"AAAA", b"#"],
            tries: stockade_fuzz::TRIES,
        };
        stockade_fuzz::target(&target, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let shown = hashed(&text);
            // Entries that are hashed or have patterns do not change: no name is hashed twice.
            assert_eq!(hashed(&shown), shown);
        });
    }
}
