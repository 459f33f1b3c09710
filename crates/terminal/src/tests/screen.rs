//! Text in the flow of output gives the same picture whether all of it is drawn or only its end.

use crate::{
    filter::{Filter, Forward},
    screen::{Screen, Size, last_lines},
};

/// Numbers that are the same in each run (xorshift, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % 0xffff).unwrap() % end
    }
}

/// Everything that can be asked of a picture.
#[derive(Debug, PartialEq)]
struct Seen {
    cells: Vec<u8>,
    cursor: (u16, u16),
    wrapped: Vec<bool>,
    has_text_below: bool,
    place: Vec<u8>,
}

fn seen(screen: &Screen) -> Seen {
    let inner = screen.parser().screen();
    let wrapped = (0..inner.size().0.get()).map(|row| inner.row_wrapped(row));
    Seen {
        cells: inner.state_formatted().into_bytes(),
        cursor: screen.cursor(),
        wrapped: wrapped.collect(),
        has_text_below: screen.has_text_below(),
        place: screen.place(),
    }
}

const WORDS: [&str; 18] = [
    "word ",
    "a longer word that wraps where the screen is narrow ",
    "\t",
    "\x08",
    "漢字",
    "e\u{301}",
    "\u{301}",
    "\r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "\n",
    "\r",
    "ü",
    "",
    "0123456789",
    "x",
    "\r\n\r\n",
];
const SEQUENCES: [&str; 16] = [
    "\x1b[31m",
    "\x1b[m",
    "\x1b[7;1m",
    "\x1b[5;3H",
    "\x1b[2J",
    "\x1b[K",
    "\x1b[3A",
    "\x1b[?7l",
    "\x1b[?7h",
    "\x1b7",
    "\x1b8",
    "\x1b[?1049h",
    "\x1b[?1049l",
    "\x1b[4h",
    "\x1b[4l",
    "\x0e\x1b)0",
];
const BOUNDS: [&str; 4] = ["\x1b[2;4r", "\x1b[r", "\x1b[?6h", "\x1b[?6l"];

#[test]
fn the_end_of_a_long_text_gives_the_picture_of_all_of_it() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut short_cuts = 0;
    for (rows, columns) in [(24, 80), (2, 4), (5, 7), (3, 200), (50, 5), (1, 1)] {
        for bounded in [false, true] {
            let size = Size { rows, columns };
            let (mut all, mut end) = (Screen::new(size), Screen::new(size));
            let mut filter = Filter::default();
            for _ in 0..150 {
                let mut text = String::new();
                for _ in 0..noise.below(8) {
                    text.push_str(SEQUENCES[noise.below(SEQUENCES.len())]);
                    text.push_str(WORDS[noise.below(WORDS.len())]);
                }
                if bounded && noise.below(4) == 0 {
                    text.push_str(BOUNDS[noise.below(BOUNDS.len())]);
                }
                for _ in 0..noise.below(usize::from(rows) * 20) {
                    text.push_str(WORDS[noise.below(WORDS.len())]);
                }
                let mut forward = Forward::default();
                filter.push(text.as_bytes(), &mut forward);
                all.feed(&forward.screen);
                if filter.tracker().was_bounded() {
                    end.feed(&forward.screen);
                } else {
                    short_cuts += usize::from(end.flow(&forward.screen) > 0);
                }
                assert_eq!(seen(&end), seen(&all), "{rows} × {columns} after {text:?}");
            }
        }
    }
    assert!(short_cuts > 200, "only {short_cuts} texts were cut");
}

#[test]
fn a_cut_is_at_the_beginning_of_a_line_and_leaves_lines_enough() {
    let text = b"a\r\nb\r\nc\nd\r\ne";
    for (ends, line) in [
        (0, Some("e")),
        (1, Some("c\nd\r\ne")),
        (2, Some("c\nd\r\ne")),
        (3, Some("b\r\nc\nd\r\ne")),
        (4, None),
    ] {
        let rest = last_lines(text, ends).map(|cut| &text[cut..]);
        assert_eq!(rest, line.map(str::as_bytes), "{ends}");
    }
    assert_eq!(last_lines(b"", 0), None);
    assert_eq!(last_lines(b"\n\n", 0), None);
}
