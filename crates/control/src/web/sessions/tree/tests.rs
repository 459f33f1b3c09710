use std::path::Path;

use stockade_event::tree::{Grown, Sort, Tree, Wanted};
use stockade_journal::layout::session_dir;
use stockade_testkit::invented;
use stockade_types::{RawText, Verdict};

use super::{Part, Place, ROWS, Wish, part};

const TOP: Place = Place {
    at: None,
    from: None,
    is_live: false,
};

fn grown(turns: u64, text: &str) -> Grown {
    let state = tempfile::tempdir().unwrap();
    let id = invented::record(state.path(), turns, &RawText::from(text));
    read(state.path(), &id)
}

fn read(state: &Path, id: &str) -> Grown {
    let dir = session_dir(state, &id.parse().unwrap());
    let mut tree = Tree::default();
    for envelope in stockade_journal::read(&dir).unwrap().flatten() {
        tree.add(&envelope, Wanted::Whole);
    }
    tree.finish()
}

/// Every node is on the page or counted below one that is.
fn all_of(part: &Part) -> usize {
    part.rows.iter().map(|row| row.below + 1).sum()
}

#[test]
fn a_page_has_room_for_its_rows_and_counts_the_rest() {
    for turns in [1, 3, 12, 40, 117] {
        let grown = grown(turns, "baskets");
        let part = part(&grown.nodes, &Wish::default(), TOP, true);
        assert!(part.rows.len() <= ROWS, "{turns}: {}", part.rows.len());
        assert_eq!(all_of(&part) + 1, grown.nodes.len(), "{turns}");
        assert_eq!((part.previous, part.next), (None, None), "{turns}");
    }
}

#[test]
fn a_long_session_has_pages_and_no_line_is_on_two_or_none() {
    let grown = grown(ROWS as u64 * 2 + 7, "baskets");
    let (mut from, mut all, mut pages) = (Some(0), 0, 0);
    let mut seen = std::collections::BTreeSet::new();
    while from.is_some() {
        let part = part(&grown.nodes, &Wish::default(), Place { from, ..TOP }, true);
        assert!(part.rows.len() <= ROWS);
        assert!(
            part.rows.iter().all(|row| seen.insert(row.seq)),
            "a line twice"
        );
        all += all_of(&part);
        pages += 1;
        from = part.next;
    }
    assert_eq!(all + 1, grown.nodes.len());
    assert_eq!(pages, 3);
    // A running session begins with its end.
    let live = Place {
        is_live: true,
        ..TOP
    };
    let part = part(&grown.nodes, &Wish::default(), live, true);
    assert!(part.next.is_none() && part.previous.is_some());
}

#[test]
fn every_line_leads_to_what_is_below_it() {
    let grown = grown(60, "baskets");
    let top = part(&grown.nodes, &Wish::default(), TOP, true);
    let closed: Vec<_> = top.rows.iter().filter(|row| row.below > 0).collect();
    assert!(!closed.is_empty(), "a control: something is closed");
    for row in closed {
        let at = Place {
            at: Some(row.seq),
            ..TOP
        };
        let below = part(&grown.nodes, &Wish::default(), at, true);
        assert_eq!(all_of(&below), row.below, "{}", row.text);
        assert_eq!(below.path.last().map(|row| row.seq), Some(row.seq));
        assert_eq!(below.rows.first().map(|row| row.depth), Some(1));
    }
    // An event without anything below it is shown among its neighbours.
    let leaf = grown.nodes.iter().find(|node| node.sort == Sort::Refused);
    let leaf = leaf.unwrap();
    let at = Place {
        at: Some(leaf.seq),
        ..TOP
    };
    let around = part(&grown.nodes, &Wish::default(), at, true);
    assert_eq!(around.at, Some(leaf.seq));
    assert!(around.rows.iter().any(|row| row.seq == leaf.seq));
}

#[test]
fn a_wish_keeps_what_meets_it_and_what_is_above() {
    let grown = grown(9, "baskets");
    let wish = Wish {
        verdict: Some(Verdict::Deny),
        ..Wish::default()
    };
    let part = part(&grown.nodes, &wish, TOP, true);
    let denied = |row: &&super::Row| row.verdict == Some(Verdict::Deny);
    let expected = grown
        .nodes
        .iter()
        .filter(|node| node.verdict == Some(Verdict::Deny));
    assert_eq!(part.rows.iter().filter(denied).count(), expected.count());
    assert_eq!(part.found, part.rows.iter().filter(denied).count());
    // Whatever else is there has something below it that was denied.
    for (index, row) in part.rows.iter().enumerate() {
        let behind = part.rows.get(index + 1..).unwrap_or_default();
        let mut below = behind.iter().take_while(|one| one.depth > row.depth);
        assert!(
            denied(&row) || below.any(|row| denied(&row)),
            "{}",
            row.text
        );
    }
}

#[test]
fn words_are_neither_shown_nor_found_without_permission() {
    let secret = "the-secret-words";
    let grown = grown(3, secret);
    let said = |sort: Sort| matches!(sort, Sort::Prompt | Sort::Plan | Sort::Tool);
    let has = |part: &Part| {
        let rows = part.rows.iter().filter(|row| said(row.sort));
        let texts = rows.flat_map(|row| {
            [
                Some(row.text.clone()),
                row.detail.clone(),
                row.about.clone(),
            ]
        });
        texts.flatten().any(|text| text.contains(secret))
    };
    let hidden = part(&grown.nodes, &Wish::default(), TOP, false);
    assert!(!has(&hidden));
    let shown = part(&grown.nodes, &Wish::default(), TOP, true);
    assert!(has(&shown), "the control: they are there");
    let wish = Wish {
        sort: Some(Sort::Prompt),
        text: secret.to_owned(),
        ..Wish::default()
    };
    assert_eq!(part(&grown.nodes, &wish, TOP, false).found, 0);
    assert_eq!(part(&grown.nodes, &wish, TOP, true).found, 3);
}
