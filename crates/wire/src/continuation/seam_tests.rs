//! The seam: whatever the second part is, the caller has the exact text or a refusal.

use proptest::prelude::*;

use super::*;

/// The text that passes, or `None` if it is refused. `cut`: the bytes of each delta.
fn joined(before: &str, method: Method, after: &str, cut: usize) -> Option<String> {
    let mut seam = Seam::new(before, method);
    let mut text = before.to_owned();
    let mut take =
        |deltas: &[Delta<'_>]| deltas.iter().for_each(|delta| text.push_str(delta.output()));
    let chars: Vec<char> = after.chars().collect();
    for piece in chars.chunks(cut) {
        let piece: String = piece.iter().collect();
        let mut deltas = vec![Delta::Text { choice: 0, text: piece.into() }];
        seam.pass(&mut deltas);
        take(&deltas);
        seam.verdict(&Tally::default()).is_none().then_some(())?;
    }
    let mut deltas = Vec::new();
    seam.flush(&mut deltas);
    take(&deltas);
    seam.verdict(&Tally::default()).is_none().then_some(text)
}

fn numbered(range: std::ops::Range<usize>) -> String {
    range.fold(String::new(), |text, i| text + &format!("t{i} "))
}

/// R28: a cut at every token, and every way to go on.
#[test]
fn r28_exact_text_or_a_refusal() {
    let whole = numbered(0..80);
    for at in 1..80 {
        let before = numbered(0..at);
        for cut in [1, 3, 1000] {
            let with_space = format!(" {}", numbered(at..80));
            assert_eq!(joined(&before, Method::Prefill, &with_space, cut).as_ref(), Some(&whole));
            let lost = numbered(at..80);
            assert_eq!(joined(&before, Method::Prefill, &lost, cut).as_ref(), Some(&whole));
            let again = joined(&before, Method::Prefill, &whole, cut);
            let length = before.trim_end().len();
            assert!(again.is_some() || !(MIN_REPEATED..MAX_HELD).contains(&length), "{at}");
            assert!(again.is_none() || length >= MIN_REPEATED, "{at}");
            assert!(again.is_none_or(|text| text == whole), "{at}");
            let anchor = before.get(before.len().saturating_sub(60)..).unwrap();
            let anchored = format!("{anchor}{}", numbered(at..80));
            let instructed = joined(&before, Method::Instruct, &anchored, cut);
            assert!(instructed.as_ref().is_none_or(|text| *text == whole), "{at}");
            assert_eq!(instructed.is_some(), length >= MIN_ANCHOR, "{at}");
            assert_eq!(joined(&before, Method::Instruct, &"other ".repeat(60), cut), None);
        }
    }
}

#[test]
fn r28_a_different_answer_is_refused() {
    let before = "The quick brown fox jumps over the lazy dog and runs";
    let again = "The quick brown fox jumps over a fence";
    assert_eq!(joined(before, Method::Prefill, again, 4), None);
    let quotes = "She said \u{201c}it\u{2019}s  fine\u{201d} and left the";
    let folded = "\"it's fine\" and left the house.";
    let text = joined(quotes, Method::Instruct, &format!("She said {folded}"), 5);
    assert_eq!(text, Some(format!("{quotes} house.")));
}

#[test]
fn reasoning_is_no_continuation() {
    let mut seam = Seam::new("one two", Method::Prefill);
    seam.pass(&mut vec![Delta::Reasoning { choice: 0, text: "hm".into() }]);
    assert!(seam.verdict(&Tally::default()).is_some());
}

proptest! {
    /// R28: the second part is passed whole, or less what the caller has, or not at all.
    #[test]
    fn r28_no_character_is_lost(before in "[ab \n]{1,80}", after in "[ab \n]{0,400}", cut in 1_usize..50) {
        let held = joined(&before, Method::Prefill, &after, cut);
        if let Some(text) = held {
            let rest = text.strip_prefix(before.as_str()).expect("the first part stays");
            let lost = after.strip_suffix(rest).expect("the rest is the end of the second part");
            let blank = lost.trim().is_empty();
            prop_assert!(blank || lost.trim() == before.trim(), "{lost:?}");
        }
    }
}
