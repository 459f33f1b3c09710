//! Changes of inputs: small faults, lengths that lie, parts that come twice or are missing.

/// An input is never made longer than this: readers bound what they take, and long inputs only make
/// a try slower.
const INPUT_BYTES_MAX: usize = 1 << 14;
/// Changes made one after the other to one input.
const CHANGES_MAX: usize = 8;
/// Bytes at which readers decide: ends of ranges, separators, quotes, escapes.
const TELLING: &[u8] = &[
    0, 1, 0x7f, 0x80, 0xc0, 0xff, b'\n', b'\r', b' ', b'\t', b'"', b'\\', b'/', b':', b';', b',',
    b'=', b'[', b']', b'{', b'}', b'#', b'%', b'+', b'-', b'.', b'0', b'9', b'A', b'z', 0x1b, 0x9b,
];

/// Random numbers from a seed (xorshift64*, Vigna 2016): the same seed gives the same inputs.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts with a seed; zero would stay zero for ever.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `bound`; zero if there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let Some(bound) = u64::try_from(bound).ok().filter(|bound| *bound > 0) else {
            return 0;
        };
        usize::try_from((self.next() >> 16) % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

/// Returns a changed copy of one of `inputs`, with parts of others and words of `words`.
pub(crate) fn changed(inputs: &[Vec<u8>], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(inputs).cloned().unwrap_or_default();
    for _ in 0..=random.below(CHANGES_MAX) {
        change(&mut input, inputs, words, random);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(10) {
        0 => set(
            input,
            at,
            |byte, random| byte ^ (1 << random.below(8)),
            random,
        ),
        1 => set(input, at, |_, random| random.byte(), random),
        2 => set(
            input,
            at,
            |_, random| random.pick(TELLING).copied().unwrap_or(0),
            random,
        ),
        3 => lie_about_a_length(input, at, random),
        4 => {
            let byte = random.pick(TELLING).copied().unwrap_or(0);
            // Readers bound how often something may come: so it comes often.
            let most = if random.below(8) == 0 { 600 } else { 4 };
            let times = 1 + random.below(most);
            insert(input, at, &vec![byte; times]);
        }
        5 => {
            let word = random.pick(words).copied().unwrap_or_default();
            insert(input, at, word);
        }
        6 => {
            let end = at + random.below(input.len() - at + 1);
            input.drain(at..end);
        }
        7 => {
            let part = part_of(input, random);
            insert(input, at, &part);
        }
        8 => {
            let part = random.pick(inputs).map(|other| part_of(other, random));
            insert(input, at, &part.unwrap_or_default());
        }
        _ => input.truncate(at),
    }
}

fn set(input: &mut [u8], at: usize, value: impl Fn(u8, &mut Random) -> u8, random: &mut Random) {
    if let Some(byte) = input.get_mut(at) {
        *byte = value(*byte, random);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    if input.len() < INPUT_BYTES_MAX {
        drop(input.splice(at..at, part.iter().copied()));
    }
}

fn part_of(input: &[u8], random: &mut Random) -> Vec<u8> {
    let start = random.below(input.len() + 1);
    let length = random.below(input.len() - start + 1);
    input.iter().skip(start).take(length).copied().collect()
}

/// Writes a number of two or four bytes, or one in decimal digits, as lengths and counts are.
fn lie_about_a_length(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let near = input.len() + random.below(5);
    let number = match random.below(6) {
        0 => 0,
        1 => near.saturating_sub(4),
        2 => 0xffff,
        3 => usize::try_from(u32::MAX).unwrap_or(usize::MAX),
        4 => usize::MAX,
        _ => random.below(1 << 17),
    };
    let bytes = number.to_be_bytes();
    match random.below(3) {
        0 => overwrite(input, at, bytes.get(6..).unwrap_or_default()),
        1 => overwrite(input, at, bytes.get(4..).unwrap_or_default()),
        _ => insert(input, at, number.to_string().as_bytes()),
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in input.iter_mut().skip(at).zip(bytes) {
        *old = *new;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_inputs_and_they_differ() {
        let inputs = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), b"second".to_vec()];
        let made = |seed| -> Vec<Vec<u8>> {
            let mut random = Random::new(seed);
            (0..1_000)
                .map(|_| changed(&inputs, &[b"word"], &mut random))
                .collect()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        let kinds: BTreeSet<Vec<u8>> = made(3).into_iter().collect();
        assert!(kinds.len() > 800, "{}", kinds.len());
        assert!(kinds.iter().all(|input| input.len() <= INPUT_BYTES_MAX));
        assert!(
            kinds
                .iter()
                .any(|input| input.windows(4).any(|part| part == b"word"))
        );
    }

    #[test]
    fn nothing_to_change_is_changed_too() {
        let mut random = Random::new(7);
        let made: Vec<_> = (0..200).map(|_| changed(&[], &[], &mut random)).collect();
        assert!(made.iter().any(|input| !input.is_empty()));
    }
}
