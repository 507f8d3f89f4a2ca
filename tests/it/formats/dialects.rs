//! Native bytes read again for viewers of another dialect: they receive what a caller of that dialect would have
//! received of the upstream, as far as the native dialect can express it.

use streamgate::wire::dialect::{CallerDialect, DIALECTS, Dialect, Form, Mode, caller_dialects};
use streamgate::wire::format::Format;
use streamgate::wire::transcode::Transcoder;

use super::{CAP, native, run, seen, words};
use crate::golden::streams;
use crate::support::{Choice, Ended, Run, Tool, View, call, feed, must, natural_mode, reader};

/// Cases with something that a native dialect cannot express: the case, the dialects (all: none is named), and what
/// viewers miss.
const LOST: [(&str, &[&str], Lost); 5] = [
    ("stop-sequence", &["gemini", "ollama", "openai-chat", "openai-responses"], Lost::Stop),
    ("lone-surrogates", &["gemini", "ollama", "openai-chat", "openai-responses"], Lost::Stop),
    ("pause", &[], Lost::Stop),
    // A refusal is text there, and its stop one by a filter or by the model.
    ("refusal", &["anthropic", "cohere", "gemini", "ollama"], Lost::Stop),
    // Where an explanation is text, it stays text in a dialect that has a member for it.
    ("refusal", &[], Lost::Explanation),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lost {
    /// The stop reason.
    Stop,
    /// The place of a refusal's explanation, or all of it.
    Explanation,
}

fn loses(case: &str, maker: &dyn CallerDialect, what: Lost) -> bool {
    LOST.iter().any(|(name, makers, lost)| {
        *name == case && *lost == what && (makers.is_empty() || makers.contains(&maker.name()))
    })
}

/// An upstream's bytes as this caller receives them. The gateway names every answer.
fn sent(upstream: &dyn Dialect, caller: &dyn CallerDialect, mode: Mode, bytes: &[u8]) -> Run {
    let call = call(true, true);
    let mut decoder = upstream.decoder(Form::Chat);
    decoder.name(&call.id);
    let encoder = caller.encoder(&call, mode);
    feed(Transcoder::new(upstream.framing(""), CAP, decoder, encoder, mode), bytes, [])
}

/// Whether a viewer and a caller have read the same of the first alternative: text with refusals, since not every
/// dialect has a place for these. Of an answer that is not complete, a part may be missing at the end.
fn same(viewer: &View, caller: &View, explained: bool) -> Result<(), String> {
    let nothing = Choice::default();
    let [got, expected] = [viewer, caller].map(|view| view.choices.get(&0).unwrap_or(&nothing));
    let complete = caller.ended == Ended::Complete;
    let same = |got: &str, all: &str| got == all || !complete && all.starts_with(got);
    let (said, all) = (words(got), words(expected));
    let text = same(&said, &all) || explained && (said.starts_with(&all) || all.starts_with(&said));
    let tool = |(got, all): (&Tool, &Tool)| {
        let input = !complete || got.value() == all.value();
        (&got.id, &got.name) == (&all.id, &all.name) && input
    };
    let agree = std::mem::discriminant(&viewer.ended) == std::mem::discriminant(&caller.ended)
        && text
        && same(&got.reasoning, &expected.reasoning)
        && (!complete || got.tools.len() == expected.tools.len())
        && got.tools.iter().zip(&expected.tools).all(tool);
    must(agree, || format!("{viewer:#?}\nexpected {caller:#?}"))
}

/// One generation, made for callers of one dialect and viewed in another.
struct Generation<'g> {
    case: &'g str,
    maker: &'static dyn CallerDialect,
    bytes: &'g [u8],
}

impl Generation<'_> {
    /// Compares what viewers of a dialect read with what its callers do.
    fn compare(&self, wanted: &'static dyn CallerDialect, direct: &[u8]) -> Result<(), String> {
        let format = Format::Dialect(wanted);
        let viewer = seen(format, &run(native(self.maker), format, self.bytes, []).out)?.view;
        let caller = seen(format, direct)?.view;
        let lost = |what| loses(self.case, self.maker, what);
        same(&viewer, &caller, lost(Lost::Explanation))?;
        if caller.ended != Ended::Complete {
            return Ok(());
        }
        let told = |usage| (reader(wanted.name()).told)((reader(self.maker.name()).told)(usage));
        // Some dialects require counts that the upstream has not sent.
        let usage = told(caller.usage.unwrap_or_default());
        let got = viewer.usage.unwrap_or_default();
        must(got == usage, || format!("{got:?}, expected {usage:?}"))?;
        let [got, expected] = [&viewer, &caller].map(|view| &view.choices[&0].stop);
        must(got == expected || lost(Lost::Stop), || format!("stop {got:?}, expected {expected:?}"))
    }
}

#[test]
fn viewers_of_other_dialects_lose_nothing() {
    let mut failures = Vec::new();
    for upstream in DIALECTS.iter().copied() {
        for (case, bytes) in streams(upstream.name()) {
            let direct: Vec<_> = caller_dialects()
                .map(|wanted| (wanted, sent(upstream, wanted, Mode::Translated, &bytes)))
                .collect();
            for maker in caller_dialects() {
                let made = sent(upstream, maker, natural_mode(upstream, maker), &bytes);
                let generation = Generation { case: &case, maker, bytes: &made.out };
                for (wanted, direct) in direct.iter().filter(|it| it.0.name() != maker.name()) {
                    let told = generation.compare(*wanted, &direct.out);
                    let place = format!("{case} by {} as {}", maker.name(), wanted.name());
                    failures.extend(told.err().map(|why| format!("{place}: {why}")));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
