//! Tests of answers: redaction, and when output is written together. They open no connection.

use super::*;
use crate::gateway::scripted::answer;
use crate::gateway::source_script::Step;

#[test]
fn ids_of_accounts_are_redacted() {
    let clean = |text: &str| {
        let clean = without_ids(Bytes::copy_from_slice(text.as_bytes()), b"org-");
        String::from_utf8(clean.to_vec()).unwrap()
    };
    assert_eq!(
        clean("Limit of org-abcdefgh12345678 and org-abcdefgh12345678, in org-zyxwvuts87654321."),
        "Limit of [redacted] and [redacted], in [redacted]."
    );
    for text in ["", "org-", "org-wide", "cyborg-abcdefgh12345678", "the org- of it"] {
        assert_eq!(clean(text), text);
    }
}

#[test]
fn secrets_are_redacted_with_and_without_escapes() {
    let clean = |text: &str, secret: &str| {
        let clean = without(Bytes::copy_from_slice(text.as_bytes()), secret);
        String::from_utf8(clean.to_vec()).unwrap()
    };
    for (secret, spellings) in [
        ("secret+/key", &["secret+/key", r"secret+\/key", r"secret\u002b\u002Fkey"][..]),
        (r#"say "hi" 1"#, &[r#"say "hi" 1"#, r#"say \"hi\" 1"#, r#"say \\\"hi\\\" 1"#]),
        (r"back\slash", &[r"back\slash", r"back\\slash", r"back\\\\slash", r"back\u005cslash"]),
        ("schlüssel", &["schlüssel", r"schl\u00fcssel", r"schl\\u00FCssel"]),
        (
            "secret+/key",
            &["secret%2B%2Fkey", "secret%2b/key", "%73ecret%2B%2fkey", "secret%252B%252Fkey"],
        ),
        ("pass word", &["pass word", "pass+word", "pass%20word", r"pass\u0020word"]),
        ("schlüssel", &["schl%C3%BCssel", "schl%c3%bcssel"]),
        ("100%safe", &["100%safe", "100%25safe"]),
        ("clef-\u{1f511}-ok", &["clef-\u{1f511}-ok", r"clef-\ud83d\udd11-ok"]),
    ] {
        for spelling in spellings {
            let text = format!(r#"{{"a":"{spelling}","b":"\n{spelling}."}}"#);
            assert_eq!(
                clean(&text, secret),
                r#"{"a":"[redacted]","b":"\n[redacted]."}"#,
                "{spelling}"
            );
        }
    }
    for text in [
        "",
        "%",
        "secret%2",
        "secret%2B%2",
        "secret%zz/key",
        "secret%2B%2Fke",
        r"\",
        r"\u",
        r"\u00",
        "secret+",
        r"secret\u002b\u002",
        r"secret\",
    ] {
        assert_eq!(clean(text, "secret+/key"), text);
    }
    assert_eq!(clean("a short one", "short"), "a short one");
}

/// An answer whose upstream has another chunk each time that a slow worker comes round to it.
fn answer_on_a_slow_worker(turn: Duration) -> Box<Answer> {
    let steps = [Step::Busy(turn), Step::Chunk("data: {}\n\n".into())];
    answer(true, steps.into_iter().cycle().take(200))
}

/// Otherwise a stream on a busy worker is silent for as long as its upstream has another token by the time that
/// it is polled again: for seconds, as `tests/chaos/run` found.
#[tokio::test(start_paused = true)]
async fn output_is_not_held_back_for_chunks_that_keep_coming() {
    for turn in [SAME_BURST / 4, SAME_BURST, MAX_HOLD, MAX_HOLD * 5] {
        let late = turn.max(SAME_BURST);
        let mut answer = answer_on_a_slow_worker(turn);
        answer.burst.bursty = true;
        let chunk = answer.source.chunk().await;
        let begun = Instant::now();
        answer.take_all(chunk, begun, MAX_HOLD).await;
        let held = begun.elapsed();
        assert!(held < MAX_HOLD + late, "held back for {held:?} with a turn of {turn:?}");
        let begun = Instant::now();
        answer.take_arrived().await;
        let held = begun.elapsed();
        assert!(held < MAX_HOLD + late, "held back for {held:?} with a turn of {turn:?}");
    }
}

#[test]
fn others_are_waited_for_only_where_they_come_together() {
    let begun = Instant::now();
    let mut burst = BurstDetector::default();
    let mut more = |millis, bursty| {
        let more = burst.expect_more(begun + Duration::from_millis(millis));
        burst.bursty = bursty;
        more
    };
    assert!(!more(0, false), "the first one leaves at once");
    assert!(!more(20, false), "one by one");
    assert!(more(20, true), "close upon the last one");
    assert!(more(40, true), "several, as the last time");
    assert!(more(60, false), "several were there the last time, but not this time");
    assert!(!more(80, false), "one by one again");
}
