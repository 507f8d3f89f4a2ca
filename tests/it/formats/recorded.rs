//! The recordings in every native dialect and every format: all have the same text, reasoning and tool calls.

use streamgate::wire::chat::End;
use streamgate::wire::dialect::{CallerDialect, caller_dialects};
use streamgate::wire::format::Format;

use super::{lines, native, read, run, same_end, seen, summed, words};
use crate::recorded::{Made, made};
use crate::support::{Choice, Ended};

/// Compares a recording, as this dialect makes it, in every format.
fn agrees(maker: &'static dyn CallerDialect, made: &Made<'_>) -> Result<(), String> {
    let read = |format: Format| {
        let run = run(native(maker), format, &made.bytes, []);
        let seen = seen(format, &run.out).map_err(|why| format!("{format:?}: {why}"))?;
        let fits = same_end(&run.end, &seen.state);
        crate::support::must(fits, || format!("{format:?}: {:?}, {}", run.end, seen.state))?;
        Ok::<_, String>((run, seen))
    };
    let (run, events) = read(Format::Events)?;
    let snapshot = read::snapshot(&summed(&run.out))?;
    let (_, ui) = read(Format::Ui)?;
    let (_, text) = read(Format::Text)?;
    let got = events.choice();
    let same = snapshot == events
        && text.choice().text == lines(&got.text)
        && (&ui.choice().text, &ui.choice().reasoning) == (&got.text, &got.reasoning)
        && ui.choice().tools == got.tools;
    crate::support::must(same, || format!("{ui:#?}\n{text:#?}\n{events:#?}\n{snapshot:#?}"))?;
    let nothing = Choice::default();
    let expected = made.view.choices.get(&0).unwrap_or(&nothing);
    let complete = made.view.ended == Ended::Complete;
    crate::support::must((run.end == End::Complete) == complete, || {
        format!("{:?}, and it was made {:?}", run.end, made.view.ended)
    })?;
    // Gemini's `finishMessage`, where its callers find an explanation, is read for failures only.
    let unread = maker.name() == "gemini" && got.text == expected.text;
    let same =
        (got.text == words(expected) || unread)
            && got.reasoning == expected.reasoning
            && got.tools.len() == expected.tools.len()
            && got.tools.iter().zip(&expected.tools).all(|(got, expected)| {
                got.name == expected.name && got.value() == expected.value()
            });
    crate::support::must(same, || format!("{got:#?}\nand it was made {expected:#?}"))
}

#[test]
fn recordings_are_the_same_in_every_format() {
    let (mut pairs, mut failures) = (0, Vec::new());
    for maker in caller_dialects() {
        made(maker, |made| {
            pairs += 1;
            let told = agrees(maker, made);
            let place = format!("{} by {}", made.name, maker.name());
            failures.extend(told.err().map(|why| format!("{place}: {why}")));
        });
    }
    println!("{} of {pairs} pairs of recording and native dialect agree", pairs - failures.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
