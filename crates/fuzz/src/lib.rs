//! Changed inputs for every reader of bytes from outside.
//!
//! A target is an ordinary test that calls [`target`] with samples of good inputs and a function
//! that reads one. In an ordinary run it replays the samples and the files of the corpus, and tries
//! some thousand changed ones from a fixed seed. `cargo xtask fuzz` lets it go on for minutes from
//! a fresh seed; an input that fails is kept as a file of the corpus, `fuzz/TARGET` of the crate,
//! so that the ordinary tests replay it from then on.
//!
//! Nothing measures which code an input reaches: what finds faults is the choice of samples.
#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "part of tests only: a finding ends the test")]

mod mutate;

use std::{
    any::Any,
    env, fs,
    hash::{DefaultHasher, Hasher as _},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::mutate::{Random, changed};

/// How long each target goes on, in seconds; without it a fixed number of inputs is tried.
pub const SECONDS: &str = "STOCKADE_FUZZ_SECONDS";
/// The seed of the changes.
pub const SEED: &str = "STOCKADE_FUZZ_SEED";

/// Inputs in an ordinary run: some tenths of a second in a debug build.
pub const TRIES: usize = 1_500;
/// One input that takes longer keeps others of the session waiting. It is far longer than any takes,
/// even if the machine is busy.
const SLOW: Duration = Duration::from_secs(5);

/// What a target is made of.
pub struct Target<'a> {
    /// Its name, which is its folder below `fuzz` too.
    pub name: &'a str,
    /// Inputs as they should be: changes start from them.
    pub samples: Vec<Vec<u8>>,
    /// Words of the language of the input, for changes.
    pub words: &'a [&'a [u8]],
    /// Changed inputs in an ordinary run: [`TRIES`], or fewer where a single one takes long.
    pub tries: usize,
}

/// Tries a reader with the samples of a target, its corpus, and changes of both.
///
/// `read` gets one input and fails by panicking: it checks what must be true of what it has read.
///
/// # Panics
///
/// For the first input with which `read` panics or takes too long; the message names its file.
pub fn target(target: &Target<'_>, read: impl Fn(&[u8])) {
    let folder = folder(target.name);
    let mut inputs = target.samples.clone();
    inputs.extend(corpus(&folder));
    for input in &inputs {
        attempt(&folder, None, input, &read);
    }
    let number = |name: &str| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = number(SEED).unwrap_or(1);
    let mut random = Random::new(seed);
    let end = number(SECONDS).map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut tries = 0_usize;
    while end.map_or(tries < target.tries, |end| Instant::now() < end) {
        let input = changed(&inputs, target.words, &mut random);
        attempt(&folder, Some(seed), &input, &read);
        tries += 1;
    }
    report(target.name, seed, tries);
}

#[expect(
    clippy::print_stdout,
    reason = "the runner shows what a target says of itself"
)]
fn report(name: &str, seed: u64, tries: usize) {
    println!("fuzz: {name}: {tries} inputs, seed {seed}");
}

/// Reads one input; keeps it and ends the test if that fails.
fn attempt(folder: &Path, seed: Option<u64>, input: &[u8], read: &impl Fn(&[u8])) {
    let start = Instant::now();
    let failed = match catch_unwind(AssertUnwindSafe(|| read(input))) {
        Ok(()) if start.elapsed() < SLOW => return,
        Ok(()) => format!("took {:?}", start.elapsed()),
        Err(payload) => message(payload.as_ref()),
    };
    let shown = String::from_utf8_lossy(input);
    let Some(seed) = seed else {
        panic!(
            "{failed}\nwith a sample or a file of `{}`: {shown:?}",
            folder.display()
        );
    };
    let kept = keep(folder, input).map_or_else(
        |error| format!("could not be kept: {error}"),
        |file| format!("kept as `{}`", file.display()),
    );
    panic!("{failed}\nseed {seed}, {kept}: {shown:?}");
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a text").to_owned()
}

/// Returns the folder of a target in the crate whose tests run.
fn folder(name: &str) -> PathBuf {
    let crate_folder = env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    crate_folder.join("fuzz").join(name)
}

/// Reads the files of a corpus; a target that has found nothing has none.
fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("`{}`: {error}", folder.display()),
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()));
    // The order of a folder differs between machines, and changes depend on it.
    files.sort();
    let read = |file: &PathBuf| {
        fs::read(file).unwrap_or_else(|error| panic!("`{}`: {error}", file.display()))
    };
    files.iter().map(read).collect()
}

fn keep(folder: &Path, input: &[u8]) -> io::Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    hash.write(input);
    let file = folder.join(format!("{:016x}", hash.finish()));
    fs::create_dir_all(folder)?;
    fs::write(&file, input)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_fails_is_found_and_what_it_failed_with_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("target");
        assert!(corpus(&folder).is_empty());
        let read = |input: &[u8]| assert!(!input.contains(&0xff), "no such byte");
        attempt(&folder, Some(3), b"good", &read);
        let found = |seed, input: &[u8]| {
            let ended = catch_unwind(AssertUnwindSafe(|| attempt(&folder, seed, input, &read)));
            message(ended.unwrap_err().as_ref())
        };
        let text = found(Some(3), b"a\xffb");
        assert!(
            text.starts_with("no such byte\nseed 3, kept as `"),
            "{text}"
        );
        assert_eq!(corpus(&folder), [b"a\xffb".to_vec()]);
        // What was kept is replayed, and not kept again.
        assert!(found(None, b"a\xffb").contains("a file of"), "{text}");
        assert_eq!(corpus(&folder).len(), 1);
    }

    #[test]
    fn changes_reach_a_reader_that_checks_a_length() {
        let mut random = Random::new(1);
        let sample = vec![[&[0_u8, 4][..], b"text"].concat()];
        let lies = (0..TRIES).filter(|_| {
            let input = changed(&sample, &[], &mut random);
            let Some((length, rest)) = input.split_first_chunk::<2>() else {
                return false;
            };
            usize::from(u16::from_be_bytes(*length)) > rest.len()
        });
        assert!(lies.count() > 20);
    }
}
