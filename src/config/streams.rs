//! The `streams` section: durable streams, their number and retention. Data only.

use std::path::PathBuf;
use std::time::Duration;

use super::compression::{COMPRESSION, StreamEncodings, compression};
use super::field::{Field, Format, Notation, Section};
use super::reader::{Reader, Table};
use super::units::{
    BOOLEAN, DURATION, POSITIVE, POSITIVE_DURATION, POSITIVE_DURATION_OR_NONE, SIZE, TEXT,
    positive_duration,
};

/// The consequence for a durable stream of having no viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It is cancelled.
    Cancel,
    /// It continues.
    Continue,
    /// It is cancelled unless a viewer comes within this time.
    Grace(Duration),
}

impl OnDisconnect {
    /// Reads `cancel`, `continue` or `grace(30s)`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "cancel" => Some(Self::Cancel),
            "continue" => Some(Self::Continue),
            _ => {
                let grace = text.strip_prefix("grace(")?.strip_suffix(')')?;
                positive_duration(grace).map(Self::Grace)
            }
        }
    }
}

const ON_DISCONNECT_FORMAT: Format<OnDisconnect> = Format::new(
    "`cancel`, `continue` or `grace(30s)`",
    "`cancel`, `continue` or a grace period such as `grace(30s)`",
    Notation::Pattern("cancel|continue|grace\\(0*[1-9][0-9]*(ms|s|m|h)\\)"),
    OnDisconnect::parse,
);

const ON_DISCONNECT: Field<OnDisconnect> = ON_DISCONNECT_FORMAT
    .key(
        "on_disconnect",
        "Handling of a resumable stream without viewers: cancelled at once, continued and paid for, or cancelled after a grace period.",
    )
    .default("continue");
const KEEP: Field<Duration> = POSITIVE_DURATION
    .key(
        "keep",
        "Time for which a stream that has ended can be read again, from its last reading on.",
    )
    .default("15m");
const MAX_STREAM: Field<usize> = SIZE
    .key("max_stream", "The most bytes of one stream; its oldest events are trimmed beyond it.")
    .default("8MiB");
const PER_CALLER: Field<u64> = POSITIVE
    .key("per_caller", "The most streams of one caller that run or are kept.")
    .default("1000");
const STORE: Field<Option<Duration>> = POSITIVE_DURATION_OR_NONE
    .key(
        "store",
        "Time for which responses are stored that requests of OpenAI's Responses API may refer to; for upstreams that keep no responses themselves.",
    )
    .default("1h");
const COALESCE: Field<Duration> = DURATION
    .key(
        "coalesce",
        "Shortest time between two writes to a viewer; the first output is written at once. `0ms`: every event is.",
    )
    .default("16ms");
const PATH: Field<String> = TEXT
    .key(
        "path",
        "File, relative to this one, in which streams that have ended, stored responses, conversations and the history of channels survive a restart. It takes effect at the start.",
    )
    .otherwise("they are kept in memory only")
    .example("/var/lib/streamgate/streams.redb");
const MAX_DISK: Field<usize> = SIZE
    .key(
        "max_disk",
        "The most bytes that `path` keeps; beyond it, what expires first makes room. The file itself is somewhat larger.",
    )
    .default("1GiB");
/// As `channels.lifetime`: shorter than the limit that most proxies set to a response.
const LIFETIME: Field<Option<Duration>> = POSITIVE_DURATION_OR_NONE
    .key(
        "lifetime",
        "The longest that a connection follows `/v1/streams/{id}`; each ends after 80 to 100 % of it, and its client resumes.",
    )
    .default("10m");

pub(super) const STREAMS_SECTION: Section = Section::table(
    "streams",
    "Durable streams, which outlive their callers' connections (docs/streams.md).",
    &[
        ON_DISCONNECT.key,
        KEEP.key,
        MAX_STREAM.key,
        PER_CALLER.key,
        STORE.key,
        COALESCE.key,
        PATH.key,
        MAX_DISK.key,
        LIFETIME.key,
        COMPRESSION.key,
    ],
);

const RESUMABLE: Field<bool> = BOOLEAN
    .key(
        "resumable",
        "Whether every stream of the model is resumable, also without the request header.",
    )
    .default("false");

pub(super) const MODEL_STREAM: Section = Section::table(
    "stream",
    "Durable streams of the model (docs/streams.md).",
    &[RESUMABLE.key, ON_DISCONNECT.otherwise("`streams.on_disconnect`").key],
);

/// Durable streams.
#[derive(Debug, Clone, Copy)]
pub struct Streams {
    /// The consequence of having no viewers.
    pub on_disconnect: OnDisconnect,
    /// Time for which a stream that has ended is kept after it was last read.
    pub keep: Duration,
    /// The most bytes of one stream.
    pub max_stream: usize,
    /// The most streams of one caller.
    pub per_caller: u64,
    /// Time for which responses are stored. `None`: they are not.
    pub store: Option<Duration>,
    /// The shortest time between two writes to a viewer.
    pub coalesce: Duration,
    /// The longest that a connection follows a stream. `None`: no limit.
    pub lifetime: Option<Duration>,
    /// The encodings in which event streams of channels and durable streams may be compressed.
    pub compression: StreamEncodings,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            on_disconnect: ON_DISCONNECT.default_value(),
            keep: KEEP.default_value(),
            max_stream: MAX_STREAM.default_value(),
            per_caller: PER_CALLER.default_value(),
            store: STORE.default_value(),
            coalesce: COALESCE.default_value(),
            lifetime: LIFETIME.default_value(),
            compression: StreamEncodings::default(),
        }
    }
}

/// The archive on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// The file.
    pub path: PathBuf,
    /// The most bytes of its records.
    pub max_disk: u64,
}

/// Durable streams of one model.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelStream {
    /// Whether every stream is resumable.
    pub resumable: bool,
    /// The consequence of having no viewers, where it is not that of all models.
    pub on_disconnect: Option<OnDisconnect>,
}

/// Reads the section: durable streams, and the archive if there is to be one.
pub(super) fn streams(reader: &mut Reader<'_>, root: &Table<'_>) -> (Streams, Option<Archive>) {
    let table = reader.section(root, &STREAMS_SECTION);
    let path = reader.field(&table, &PATH).filter(|path| !path.is_empty());
    let max_disk = reader.value(&table, &MAX_DISK);
    let archive = path.map(|path| Archive {
        path: reader.source.dir.join(path),
        max_disk: u64::try_from(max_disk).unwrap_or(u64::MAX),
    });
    let streams = Streams {
        on_disconnect: reader.value(&table, &ON_DISCONNECT),
        keep: reader.value(&table, &KEEP),
        max_stream: reader.value(&table, &MAX_STREAM),
        per_caller: reader.value(&table, &PER_CALLER),
        store: reader.value(&table, &STORE),
        coalesce: reader.value(&table, &COALESCE),
        lifetime: reader.value(&table, &LIFETIME),
        compression: compression(reader, &table),
    };
    (streams, archive)
}

/// Reads the section of a model.
pub(super) fn model_stream(reader: &mut Reader<'_>, model: &Table<'_>) -> ModelStream {
    let table = reader.section(model, &MODEL_STREAM);
    ModelStream {
        resumable: reader.value(&table, &RESUMABLE),
        on_disconnect: reader.field(&table, &ON_DISCONNECT),
    }
}
