//! The `stream` section: heartbeats, timeouts and size limits of answers. Data only.

use std::time::Duration;

use super::Stream;
use super::field::{Field, Section};
use super::reader::{Reader, Table};
use super::units::{DURATION, POSITIVE_DURATION, POSITIVE_DURATION_OR_NONE, SIZE};

const HEARTBEAT: Field<Duration> = POSITIVE_DURATION
    .key("heartbeat", "Silence towards the caller after which a heartbeat is sent.")
    .default("15s");
const COMMIT_AFTER: Field<Duration> = DURATION
    .key(
        "commit_after",
        "Time that the response head waits for the first output, so that an early error has its own status; then it is 200.",
    )
    .default("10s");
const CONNECT: Field<Duration> = POSITIVE_DURATION
    .key("connect", "Timeout for connecting to an upstream, through its proxy if it has one.")
    .default("10s");
const CONNECTION_AGE: Field<Option<Duration>> = POSITIVE_DURATION_OR_NONE
    .key(
        "connection_age",
        "Time for which an upstream connection takes new requests, so that DNS changes take effect.",
    )
    .default("5m");
const FIRST_TOKEN: Field<Duration> = POSITIVE_DURATION
    .key("first_token", "Timeout from the request to the first output, over all targets.")
    .default("120s");
const UNSTREAMED: Field<Duration> = POSITIVE_DURATION
    .key(
        "unstreamed",
        "Timeout from the request to the whole answer, where it is neither streamed nor translated.",
    )
    .otherwise("`first_token` and `stall` together")
    .example("240s");
const STALL: Field<Duration> =
    POSITIVE_DURATION.key("stall", "Timeout between two outputs of an upstream.").default("120s");
const TOTAL: Field<Option<Duration>> =
    POSITIVE_DURATION_OR_NONE.key("total", "Timeout for the whole answer.").default("none");
const WRITE_STALL: Field<Duration> = POSITIVE_DURATION
    .key(
        "write_stall",
        "Time for which a caller may leave sent bytes unread before its connection is closed.",
    )
    .default("30s");
const MAX_EVENT: Field<usize> =
    SIZE.key("max_event", "The largest event of an upstream.").default("32MiB");
const MAX_ANSWER: Field<usize> = SIZE
    .key("max_answer", "The most that is buffered of one answer.")
    .otherwise("`max_event`")
    .example("32MiB");

pub(super) const STREAM: Section = Section::table(
    "stream",
    "Heartbeats, timeouts and size limits of answers.",
    &[
        HEARTBEAT.key,
        COMMIT_AFTER.key,
        CONNECT.key,
        CONNECTION_AGE.key,
        FIRST_TOKEN.key,
        UNSTREAMED.key,
        STALL.key,
        TOTAL.key,
        WRITE_STALL.key,
        MAX_EVENT.key,
        MAX_ANSWER.key,
    ],
);

impl Default for Stream {
    fn default() -> Self {
        let (first_token, stall) = (FIRST_TOKEN.default_value(), STALL.default_value());
        Self {
            heartbeat: HEARTBEAT.default_value(),
            commit_after: COMMIT_AFTER.default_value(),
            connect: CONNECT.default_value(),
            connection_age: CONNECTION_AGE.default_value(),
            first_token,
            unstreamed: first_token + stall,
            stall,
            total: TOTAL.default_value(),
            write_stall: WRITE_STALL.default_value(),
            max_event: MAX_EVENT.default_value(),
            max_answer: MAX_EVENT.default_value(),
        }
    }
}

/// Reads the section.
pub(super) fn stream(reader: &mut Reader<'_>, root: &Table<'_>) -> Stream {
    let table = reader.section(root, &STREAM);
    let first_token = reader.value(&table, &FIRST_TOKEN);
    let stall = reader.value(&table, &STALL);
    let max_event = reader.value(&table, &MAX_EVENT);
    Stream {
        heartbeat: reader.value(&table, &HEARTBEAT),
        commit_after: reader.value(&table, &COMMIT_AFTER),
        connect: reader.value(&table, &CONNECT),
        connection_age: reader.value(&table, &CONNECTION_AGE),
        first_token,
        unstreamed: reader.field(&table, &UNSTREAMED).unwrap_or(first_token + stall),
        stall,
        total: reader.value(&table, &TOTAL),
        write_stall: reader.value(&table, &WRITE_STALL),
        max_event,
        max_answer: reader.field(&table, &MAX_ANSWER).unwrap_or(max_event),
    }
}
