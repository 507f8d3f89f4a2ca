//! Viewers' formats: native bytes of every caller dialect in, each format out. Golden files, every cut, every
//! truncation, any order of deltas, and the recordings. The readers must never use the gateway's decoders.

mod dialects;
mod golden;
mod legal;
mod read;
mod recorded;
mod ui;

use bytes::Bytes;
use streamgate::wire::chat::End;
use streamgate::wire::dialect::{CallerDialect, Dialect, ResponseContext, by_name};
use streamgate::wire::format::{Format, Snapshot, transcoder};
use streamgate::wire::transcode::Transcoder;

use crate::support::{Choice, Run, call, feed, reader};
use read::Seen;

/// The largest frame that is allowed.
const CAP: usize = 32 << 20;

/// The formats that are streams of no vendor's dialect.
const STREAMS: [Format; 3] = [Format::Ui, Format::Text, Format::Events];

/// The same dialect, as what a generation is made in.
fn native(caller: &dyn CallerDialect) -> &'static dyn Dialect {
    by_name(caller.name()).expect("it is a dialect")
}

fn codec(native: &'static dyn Dialect, format: Format, context: &ResponseContext) -> Transcoder {
    transcoder(native, format, context, CAP).expect("another format")
}

/// Native bytes, cut at `cuts`, in a format.
fn run(
    native: &'static dyn Dialect,
    format: Format,
    bytes: &[u8],
    cuts: impl IntoIterator<Item = usize>,
) -> Run {
    feed(codec(native, format, &call(true, true)), bytes, cuts)
}

/// Reads a stream in a format, with its strict reader.
fn seen(format: Format, bytes: &[u8]) -> Result<Seen, String> {
    match format {
        Format::Ui => ui::stream(bytes),
        Format::Text => read::text(bytes),
        Format::Events => read::ours(bytes),
        Format::Dialect(dialect) => {
            let view = (reader(dialect.name()).stream)(bytes, true)?;
            Ok(Seen { view, state: String::new() })
        }
        Format::Native | Format::Snapshot => Err(format!("{format:?} has no reader")),
    }
}

/// The document that events add up to.
fn summed(events: &[u8]) -> String {
    let mut snapshot = Snapshot::default();
    snapshot.push(&Bytes::copy_from_slice(events));
    snapshot.document("0123456789abcdefghijABCD", "abcdefghijkl_0000000042")
}

/// Text as an event stream carries it: every line end is a LF.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The text of an answer where a refusal has no place of its own. The order of both is known if only one was said.
fn words(choice: &Choice) -> String {
    format!("{}{}", choice.text, choice.refusal)
}

/// Whether a format's end is that of the codec.
fn same_end(end: &End, state: &str) -> bool {
    (*end == End::Complete) == (state == "complete")
}
