//! The `durable` section: bounds and times of the Durable Streams protocol at `/v1/stream/...`. Data only.

use std::time::Duration;

use super::Durable;
use super::field::{Field, Section};
use super::reader::{Reader, Table};
use super::units::{BOOLEAN, POSITIVE, POSITIVE_DURATION, POSITIVE_DURATION_OR_NONE, SIZE};

const ENABLED: Field<bool> =
    BOOLEAN.key("enabled", "Whether `/v1/stream/...` is served.").default("true");
const MEMORY: Field<usize> = SIZE
    .key(
        "memory",
        "Memory that all streams may take together, beside `server.memory`; those of one caller at most three quarters of it.",
    )
    .default("64MiB");
const STREAM_SIZE: Field<usize> = SIZE.key("stream_size", "The largest stream.").default("16MiB");
const STREAMS: Field<u64> =
    POSITIVE.key("streams", "Streams that one caller may have at once.").default("1000");
const LIVE_READS: Field<u64> = POSITIVE
    .key("live_reads", "Long polls and event streams that one caller may have open at once.")
    .default("1000");
const TTL: Field<Option<Duration>> = POSITIVE_DURATION_OR_NONE
    .key(
        "ttl",
        "Time without reads and appends after which a stream is deleted that sets no expiry of its own.",
    )
    .default("24h");
const LONG_POLL: Field<Duration> = POSITIVE_DURATION
    .key("long_poll", "Time for which a long poll waits for an append.")
    .default("25s");
const CONNECTION_AGE: Field<Duration> = POSITIVE_DURATION
    .key(
        "connection_age",
        "Time after which an event stream is closed, so that its client connects again; up to a fifth less.",
    )
    .default("60s");

pub(super) const DURABLE: Section = Section::table(
    "durable",
    "Streams that applications append to and follow (docs/durable-streams.md).",
    &[
        ENABLED.key,
        MEMORY.key,
        STREAM_SIZE.key,
        STREAMS.key,
        LIVE_READS.key,
        TTL.key,
        LONG_POLL.key,
        CONNECTION_AGE.key,
    ],
);

impl Default for Durable {
    fn default() -> Self {
        Self {
            enabled: ENABLED.default_value(),
            memory: MEMORY.default_value(),
            stream_size: STREAM_SIZE.default_value(),
            streams: count(STREAMS.default_value()),
            live_reads: count(LIVE_READS.default_value()),
            ttl: TTL.default_value(),
            long_poll: LONG_POLL.default_value(),
            connection_age: CONNECTION_AGE.default_value(),
        }
    }
}

/// Reads the section.
pub(super) fn durable(reader: &mut Reader<'_>, root: &Table<'_>) -> Durable {
    let table = reader.section(root, &DURABLE);
    Durable {
        enabled: reader.value(&table, &ENABLED),
        memory: reader.value(&table, &MEMORY),
        stream_size: reader.value(&table, &STREAM_SIZE),
        streams: count(reader.value(&table, &STREAMS)),
        live_reads: count(reader.value(&table, &LIVE_READS)),
        ttl: reader.value(&table, &TTL),
        long_poll: reader.value(&table, &LONG_POLL),
        connection_age: reader.value(&table, &CONNECTION_AGE),
    }
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
