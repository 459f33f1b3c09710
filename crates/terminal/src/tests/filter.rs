use std::fmt::Write as _;

use stockade_fuzz::{TRIES, Target};

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
    let benign: [&[u8]; 18] = [
        b"plain text\r\n\ttab\x08",
        "größe 漢字 ─│┌ 🦀\u{301}".as_bytes(),
        b"\x1b[1;31mred\x1b[0m\x1b[38;2;1;2;3m\x1b[4:3m",
        b"\x1b[?1049h\x1b[?25l\x1b[2J\x1b[10;20H",
        b"\x1b[?1000h\x1b[?1006h\x1b[>1u\x1b[<1u\x1b[=5;1u",
        b"\x1b]0;a title\x1b\\",
        b"\x1b]8;;https://good.test/\x1b\\link\x1b]8;;\x1b\\",
        b"\x1b]10;?\x1b\\\x1b]11;?\x1b\\",
        b"\x1b[c\x1b[6n\x1b[?6n\x1b[?996n\x1b[?2026$p\x1b[18t\x1b[22;2t\x1b[23;2t",
        b"\x1bP+q544e;436f\x1b\\\x1b]133;A\x1b\\\x1b]133;D;0\x1b\\",
        b"\x1b]9;the turn is over\x1b\\\x1b]9;4;1;50\x1b\\\x1b]777;notify;a;b\x1b\\",
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
            assert_eq!(dropped, 0, "{bytes:?}");
        }
    }
}

/// What reads the screen, or comes back as if it was typed; what runs, moves or opens something.
const READS_OR_RUNS: [&[u8]; 68] = [
    // Check sums of cells, saved states, settings by name, parameters, terminal id in text.
    b"\x1b[1;1;1;1;1;80*y",
    b"\x1b[*y",
    b"\x1b[1$w",
    b"\x1b[2$w",
    b"\x1bP$qm\x1b\\",
    b"\x1bP$q q\x1b\\",
    b"\x1bP$qr\x1b\\",
    b"\x1bP+qzz\x1b\\",
    b"\x1bP+p41\x1b\\",
    b"\x1b[x",
    b"\x1b[1c",
    b"\x1b[?62n",
    b"\x1b[?63;1n",
    b"\x1b[?53n",
    b"\x1b[?15n",
    b"\x1b[#R",
    // Titles and how they are sent, states and places of the window, the window itself.
    b"\x1b[20t",
    b"\x1b[21t",
    b"\x1b[>2t",
    b"\x1b[>3T",
    b"\x1b[11t",
    b"\x1b[13t",
    b"\x1b[2t",
    b"\x1b[3;0;0t",
    b"\x1b[8;1;1t",
    b"\x1b[9;1t",
    b"\x1b[5t",
    b"\x1b[30t",
    // The mouse: reports that come back unasked, a mode that waits for the program.
    b"\x1b[1;2'z",
    b"\x1b['|",
    b"\x1b[1'{",
    b"\x1b[1;1;1;1'w",
    b"\x1b[?1001h",
    b"\x1b[1;2;3;4;5T",
    // What keys send, in ways that are not taken back.
    b"\x1b[>4n",
    b"\x1b[>1;2f",
    b"\x1b[?1060h",
    b"\x1b[?1061h",
    b"\x1bP0;1|17/6f\x1b\\",
    // Programs, macros, boxes, directories and environments of ConEmu.
    b"\x1b]9;6;\"macro\"\x07",
    b"\x1b]9;7;\"cmd\"\x1b\\",
    b"\x1b]9; 7;cmd\x1b\\",
    b"\x1b]9;1;100\x1b\\",
    b"\x1b]9;2;\"a box\"\x1b\\",
    b"\x1b]9;3;title\x1b\\",
    b"\x1b]9;5\x1b\\",
    b"\x1b]9;8;\"HOME\"\x1b\\",
    b"\x1b]9;9;C:\\\x1b\\",
    b"\x1b]9;10\x1b\\",
    b"\x1b]9;11;\"a comment\"\x1b\\",
    b"\x1b]9;4;1;x\x1b\\",
    // Remote control, extensions, directories, marks and links that carry more than a page.
    b"\x1bP@kitty-cmd{\"cmd\":\"get-text\"}\x1b\\",
    b"\x1bP@kitty-ssh|id=1\x1b\\",
    b"\x1b]1337;RunCommand=x\x1b\\",
    b"\x1b]1337;CurrentDir=/\x1b\\",
    b"\x1b]6;1;bg;red;brightness;0\x1b\\",
    b"\x1b]7;file://host/tmp\x1b\\",
    b"\x1b]50;#1\x07",
    b"\x1b]50;xft:mono\x1b\\",
    b"\x1b]99;i=1:a=report;text\x1b\\",
    b"\x1b]133;C;cmdline_url=x\x1b\\",
    b"\x1b]697;command\x1b\\",
    b"\x1b]777;precmd;x\x1b\\",
    b"\x1b]8;;file:///etc/passwd\x1b\\",
    b"\x1b]8;;x-man-page://ls\x1b\\",
    b"\x1b]8;;ssh://host\x1b\\",
    b"\x05",
    b"\x1b[6;5n",
];

#[test]
fn what_reads_the_screen_or_runs_something_never_passes_however_it_is_cut() {
    for bytes in READS_OR_RUNS {
        for (out, dropped) in all_cuts(bytes) {
            assert_eq!(String::from_utf8_lossy(&out), "", "{bytes:?}");
            assert_eq!(dropped, 1, "{bytes:?}");
        }
    }
}

/// Of each form of control sequence all final bytes, and all commands and modes by number: what
/// is not on a list is dropped.
#[test]
fn nothing_passes_that_is_not_on_a_list() {
    let mut passing = String::new();
    for marker in ["", "?", ">", "=", "<"] {
        for between in [
            "", " ", "!", "\"", "#", "$", "%", "&", "'", "(", ")", "*", "+", ",", "-", ".", "/",
        ] {
            let finals: String = (0x40..=0x7e_u8)
                .filter(|last| {
                    let bytes = format!("\x1b[{marker}{between}{}", char::from(*last));
                    !passed(&[bytes.as_bytes()]).0.is_empty()
                })
                .map(char::from)
                .collect();
            if !finals.is_empty() {
                writeln!(passing, "{marker}_{between}: {finals}").unwrap();
            }
        }
    }
    let numbers = |before: &str, after: &str| -> Vec<String> {
        (0..=9999_u16)
            .filter(|number| {
                let bytes = format!("{before}{number}{after}");
                !passed(&[bytes.as_bytes()]).0.is_empty()
            })
            .map(|number| number.to_string())
            .collect()
    };
    for (what, before, after) in [
        ("modes", "\x1b[?", "h"),
        ("ANSI modes", "\x1b[", "h"),
        ("reports", "\x1b[", "n"),
        ("DEC reports", "\x1b[?", "n"),
        ("window", "\x1b[", "t"),
        ("commands with a text", "\x1b]", ";x\x07"),
        ("commands that ask", "\x1b]", ";?\x07"),
        ("commands alone", "\x1b]", "\x07"),
    ] {
        writeln!(passing, "{what}: {}", numbers(before, after).join(" ")).unwrap();
    }
    insta::assert_snapshot!(passing);
}

#[test]
fn the_status_report_is_answered_here_and_never_reaches_the_terminal() {
    for bytes in [&b"a\x1b[5nb"[..], b"a\x1b[05nb", b"a\x1b[5:1nb"] {
        for cut in 0..=bytes.len() {
            let mut filter = Filter::default();
            let mut forward = Forward::default();
            filter.push(&bytes[..cut], &mut forward);
            filter.push(&bytes[cut..], &mut forward);
            assert_eq!(forward.terminal, b"ab");
            assert_eq!(forward.answer, b"\x1b[0n");
        }
    }
}

#[test]
fn where_no_answer_can_come_back_nothing_is_asked() {
    let asks: [&[u8]; 16] = [
        b"\x1b[5n",
        b"\x1b[6n",
        b"\x1b[?6n",
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[=c",
        b"\x1b[>q",
        b"\x1b[18t",
        b"\x1b[?25$p",
        b"\x1b[4$p",
        b"\x1b[?4m",
        b"\x1b[?u",
        b"\x1bZ",
        b"\x1b]10;?\x07",
        b"\x1b]12;?\x07",
        b"\x1bP+q544e\x1b\\",
    ];
    for bytes in asks {
        let mut forward = Forward::default();
        let mut filter = Filter::one_way();
        filter.push(bytes, &mut forward);
        assert_eq!(
            (forward.terminal, forward.answer),
            (vec![], vec![]),
            "{bytes:?}"
        );
    }
    let mut forward = Forward::default();
    Filter::one_way().push(b"\x1b[1mbold\x1b]0;title\x07", &mut forward);
    assert_eq!(forward.terminal, b"\x1b[1mbold\x1b]0;title\x1b\\");
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

#[test]
fn fuzz_terminal() {
    let target = Target {
        name: "terminal",
        samples: [
            "plain text\r\n\u{6f22}\u{5b57} e\u{301}\r\n",
            "\x1b[?1049h\x1b[?25l\x1b[2J\x1b[5;20r\x1b[1;31mred\x1b[m\x1b[38;2;1;2;3mx\x1b[0m",
            "\x1b]0;title\x07\x1b]8;;http://good.test\x1b\\link\x1b]8;;\x1b\\",
            "\x1b]52;c;c2VjcmV0\x07\x1bP1000p\x1b\\\x1b_Gx\x1b\\\x1b[21t\x05\x1b[6n\x1b[c",
            "\x1b(0lqk\x1b(B\x0e\x0f\x1b7\x1b8\x1bM\x1bc\x1b[>1u\x1b[?2004h\x1b[?1006h\x1b[5b\x1b[!p",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        words: &[
            b"\x1b[", b"\x1b]", b"\x1bP", b"\x1b\\", b"\x9b", b"\x9d", b"\xc2\x9d", b"?25l", b"99999999", b";;;;",
            b"\x1b[3J", b"\x1b[1;1H", b"\x1b[?1049l", b"\xe2\x80\xae", b"\xf0\x9f\x91\xa9",
        ],
        tries: TRIES / 3,
    };
    stockade_fuzz::target(&target, |bytes| {
        let whole = passed(&[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(passed(&single), whole, "how output is cut does not matter");
        let middle = bytes.split_at(bytes.len() / 2);
        assert_eq!(passed(&[middle.0, middle.1]), whole);
        for opener in [&b"\x1bP"[..], b"\x1b_", b"\x1b^", b"\x1bX", b"\x1b]52;"] {
            let has = whole.0.windows(opener.len()).any(|part| part == opener);
            assert!(!has, "{opener:?} passed");
        }
        let mut filter = Filter::default();
        let mut forward = Forward::default();
        filter.push(bytes, &mut forward);
        // What our picture shows, and what puts it back, is made of any output.
        let mut screen = super::super::screen::Screen::new(SIZE);
        screen.feed(&forward.screen);
        let tracker = filter.tracker();
        for made in [
            screen.paint(),
            screen.place(),
            tracker.aside(),
            tracker.again(),
            tracker.reset(screen.cursor()),
        ] {
            drop(made);
        }
        let mut keys = crate::keys::Keys::default();
        drop(keys.push(bytes, std::time::Instant::now()));
    });
}
