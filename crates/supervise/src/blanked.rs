//! Arguments that a program overwrote in its own memory so that nobody reads a secret there.
//!
//! The kernel shows the arguments of a process as they are in its memory now. curl writes over the
//! password of `-u` as soon as it has read it, which can be before the post-exec verification. So a word
//! counts as the judged one if a filler is in the place of all of it, or of all of the value of an
//! option. Nothing moves: each word keeps its place and its length.

use stockade_types::RawText;

use crate::procfs;

/// What programs write over secrets: curl spaces or stars, clients of MySQL `x`, sshpass `z`.
const FILLERS: [u8; 4] = [b' ', b'*', b'x', b'z'];

/// Compares the bytes of `/proc/PID/cmdline` with the judged arguments; at least one is overwritten.
///
/// If the kernel puts an interpreter before the arguments, only their end is compared.
pub(crate) fn are_blanked(read: &[u8], judged: &[RawText], is_script: bool) -> bool {
    let whole: usize = judged.iter().map(|word| word.as_bytes().len() + 1).sum();
    let is_cut = read.len() >= procfs::COMMAND_LINE_BYTES_MAX;
    let start = match read.len().checked_sub(whole) {
        Some(0) => 0,
        Some(before) if is_script && read.get(before - 1) == Some(&0) => before,
        None if is_cut && !is_script => 0,
        _ => return false,
    };
    let mut rest = read.get(start..).unwrap_or_default();
    for word in judged {
        let word = word.as_bytes();
        let (now, after) = rest.split_at(word.len().min(rest.len()));
        if !is_blanked(now, word.get(..now.len()).unwrap_or_default()) {
            return false;
        }
        rest = match after.split_first() {
            Some((0, after)) => after,
            Some(_) => return false,
            // What lies behind was not read.
            None => break,
        };
    }
    true
}

/// Tells whether a word is the judged one, as it was or overwritten.
fn is_blanked(now: &[u8], judged: &[u8]) -> bool {
    if now == judged {
        return true;
    }
    // An option without its value stays: it can be what makes a command harmless.
    let kept = match judged {
        [b'-', b'-', ..] => match judged.iter().position(|byte| *byte == b'=') {
            Some(at) => at + 1,
            None => return false,
        },
        [b'-', _, _, ..] => 2,
        [b'-', ..] => return false,
        _ => 0,
    };
    let (Some((name, value)), true) = (now.split_at_checked(kept), now.len() == judged.len())
    else {
        return false;
    };
    judged.starts_with(name) && is_filler(value)
}

fn is_filler(value: &[u8]) -> bool {
    let Some(first) = value.first().filter(|first| FILLERS.contains(first)) else {
        return false;
    };
    value.iter().all(|byte| byte == first)
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use super::are_blanked;
    use crate::procfs::COMMAND_LINE_BYTES_MAX;

    fn compare(read: &str, judged: &[&str], is_script: bool) -> bool {
        let judged: Vec<RawText> = judged.iter().map(|word| (*word).into()).collect();
        are_blanked(read.replace('|', "\0").as_bytes(), &judged, is_script)
    }

    #[test]
    fn only_whole_values_are_overwritten_and_nothing_moves() {
        let curl = ["curl", "-u", "me:pw", "http://h/"];
        for (now, judged, expected) in [
            ("curl|-u|     |http://h/|", &curl[..], true),
            ("curl|-u|*****|http://h/|", &curl, true),
            ("curl|-u|me:pw|http://h/|", &curl, true),
            ("mysql|-pxxxxxx|", &["mysql", "-psecret"], true),
            ("mysql|--password=xx|", &["mysql", "--password=ab"], true),
            // Another text, a part of a word, another length, another number of words.
            ("curl|-u|you:p|http://h/|", &curl, false),
            ("curl|-u|me:**|http://h/|", &curl, false),
            ("curl|-u|** **|http://h/|", &curl, false),
            ("curl|-u|****|http://h/|", &curl, false),
            ("curl|-u|*****|http://h/|-v|", &curl, false),
            ("curl|-u|**|**|http://h/|", &curl, false),
            ("curl|-u||||||http://h/|", &curl, false),
            ("curl|**|me:pw|http://h/|", &curl, false),
            // What makes a command harmless stays, and a shell expands no part of a word.
            (
                "git|push|xxxxxxxxx|o|",
                &["git", "push", "--dry-run", "o"],
                false,
            ),
            (
                "git|push|--xxxxxxx|o|",
                &["git", "push", "--dry-run", "o"],
                false,
            ),
            ("rm|xx|d|", &["rm", "-i", "d"], false),
            ("rm|x|d|", &["rm", "-", "d"], false),
            ("sh|-c|rm /a/*|", &["sh", "-c", "rm /a/b"], false),
            ("", &curl, false),
        ] {
            assert_eq!(compare(now, judged, false), expected, "{now} {judged:?}");
        }
        for (now, expected) in [
            ("sh|/p|-k|****|", true),
            ("sh|/p|-k|1235|", false),
            ("sh|/pp|k|****|", false),
            ("-k|****|", true),
        ] {
            assert_eq!(compare(now, &["-k", "1234"], true), expected, "{now}");
        }
    }

    #[test]
    fn of_a_long_command_line_what_was_read_is_compared() {
        let long = "a".repeat(COMMAND_LINE_BYTES_MAX);
        let read = format!("p|-u|**|{long}");
        let cut = |end: usize| read.get(..end).unwrap_or_default().to_owned();
        let judged = ["p", "-u", "ab", long.as_str()];
        assert!(compare(&cut(COMMAND_LINE_BYTES_MAX), &judged, false));
        assert!(!compare(&cut(COMMAND_LINE_BYTES_MAX - 1), &judged, false));
    }
}
