//! What programs inside have in the place of a value: drawn at random, and of a shape that clients take
//! for one of theirs.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use stockade_types::Digest;

/// How keys of known services begin; the longest that fits is kept.
const PREFIXES: [&str; 28] = [
    "sk-ant-api03-",
    "sk-ant-admin01-",
    "sk-ant-oat01-",
    "sk-ant-ort01-",
    "sk-ant-",
    "sk-proj-",
    "sk-svcacct-",
    "sk-or-v1-",
    "sk-",
    "gsk_",
    "xai-",
    "AIza",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "hf_",
    "npm_",
    "pypi-",
    "xoxb-",
    "xoxp-",
    "sntrys_",
    "dop_v1_",
    "rt_",
    "eyJ",
];
/// Values from this length on are taken for keys of a program, whose length and punctuation say
/// nothing of what they are. Others may be passwords, of which nothing is told.
const KEY_BYTES_MIN: usize = 32;
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Letters of the id of an access key of AWS, and how many follow its beginning.
const ACCESS_KEY_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ACCESS_KEY_DRAWN: usize = 16;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The file in the state directory that placeholders are drawn from.
const SEED_FILE: &str = "placeholders";
const SEED_BYTES: usize = 32;

/// What placeholders are drawn from. It stays on this machine and outside, so that a credential has the
/// same placeholder in every session: some clients ask a person once about each key that they see.
pub(super) struct Seed([u8; SEED_BYTES]);

impl Seed {
    /// Opens the one of a state directory; the first session makes it.
    ///
    /// # Errors
    /// When it cannot be read or made, or is not one.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(SEED_FILE);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path)?,
            other => return Self::read(&other?),
        }
        // Another session may have been first; its file counts.
        Self::read(&fs::read(&path)?)
    }

    fn read(bytes: &[u8]) -> io::Result<Self> {
        let seed = bytes.try_into().map_err(|_| {
            let text = format!("it has {} bytes and should have {SEED_BYTES}", bytes.len());
            io::Error::new(io::ErrorKind::InvalidData, text)
        });
        seed.map(Self)
    }

    /// Makes the placeholder of the credential that `label` names; of a login (`user:password`) the
    /// user stays.
    pub(super) fn placeholder(&self, label: &str, value: &str, is_login: bool) -> String {
        let (kept, secret) = match value.split_once(':').filter(|_| is_login) {
            Some((user, password)) => (format!("{user}:"), password),
            None => (String::new(), value),
        };
        let prefix = prefix(secret);
        let rest = secret.get(prefix.len()..).unwrap_or_default();
        let is_key = rest.len() >= KEY_BYTES_MIN;
        let is_hex = is_key && rest.bytes().all(|b| HEX.contains(&b));
        let letters: &[u8] = if is_hex { HEX } else { LETTERS };
        let shape = if is_key {
            rest.to_owned()
        } else {
            "x".repeat(KEY_BYTES_MIN)
        };
        let drawn = self.letters(label, letters);
        let text = shape.bytes().zip(drawn).map(|(byte, drawn)| match byte {
            b'-' | b'_' | b'.' => char::from(byte),
            _ => drawn,
        });
        kept + prefix + &text.collect::<String>()
    }

    /// Makes the placeholder of the secret part of a token. Other tokens of the same length have the same
    /// one, so that it stays when the token is renewed.
    pub(super) fn token(&self, label: &str, secret: &str) -> String {
        let prefix = prefix(secret);
        let length = secret.len().max(KEY_BYTES_MIN + prefix.len()) - prefix.len();
        let drawn = self.letters(label, LETTERS).take(length);
        prefix.chars().chain(drawn).collect()
    }

    /// Makes the placeholder of an access key of AWS, in the form of its id.
    pub(super) fn access_key(&self, label: &str) -> String {
        let drawn = self.letters(label, ACCESS_KEY_LETTERS);
        "AKIA".chars().chain(drawn.take(ACCESS_KEY_DRAWN)).collect()
    }

    /// Draws letters without end, each as likely as the others.
    fn letters<'a>(&'a self, label: &'a str, letters: &'a [u8]) -> impl Iterator<Item = char> + 'a {
        (0_u64..).flat_map(move |number| {
            let block = [&self.0[..], label.as_bytes(), &number.to_be_bytes()].concat();
            let block = *Digest::of(&block).as_bytes();
            // Two bytes for a letter: the few numbers that some letters have more than others cannot
            // be told.
            let pairs = block
                .into_iter()
                .step_by(2)
                .zip(block.into_iter().skip(1).step_by(2));
            pairs.map(move |(high, low)| {
                let at = usize::from(u16::from_be_bytes([high, low])) % letters.len().max(1);
                letters.get(at).copied().map_or('x', char::from)
            })
        })
    }
}

/// Returns how a key of a known service begins.
fn prefix(secret: &str) -> &'static str {
    let fits = PREFIXES.iter().filter(|prefix| secret.starts_with(*prefix));
    fits.max_by_key(|prefix| prefix.len())
        .copied()
        .unwrap_or_default()
}

/// Makes the file whole, or leaves the one that is there.
fn make(path: &Path) -> io::Result<()> {
    let mut seed = [0; SEED_BYTES + size_of::<u64>()];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    let (seed, own) = seed.split_at(SEED_BYTES);
    let own = Digest::of(own).short();
    let new = path.with_extension(own);
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let made = file
        .write_all(seed)
        .and_then(|()| fs::hard_link(&new, path));
    fs::remove_file(&new)?;
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn placeholders_have_the_shape_of_keys_and_nothing_of_passwords() {
        for (value, start, length) in [
            (
                "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789-_AB",
                "sk-ant-api03-",
                53,
            ),
            ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_", 40),
            ("AIzaSyA-abcdefghijklmnopqrstuvwxyz01234", "AIza", 39),
            ("hunter2!", "", 32),
            ("lab:hunter2!", "lab:", 36),
            ("0123456789abcdef0123456789abcdef", "", 32),
        ] {
            let is_login = value.starts_with("lab:");
            let (seed, other) = (Seed([7; 32]), Seed([8; 32]));
            let one = seed.placeholder("svc", value, is_login);
            assert_eq!(one, seed.placeholder("svc", value, is_login));
            let two = seed.placeholder("other", value, is_login);
            assert_ne!(two, other.placeholder("other", value, is_login));
            assert!(one.starts_with(start), "{one}");
            assert_eq!(one.len(), length, "{one}");
            assert_ne!(one, two);
            assert!(!one.contains("hunter2"), "{one}");
        }
        let hex = Seed([7; 32]).placeholder("svc", "0123456789abcdef0123456789abcdef", false);
        assert!(hex.bytes().all(|b| b.is_ascii_hexdigit()), "{hex}");
    }

    #[test]
    fn the_seed_is_made_once_and_is_the_owners() {
        use std::os::unix::fs::MetadataExt as _;
        let state = tempfile::tempdir().unwrap();
        let seeds: Vec<_> = (0..2)
            .map(|_| Seed::open(state.path()).unwrap().0)
            .collect();
        assert_eq!(seeds.first(), seeds.last());
        let entries: Vec<_> = std::fs::read_dir(state.path()).unwrap().collect();
        assert_eq!(entries.len(), 1);
        let path = state.path().join(super::SEED_FILE);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(Seed::open(state.path()).is_err());
    }
}
