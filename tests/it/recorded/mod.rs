//! Every recorded stream of the implemented dialects, in several cuttings, to every caller dialect,
//! streamed and collected. What the caller reads must be what the recording says, by readers that
//! share no code with the gateway, and what was written must be what was written before
//! (`digests`). Recordings stay outside the repository: without them each test reports that it is skipped.

mod agree;
mod anthropic;
mod bedrock;
mod bodies;
mod carried;
mod cohere;
mod digests;
mod extract;
mod gemini;
mod left_out;
mod ollama;
mod openai_chat;
mod openai_responses;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use streamgate::wire::dialect::{self, CallerDialect, Dialect, Form, Mode, caller_dialects};
use streamgate::wire::framing::{Frame, Framer, Framing};
use streamgate::wire::transcode::Transcoder;

use agree::{ended, to_others, translated, verbatim};
use carried::Carried;
use digests::Digest;
use extract::Recorded;

use crate::support::{Choice, Ended, Run, View, call, feed, natural_mode, reader};

/// Bodies of this size and more are not sent byte by byte, for the sake of the time it takes: what
/// could break there breaks in the shorter ones and in the fixtures, too. They are framed byte by
/// byte all the same.
const LONG: usize = 16 * 1024;

/// The largest frame that is allowed.
const CAP: usize = 32 << 20;

/// The number of tests of this process that were skipped.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Where the recordings are. Without them the test that asks is skipped, which is reported on standard
/// error with the number of tests so far; not by a macro, whose output the test harness captures.
fn recorded() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/recorded");
    if root.is_dir() {
        return Some(root);
    }
    let skipped = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let line =
        format!("skipped ({skipped}): {name}: there are no recordings at ../shared/recorded\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error");
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The status of an error response, from its file name.
fn status_of(name: &str) -> Option<u16> {
    name.split("__").find_map(|part| {
        let part = part.strip_prefix("http").unwrap_or(part).trim_end_matches(".json");
        part.parse::<u16>().ok().filter(|status| (400..600).contains(status))
    })
}

/// One recorded stream, and what it says.
struct Recording {
    name: String,
    body: Vec<u8>,
    framing: Framing,
    payloads: Vec<(String, String)>,
    view: View,
    carried: Carried,
    /// Why it cannot be held to the general rule.
    special: Option<&'static str>,
}

/// Whether a file holds a stream: the bytes as they came, or payloads only.
fn holds_stream(folder: &extract::Folder, name: &str) -> bool {
    let body = name.ends_with(folder.suffix) && !name.ends_with(".request.json");
    name.ends_with(".chunks.ndjson") || body && status_of(name).is_none()
}

/// The recordings of one dialect.
fn recordings(root: &Path, recorded: &Recorded) -> Vec<Recording> {
    let upstream = dialect::by_name(recorded.name).expect("a dialect");
    let mut out = Vec::new();
    for folder in recorded.folders {
        for path in files(&root.join(folder.name)) {
            let name = name_of(&path);
            if !holds_stream(folder, &name) {
                continue;
            }
            let mut body = std::fs::read(&path).expect("readable");
            if name.ends_with(".chunks.ndjson") {
                let text = String::from_utf8(body).expect("UTF-8");
                let payloads: Vec<&str> =
                    text.lines().filter(|line| !line.trim().is_empty()).collect();
                body = (recorded.framed)(&payloads);
            }
            let special = left_out::why(&name);
            let payloads = (folder.payloads)(&body);
            let view = if special.is_some() { View::default() } else { (recorded.view)(&payloads) };
            let carried = match special {
                Some(_) => Carried::default(),
                None => carried::carried(recorded.name, &payloads),
            };
            let framing = upstream.framing(folder.media_type);
            out.push(Recording { name, body, framing, payloads, view, carried, special });
        }
    }
    out
}

/// Every recording of a dialect to every caller: each dialect's own file has a test that calls this.
fn every_recording(recorded: &Recorded) {
    let Some(root) = self::recorded() else { return };
    let upstream = dialect::by_name(recorded.name).expect("a dialect");
    let mut failures = Vec::new();
    let mut digests = Vec::new();
    let (mut pairs, mut agreed) = (0, 0);
    for recording in recordings(&root, recorded) {
        let name = &recording.name;
        let mut row = format!("{name:<110} {:<40}", features(&recording));
        failures.extend(framed(&recording).err().map(|why| format!("{name}: {why}")));
        for caller in caller_dialects() {
            let mut pair = Pair { upstream, caller, recording: &recording, wrong: Vec::new() };
            digests.push(pair.all_ways());
            row.push_str(if pair.wrong.is_empty() { " ok" } else { " FAILED" });
            pairs += 1;
            agreed += usize::from(pair.wrong.is_empty());
            let pair_of = format!("{name} -> {}", caller.name());
            failures.extend(pair.wrong.into_iter().map(|why| format!("{pair_of}: {why}")));
        }
        println!("{row}");
    }
    println!("{agreed} of {pairs} pairs of recording and caller dialect agree");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    digests::compare(recorded.name, &digests);
}

/// A recording as a caller receives it.
pub(crate) struct Made<'r> {
    pub(crate) name: &'r str,
    pub(crate) bytes: Vec<u8>,
    /// The content of the bytes, read without the gateway's decoders. An undocumented finish reason is no end.
    pub(crate) view: View,
}

/// Calls `check` for every recording, as callers of this dialect receive it in the natural mode.
pub(crate) fn made(caller: &dyn CallerDialect, mut check: impl FnMut(&Made<'_>)) {
    let Some(root) = recorded() else { return };
    for recorded in extract::RECORDED {
        let upstream = dialect::by_name(recorded.name).expect("a dialect");
        let mode = natural_mode(upstream, caller);
        for recording in recordings(&root, recorded).iter().filter(|it| it.special.is_none()) {
            let run = run(upstream, caller, recording, (mode, true, true), recording.body.len());
            let view = if mode == Mode::Verbatim {
                to_others(&recording.view)
            } else {
                (reader(caller.name()).stream)(&run.out, true).expect("legal")
            };
            check(&Made { name: &recording.name, bytes: run.out, view });
        }
    }
}

fn features(recording: &Recording) -> String {
    if let Some(why) = recording.special {
        return format!("({why})");
    }
    let view = &recording.view;
    let mut said = Vec::new();
    let any = |what: fn(&Choice) -> bool| view.choices.values().any(what);
    for (name, there) in [
        ("text", any(|choice| !choice.text.is_empty())),
        ("reasoning", any(|choice| !choice.reasoning.is_empty())),
        ("tools", any(|choice| !choice.tools.is_empty())),
        ("refusal", any(|choice| !choice.refusal.is_empty())),
        ("usage", view.usage.is_some()),
        ("n>1", view.choices.len() > 1),
        ("sources", !recording.carried.sources.is_empty()),
        ("sealed", !recording.carried.seals.is_empty()),
        ("logprobs", !recording.carried.tokens.is_empty()),
        ("error", matches!(view.ended, Ended::Error(_))),
        ("cut", view.ended == Ended::Cut),
    ] {
        if there {
            said.push(name);
        }
    }
    said.join(",")
}

/// The frames are the same for every cut of the bytes. It is the only place where bytes count: what
/// follows sees frames.
fn framed(recording: &Recording) -> Result<(), String> {
    let frames = |step: usize| -> Vec<Frame> {
        let mut framer = Framer::new(recording.framing, CAP);
        let mut out = Vec::new();
        for piece in recording.body.chunks(step) {
            framer.push(Bytes::copy_from_slice(piece), &mut out).expect("it is below the cap");
        }
        framer.finish(&mut out);
        out
    };
    let whole = frames(recording.body.len());
    match [1, 7, 64, 1448].into_iter().find(|step| frames(*step) != whole) {
        None => Ok(()),
        Some(step) => Err(format!("cutting every {step} bytes changes its frames")),
    }
}

/// Sends a recording through the codec, in pieces of `step` bytes.
fn run(
    upstream: &dyn Dialect,
    caller: &dyn CallerDialect,
    recording: &Recording,
    (mode, stream, want_usage): (Mode, bool, bool),
    step: usize,
) -> Run {
    let (body, framing) = (&recording.body, recording.framing);
    let encoder = caller.encoder(&call(stream, want_usage), mode);
    let codec = Transcoder::new(framing, CAP, upstream.decoder(Form::Chat), encoder, mode);
    feed(codec, body, (step..body.len()).step_by(step))
}

/// One recording and one caller.
struct Pair<'a> {
    upstream: &'static dyn Dialect,
    caller: &'static dyn CallerDialect,
    recording: &'a Recording,
    wrong: Vec<String>,
}

impl Pair<'_> {
    /// Verbatim where it is natural, translated always, streamed and collected.
    fn all_ways(&mut self) -> Digest {
        let long = self.recording.body.len() >= LONG;
        let bytes = if long { 7 } else { 1 };
        let streamed = self.way(Mode::Translated, true, &[7, 1448]);
        let collected = self.way(Mode::Translated, false, &[bytes]);
        if self.upstream.name() == self.caller.name() {
            self.way(Mode::Verbatim, true, &[bytes, 1448]);
        }
        let (name, caller) = (self.recording.name.clone(), self.caller.name());
        Digest::of(name, caller, &streamed, &collected)
    }

    /// With and without usage. Returns what was written with it.
    fn way(&mut self, mode: Mode, stream: bool, steps: &[usize]) -> Vec<u8> {
        let whole = self.run((mode, stream, true), self.recording.body.len());
        // Whether usage was asked for cuts nothing.
        for step in steps {
            if self.run((mode, stream, true), *step) != whole {
                self.wrong(format!("{mode:?} stream={stream}: steps of {step} bytes change it"));
            }
        }
        self.agrees((mode, stream, true), &whole);
        let without = self.run((mode, stream, false), self.recording.body.len());
        self.agrees((mode, stream, false), &without);
        whole.out
    }

    fn run(&self, way: (Mode, bool, bool), step: usize) -> Run {
        run(self.upstream, self.caller, self.recording, way, step)
    }

    fn agrees(&mut self, (mode, stream, want_usage): (Mode, bool, bool), run: &Run) {
        let Recording { payloads, view, carried, special, .. } = self.recording;
        let pair = (self.upstream.name(), self.caller.name());
        let view = &if mode == Mode::Translated { to_others(view) } else { view.clone() };
        let result = match (special, mode) {
            // The output is valid, whatever the recording contains.
            (Some(_), Mode::Translated) if stream => {
                (reader(pair.1).stream)(&run.out, want_usage).map(drop)
            }
            (Some(_), _) => Ok(()),
            (None, Mode::Verbatim) => verbatim(pair.0, &run.out, payloads, want_usage),
            (None, Mode::Translated) => translated(pair, &run.out, view, (stream, want_usage)),
        };
        let result = result.and_then(|()| match special {
            Some(_) => Ok(()),
            None if mode == Mode::Translated && stream && view.ended == Ended::Complete => {
                carried::same(pair.1, carried::read(pair.1, &run.out), carried)
                    .and_then(|()| ended(&run.end, &view.ended))
            }
            None => ended(&run.end, &view.ended),
        });
        if let Err(why) = result {
            self.wrong(format!("{mode:?} stream={stream} usage={want_usage}: {why}"));
        }
    }

    fn wrong(&mut self, why: String) {
        self.wrong.push(why);
    }
}
