//! Finds the end of a run of bytes of one kind, by blocks that the compiler turns into a few wide
//! instructions.

/// Bytes that are looked at together.
const BLOCK: usize = 64;

fn all(block: &[u8], is: impl Fn(u8) -> bool) -> bool {
    // No early exit, so that the loop has no branch.
    block.iter().fold(true, |all, byte| all & is(*byte))
}

/// Returns how many bytes at the beginning are of a kind.
pub(crate) fn leading(bytes: &[u8], is: impl Fn(u8) -> bool + Copy) -> usize {
    let blocks = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| all(block, is))
        .count();
    let whole = blocks * BLOCK;
    let rest = bytes.get(whole..).unwrap_or_default();
    whole + rest.iter().take_while(|byte| is(**byte)).count()
}

/// Returns how many bytes at the end are of a kind.
pub(crate) fn trailing(bytes: &[u8], is: impl Fn(u8) -> bool + Copy) -> usize {
    let blocks = bytes
        .rchunks_exact(BLOCK)
        .take_while(|block| all(block, is))
        .count();
    let whole = blocks * BLOCK;
    let rest = bytes.get(..bytes.len() - whole).unwrap_or_default();
    whole + rest.iter().rev().take_while(|byte| is(**byte)).count()
}

#[cfg(test)]
mod tests {
    use super::{leading, trailing};

    #[test]
    fn runs_end_where_the_first_and_the_last_other_byte_is() {
        let is = |byte| byte == b'x';
        for length in [0, 1, 63, 64, 65, 128, 200] {
            let run = vec![b'x'; length];
            assert_eq!((leading(&run, is), trailing(&run, is)), (length, length));
            for other in 0..length {
                let mut bytes = run.clone();
                bytes[other] = b'y';
                assert_eq!(leading(&bytes, is), other);
                assert_eq!(trailing(&bytes, is), length - 1 - other);
            }
        }
    }
}
