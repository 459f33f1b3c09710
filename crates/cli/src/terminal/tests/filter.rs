use super::{
    super::filter::{Filter, Forward},
    SIZE, Terminal, follow,
};

fn passed(chunks: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut filter = Filter::default();
    let mut forward = Forward::default();
    for chunk in chunks {
        filter.push(chunk, &mut forward);
    }
    (forward.terminal, forward.dropped)
}

/// Every way to cut the bytes into two reads, and byte by byte.
fn all_cuts(bytes: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let mut results: Vec<_> = (0..=bytes.len())
        .map(|cut| passed(&[&bytes[..cut], &bytes[cut..]]))
        .collect();
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    results.push(passed(&single));
    results
}

#[test]
fn clipboard_and_its_kin_never_pass_however_they_are_cut() {
    let hostile: [&[u8]; 20] = [
        b"\x1b]52;c;c2VjcmV0\x07",
        b"\x1b]52;c;c2VjcmV0\x1b\\",
        b"\x1b]52;;?\x07",
        b"\x1b]052;c;c2VjcmV0\x07",
        b"\x1b]5522;type=write\x1b\\",
        b"\x1b]1337;Copy=:c2VjcmV0\x07",
        b"\x1b]51;Ecommand\x07",
        b"\x1b]633;E;command\x07",
        b"\x1b]50;?\x07",
        b"\x1bPtmux;\x1b\x1b]52;c;c2VjcmV0\x07\x1b\\",
        b"\x1bP\x1b]52;c;c2VjcmV0\x07\x1b\\",
        b"\x1bP@kitty-cmd{\"cmd\":\"launch\"}\x1b\\",
        b"\x1bP1000p\x1b\\",
        b"\x1b_Gt=t,a=T;L3RtcC94\x1b\\",
        b"\x1b^private\x1b\\",
        b"\x1bXstring\x1b\\",
        b"\xc2\x9d52;c;c2VjcmV0\xc2\x9c",
        b"\x9d52;c;c2VjcmV0\x9c",
        b"\x1b[21t",
        b"\x05",
    ];
    for bytes in hostile {
        for (out, dropped) in all_cuts(bytes) {
            let text = String::from_utf8_lossy(&out).into_owned();
            assert!(!text.contains("\x1b]"), "{bytes:?} gave {text:?}");
            assert!(!text.contains("\x1bP"), "{bytes:?} gave {text:?}");
            assert!(!text.contains("\x1b_"), "{bytes:?} gave {text:?}");
            assert!(
                !out.contains(&0x9d) && !out.contains(&5),
                "{bytes:?} gave {text:?}"
            );
            assert!(
                dropped > 0 || text.contains('\u{fffd}'),
                "{bytes:?} gave {text:?}"
            );
        }
    }
}

#[test]
fn what_programs_need_passes_unchanged_however_it_is_cut() {
    let benign: [&[u8]; 17] = [
        b"plain text\r\n\ttab\x08",
        "größe 漢字 ─│┌ 🦀\u{301}".as_bytes(),
        b"\x1b[1;31mred\x1b[0m\x1b[38;2;1;2;3m\x1b[4:3m",
        b"\x1b[?1049h\x1b[?25l\x1b[2J\x1b[10;20H",
        b"\x1b[?1000h\x1b[?1006h\x1b[>1u\x1b[<1u\x1b[=5;1u",
        b"\x1b]0;a title\x1b\\",
        b"\x1b]8;;https://good.test/\x1b\\link\x1b]8;;\x1b\\",
        b"\x1b]10;?\x1b\\\x1b]11;?\x1b\\",
        b"\x1b[c\x1b[6n\x1b[?2026$p\x1b[18t",
        b"\x1bP$qm\x1b\\\x1bP+q544e\x1b\\",
        b"\x1b]4;1;?\x1b\\\x1b]4;1;?;2;?\x1b\\\x1b]21;foreground=?;cursor=?\x1b\\",
        b"\x1b]12;#ff8800\x1b\\\x1b]104\x1b\\\x1b]104;3\x1b\\\x1b]110\x1b\\\x1b]112\x1b\\",
        b"\x1b[?7;25h\x1b[4h\x1b[4l\x1b[?69h\x1b[2;70s\x1b[?69l\x1b[3 @\x1b[1\'}",
        b"\x1b[32;1;1;24;80$x\x1b[?1;1;0S\x1b[>4;2m\x1b[>q\x1b[?u\x1b[=c\x1b[#{\x1b[#}",
        b"\x1b(0lqk\x1b(B\x1b7\x1b8\x1b=\x1b>\x1bM",
        b"\x1b[4 q\x1b[!p\x1b[1;20r",
        b"\x1b[31\nm",
    ];
    for bytes in benign {
        for (out, dropped) in all_cuts(bytes) {
            // A control character inside a sequence comes before it, as a terminal obeys it.
            let expected: &[u8] = if bytes == b"\x1b[31\nm" {
                b"\n\x1b[31m"
            } else {
                bytes
            };
            assert_eq!(
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(expected)
            );
            assert_eq!(dropped, 0);
        }
    }
}

#[test]
fn an_endless_string_is_dropped_and_the_text_after_it_passes() {
    let mut bytes = b"\x1b]0;".to_vec();
    bytes.extend(vec![b'x'; 1 << 20]);
    bytes.extend_from_slice(b"\x07after");
    assert_eq!(passed(&[&bytes]), (b"after".to_vec(), 1));
    let mut bytes = b"\x1b[".to_vec();
    bytes.extend(vec![b'1'; 1 << 20]);
    bytes.extend_from_slice(b"mafter");
    assert_eq!(passed(&[&bytes]), (b"after".to_vec(), 1));
}

#[test]
fn the_terminal_is_never_left_inside_a_sequence() {
    for bytes in [
        &b"\x1b"[..],
        b"\x1b[1;3",
        b"\x1b]0;tit",
        b"\x1bP$q",
        b"\xe2\x94",
        b"\x1b(",
    ] {
        assert_eq!(passed(&[bytes]).0, b"", "{bytes:?}");
    }
}

#[test]
fn the_picture_knows_what_the_parser_does_not() {
    let cases: [(&[u8], &str); 5] = [
        (b"\x1b(0lqqk\x1b(B", "┌──┐"),
        (b"\x1b)0\x0elqqk\x0fq", "┌──┐q"),
        (b"-\x1b[5b", "------"),
        (b"abc\x1b[s\x1b[5;5Hx\x1b[ud", "abcd\n\n\n\n    x"),
        (b"a\x1bEb\x1bDc", "a\nb\n c"),
    ];
    for (output, expected) in cases {
        let (_, screen, _) = follow(output, SIZE);
        assert_eq!(screen.parser().screen().contents(), expected, "{output:?}");
    }
}

#[test]
fn noise_neither_harms_the_filter_nor_the_picture() {
    // A fixed stream of noise that is rich in escapes (xorshift, Marsaglia 2003).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let alphabet = b"\x1b\x1b\x1b[[]]P;;?0123456789hlmHJKABCDLMPrstuX@ \n\r\t\x08\xc3\xa4\xe6\xbc\xa2\xff\x9d\x0e\x0f(0B78Mc";
    for (rows, columns) in [(24, 80), (2, 4), (5, 7), (3, 200), (100, 5)] {
        let size = super::Size { rows, columns };
        let mut filter = Filter::default();
        let mut screen = super::Screen::new(size);
        for round in 0..400_u16 {
            let bytes: Vec<u8> = (0..200)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let index = usize::try_from(state % 64).unwrap() % alphabet.len();
                    alphabet[index]
                })
                .collect();
            let mut forward = Forward::default();
            filter.push(&bytes, &mut forward);
            screen.feed(&forward.screen);
            if round % 16 == 0 {
                let rows = 2 + round % 40;
                screen.resize(super::Size {
                    rows,
                    columns: 4 + round % 90,
                });
            }
            let mut terminal = Terminal::new(SIZE);
            terminal.feed(&screen.paint());
        }
    }
}

#[test]
fn what_would_hide_a_question_never_passes_however_it_is_cut() {
    let hostile: [&[u8]; 38] = [
        // Colours of the palette and of text without one.
        b"\x1b]4;3;#000000\x07",
        b"\x1b]4;3;?;11;#000000\x07",
        b"\x1b]4;3\x07",
        b"\x1b]5;0;black\x1b\\",
        b"\x1b]10;#000000\x07",
        b"\x1b]10;?;#ffffff\x07",
        b"\x1b]11;#000000\x07",
        b"\x1b]12;#000000;#000000\x07",
        b"\x1b]17;black\x07",
        b"\x1b]21;foreground=black\x1b\\",
        b"\x1b]21;foreground=?;background=\x1b\\",
        b"\x1b[8]",
        b"\x1b[1;0;0,|",
        // Double lines, test picture, other encodings, sets and protocols.
        b"\x1b#3",
        b"\x1b#4",
        b"\x1b#6",
        b"\x1b#8",
        b"\x1b%@",
        b"\x1b n",
        b"\x1bn",
        b"\x1bN",
        b"\x1b-A",
        b"\x1b[?2l",
        b"\x1b[?38h",
        // A locked line, a locked keyboard, a second page, a status line, a printer.
        b"\x1bl",
        b"\x1b[2h",
        b"\x1b[12l",
        b"\x1b[?64l",
        b"\x1b[2 P",
        b"\x1b[2U",
        b"\x1b[1$}",
        b"\x1b[2$~",
        b"\x1b[5i",
        b"\x1b[?5i",
        // Modes that change unseen, other directions, no alternate screen, a held redraw.
        b"\x1b[?6r",
        b"\x1b[2 k",
        b"\x1b[?1046l",
        b"\x1bP=1s\x1b\\",
    ];
    for bytes in hostile {
        for (out, dropped) in all_cuts(bytes) {
            assert_eq!(String::from_utf8_lossy(&out), "", "{bytes:?}");
            assert_eq!(dropped, 1, "{bytes:?}");
        }
    }
}

#[test]
fn refused_modes_are_taken_out_of_a_list() {
    for (bytes, expected) in [
        (&b"\x1b[?25;2;1049l"[..], "\x1b[?25;1049l"),
        (b"\x1b[2;4h", "\x1b[4h"),
        (b"\x1b[?99999;7h", "\x1b[?7h"),
        (b"\x1b[4;2;12h", "\x1b[4h"),
    ] {
        assert_eq!(passed(&[bytes]).0, expected.as_bytes(), "{bytes:?}");
    }
}

#[test]
fn a_title_of_screen_is_no_text() {
    assert_eq!(passed(&[b"a\x1bktitle\x1b\\b"]), (b"ab".to_vec(), 1));
}
