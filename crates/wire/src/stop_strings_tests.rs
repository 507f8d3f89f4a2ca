//! Tests of the stop string search against a search in the whole text.

use proptest::prelude::*;

use super::*;
use crate::chat::{Citation, Scheme, Usage};

fn filter_of(strings: &[&str], choices: u64) -> StopFilter {
    let mut wanted = StopStrings::new(choices);
    for string in strings {
        assert!(wanted.add((*string).to_owned()), "{string:?}");
    }
    StopFilter::new(wanted, 9).expect("some strings")
}

fn text(choice: u32, text: &str) -> Delta<'_> {
    Delta::Text { choice, text: text.into() }
}

fn sequence(choice: u32, string: &str) -> Delta<'static> {
    Delta::Stop { choice, reason: Stop::Sequence(Some(string.to_owned())) }
}

fn filtered<'f>(filter: &mut StopFilter, delta: Delta<'f>) -> Vec<Delta<'f>> {
    let mut deltas = vec![delta];
    filter.pass(&mut deltas);
    deltas
}

/// The text written for these fragments, and the string that ended it. Withheld text is always a prefix of a
/// stop string.
fn read(strings: &[&str], fragments: &[&str]) -> (String, Option<String>) {
    let mut filter = filter_of(strings, 1);
    let (mut said, mut given, mut stop) = (String::new(), String::new(), None);
    let mut take = |deltas: Vec<Delta<'_>>, said: &mut String| {
        for delta in deltas {
            assert_eq!(stop, None, "{delta:?} after the end");
            match delta {
                Delta::Text { choice: 0, text } => {
                    assert!(!text.is_empty());
                    said.push_str(&text);
                }
                Delta::Stop { choice: 0, reason: Stop::Sequence(found) } => stop = found,
                other => panic!("{other:?}"),
            }
        }
        stop.is_some()
    };
    for fragment in fragments.iter().filter(|fragment| !fragment.is_empty()) {
        given.push_str(fragment);
        let ended = take(filtered(&mut filter, text(0, fragment)), &mut said);
        assert_eq!(filter.is_complete(), ended);
        let held = given.strip_prefix(&said).expect("a beginning of it");
        let may_become = |string: &&str| string.len() > held.len() && string.starts_with(held);
        assert!(ended || held.is_empty() || strings.iter().any(may_become), "{held:?} is held");
        assert_eq!(filter.held, if ended { 0 } else { held.len() });
    }
    let mut rest = Vec::new();
    filter.flush(&mut rest);
    take(rest, &mut said);
    (said, stop)
}

/// The same result by checking each prefix of the whole text: the first one that ends with a stop string
/// counts, and of several strings the longest.
fn reference(strings: &[&str], whole: &str) -> (String, Option<String>) {
    for end in 1..=whole.len() {
        let before = &whole.as_bytes()[..end];
        let ends = |string: &&&str| before.ends_with(string.as_bytes());
        if let Some(found) = strings.iter().filter(ends).max_by_key(|string| string.len()) {
            let (said, _) = whole.split_at(end - found.len());
            return (said.to_owned(), Some((*found).to_owned()));
        }
    }
    (whole.to_owned(), None)
}

#[test]
fn an_answer_ends_before_the_first_stop_string_wherever_it_is_cut() {
    for (strings, whole, said, stop) in [
        (&["Observation:"][..], "Thought: x\nObservation: y", "Thought: x\n", Some("Observation:")),
        (&["Observation:"], "no observation", "no observation", None),
        (&["END", "STOP"], "a STOP b END", "a ", Some("STOP")),
        (&["aab"], "aaab", "a", Some("aab")),
        (&["abab", "b"], "aabab", "aa", Some("b")),
        (&["abcd", "bc"], "abcd", "a", Some("bc")),
        (&["abc", "bc"], "abc", "", Some("abc")),
        (&["abcabd"], "abcabcabd", "abc", Some("abcabd")),
        (&["\u{e9}\u{1f600}"], "\u{e9}\u{e9}\u{1f600}z", "\u{e9}", Some("\u{e9}\u{1f600}")),
        (&["\u{1f601}"], "\u{1f600}\u{1f602}", "\u{1f600}\u{1f602}", None),
        (&["end"], "the end", "the ", Some("end")),
        (&["end"], "the en", "the en", None),
        (&["x"], "x", "", Some("x")),
        (&["\n"], "one\r\ntwo", "one\r", Some("\n")),
    ] {
        let expected = (said.to_owned(), stop.map(str::to_owned));
        assert_eq!(reference(strings, whole), expected, "{whole}");
        let places: Vec<usize> =
            (0..=whole.len()).filter(|at| whole.is_char_boundary(*at)).collect();
        for first in &places {
            for second in places.iter().filter(|second| *second >= first) {
                let (rest, last) = whole.split_at(*second);
                let (start, middle) = rest.split_at(*first);
                let parts = [start, middle, last];
                assert_eq!(read(strings, &parts), expected, "{parts:?}");
            }
        }
        let letters: Vec<String> = whole.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(read(strings, &letters), expected);
    }
}

proptest! {
    #[test]
    fn fragments_are_read_as_the_whole_text_is(
        strings in proptest::collection::vec("[ab\u{e9}]{1,5}", 1..5),
        fragments in proptest::collection::vec("[ab\u{e9}\u{ea}]{0,4}", 0..12),
    ) {
        let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
        let parts: Vec<&str> = fragments.iter().map(String::as_str).collect();
        prop_assert_eq!(read(&strings, &parts), reference(&strings, &fragments.concat()));
    }
}

#[test]
fn text_that_holds_nothing_back_is_passed_on_as_it_is() {
    let mut filter = filter_of(&["stop"], 1);
    let deltas = filtered(&mut filter, text(0, "some word"));
    assert!(matches!(&deltas[..], [Delta::Text { text: Cow::Borrowed("some word"), .. }]));
    assert_eq!(filtered(&mut filter, text(0, " and st")), [text(0, " and ")]);
    assert_eq!(filtered(&mut filter, text(0, "ar")), [text(0, "star")]);
}

#[test]
fn reasoning_and_tool_calls_are_not_searched_and_end_a_text() {
    let thought = || Delta::Reasoning { choice: 0, text: "the END".into() };
    let call = || Delta::ToolStart { choice: 0, call: 0, id: "c".into(), name: "END".into() };
    let arguments = || Delta::ToolArguments { choice: 0, call: 0, json: "END".into() };
    let refusal = || Delta::Refusal { choice: 0, text: "END".into() };
    let signature = || Delta::Signature { value: "END".into(), scheme: Scheme::Gemini };
    let upstream = || Delta::Stop { choice: 0, reason: Stop::MaxTokens };
    for delta in [thought, call, arguments, refusal, signature, upstream] as [fn() -> _; 6] {
        let mut filter = filter_of(&["END"], 1);
        assert_eq!(filtered(&mut filter, text(0, "an EN")), [text(0, "an ")]);
        assert_eq!(filtered(&mut filter, delta()), [text(0, "EN"), delta()]);
        assert_eq!(filtered(&mut filter, text(0, "D")), [text(0, "D")]);
        assert!(!filter.is_complete());
        assert_eq!(filtered(&mut filter, text(0, "END")), [sequence(0, "END")]);
        assert_eq!(filtered(&mut filter, delta()), []);
    }
    let mut filter = filter_of(&["END"], 1);
    assert_eq!(filtered(&mut filter, text(0, "EN")), []);
    let usage = Delta::Usage(Usage { output: Some(3), ..Usage::default() });
    for furniture in [usage, Delta::Opaque] {
        assert_eq!(filtered(&mut filter, furniture.clone()), [furniture]);
    }
    assert_eq!(filtered(&mut filter, text(0, "D")), [sequence(0, "END")]);
}

#[test]
fn alternatives_end_one_by_one() {
    let mut filter = filter_of(&["END"], 2);
    assert_eq!(filtered(&mut filter, text(0, "a E")), [text(0, "a ")]);
    assert_eq!(filtered(&mut filter, text(1, "ND b")), [text(1, "ND b")]);
    assert_eq!(filtered(&mut filter, text(0, "ND")), [sequence(0, "END")]);
    assert!(!filter.is_complete());
    let again = Delta::Stop { choice: 0, reason: Stop::End };
    assert_eq!(filtered(&mut filter, again), []);
    assert!(!filter.is_complete());
    assert_eq!(filtered(&mut filter, text(1, " c END")), [text(1, " c "), sequence(1, "END")]);
    assert!(filter.is_complete());

    let by_itself = || Delta::Stop { choice: 1, reason: Stop::End };
    let mut filter = filter_of(&["END"], 2);
    assert_eq!(filtered(&mut filter, by_itself()), [by_itself()]);
    assert_eq!(filtered(&mut filter, text(1, "more")), [text(1, "more")]);
    assert_eq!(filtered(&mut filter, text(0, "END")), [sequence(0, "END")]);
    assert!(!filter.is_complete(), "an alternative goes on after its stop");
    assert_eq!(filtered(&mut filter, by_itself()), [by_itself()]);
    assert!(filter.is_complete());
}

/// Log probabilities and sources stay with their text.
#[test]
fn what_belongs_to_text_waits_for_it() {
    let probable = |items: &'static str| Delta::Logprobs { choice: 0, items: items.into() };
    let cited = || Delta::Citation(Citation { mark: Some(1), ..Citation::default() });
    let mut filter = filter_of(&["the END"], 1);
    let mut deltas = vec![text(0, "a "), probable("1"), text(0, "the "), probable("2"), cited()];
    filter.pass(&mut deltas);
    assert_eq!(deltas, [text(0, "a "), probable("1")]);
    assert_eq!(filter.held, 4 + 1);
    let mut deltas = vec![text(0, "E"), probable("3"), text(0, "nd"), probable("4")];
    filter.pass(&mut deltas);
    assert_eq!(deltas, [text(0, "the End"), probable("2"), cited(), probable("3,4")]);
    assert_eq!(filter.held, 0);
    let mut deltas = vec![text(0, "s the "), probable("5"), text(0, "END"), probable("6"), cited()];
    filter.pass(&mut deltas);
    assert_eq!(deltas, [text(0, "s "), sequence(0, "the END")]);
    assert_eq!(filter.held, 0);
}

#[test]
fn strings_are_bounded_by_number_and_length() {
    let mut strings = StopStrings::new(1);
    assert!(!strings.add(String::new()) && !strings.add("x".repeat(LONGEST + 1)));
    assert!(StopFilter::new(strings.clone(), 0).is_none());
    for _ in 0..MOST {
        assert!(strings.add("x".repeat(LONGEST)));
    }
    assert!(!strings.add("y".to_owned()));
    assert_eq!(strings.strings().len(), MOST);
    let mut filter = StopFilter::new(strings, 0).expect("some");
    let before = filter.kept();
    assert!(before >= MOST * LONGEST);
    assert_eq!(filtered(&mut filter, text(0, "xx")), []);
    assert!(filter.kept() >= before + 2);
}
