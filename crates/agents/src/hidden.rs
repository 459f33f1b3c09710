//! Text that a model reads and a person does not see.

/// Tells whether a text has characters that show nothing and in which words can be hidden: marks of
/// direction, blanks without width, and letters for tags. What scripts and pictures need is none of it:
/// joiners between characters that are not ASCII, marks of emphasis, directions of single characters.
pub(crate) fn hides_text(text: &[u8]) -> bool {
    if text.is_ascii() {
        return text
            .iter()
            .any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace());
    }
    for chunk in text.utf8_chunks() {
        if !chunk.invalid().is_empty() {
            return true;
        }
        let mut before = ' ';
        for (at, one) in chunk.valid().char_indices() {
            let after = || {
                let rest = chunk.valid().get(at + one.len_utf8()..).unwrap_or_default();
                rest.chars().next().unwrap_or(' ')
            };
            if is_hidden(one) || (is_joiner(one) && (before.is_ascii() || after().is_ascii())) {
                return true;
            }
            before = one;
        }
    }
    false
}

/// Joins characters, or keeps them apart, as some scripts and pictures need it.
const fn is_joiner(one: char) -> bool {
    matches!(one, '\u{200c}' | '\u{200d}')
}

const fn is_hidden(one: char) -> bool {
    matches!(
        one,
        '\0'..='\u{8}'
            | '\u{b}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{17b4}'
            | '\u{17b5}'
            | '\u{180b}'..='\u{180e}'
            | '\u{200b}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    ) && one != '\r'
}

#[cfg(test)]
mod tests {
    use super::hides_text;

    #[test]
    fn what_nobody_sees_is_told_from_what_scripts_need() {
        for (text, is_hiding) in [
            ("Adds two numbers.\n\tReturns the sum.\r\n", false),
            ("Ajoute à la liste – « deux » nombres…", false),
            ("می\u{200c}خواهم", false),
            (
                "a family \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}, a heart \u{2764}\u{fe0f}",
                false,
            ),
            ("שלום", false),
            ("adds\u{200b} two", true),
            ("adds\u{200d} two", true),
            ("adds \u{202e}owt", true),
            ("adds \u{2066}two\u{2069}", true),
            ("adds\u{e0069}\u{e0067}\u{e006e}", true),
            ("adds\u{feff} two", true),
            ("adds \u{1b}[8m two", true),
            ("soft\u{ad}hyphen", true),
        ] {
            assert_eq!(hides_text(text.as_bytes()), is_hiding, "{text:?}");
        }
        assert!(hides_text(b"adds \xff two"));
    }
}
