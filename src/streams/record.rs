//! Records of generations: the encoding in which an archive or another node keeps one, with a version. A restored
//! generation must have the same positions and the same bytes in every format as the one that was recorded.
//!
//! A generation has three parts. Its meta is known when its answer begins, and its end when that is over; both are JSON.
//! Its events are blocks: for each a byte of flags (1: written because the stream was cancelled), the length of the block
//! in 4 bytes, the lowest first, and the block as [`Event::block`] has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::event::{Event, Framing, State, StreamEnd};
use super::generation::{Generation, Origin};
use super::position::Epoch;
use crate::config::OnDisconnect;
use crate::wire::dialect::{CallerDialect, Clock, Ending, ResponseContext, caller_dialects};

/// The version of the encoding. A change of anything here, or of [`ResponseContext`], needs another one.
const VERSION: u16 = 1;

/// The flag of an event that was written because the stream was cancelled.
const CANCELLED: u8 = 1;

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// It was written in another version of the encoding.
    Version(u16),
    /// It is damaged. The message has none of its content.
    Damaged(&'static str),
    /// There is no memory for the generation.
    Memory,
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "the record has version {version}; this program reads {VERSION}")
            }
            Self::Damaged(part) => write!(f, "the record is damaged: {part}"),
            Self::Memory => f.write_str("there is no memory for the generation (server.memory)"),
        }
    }
}

impl std::error::Error for RecordError {}

/// The part of a generation that is known when its answer begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GenerationMeta {
    version: u16,
    /// The id of the generation.
    pub id: String,
    epoch: String,
    /// The name of its owner.
    pub owner: String,
    /// The name of its dialect.
    pub dialect: String,
    framing: FramingName,
    /// The context of the answer. Its clock is not recorded.
    pub context: ResponseContext,
    /// The conversation that it belongs to.
    pub chat: Option<String>,
    max_bytes: usize,
    key: Option<(String, String)>,
    headers: Vec<(String, String)>,
}

/// The end of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    state: StateName,
    /// The cause of a generation that is not complete.
    pub message: Option<String>,
    /// The last bytes of a body that is cut, in Base64; `None`: it ends normally.
    aborted: Option<String>,
    /// The time of the end, in Unix seconds.
    pub ended: u64,
    /// The time at which the clock of its derived formats has stopped.
    stopped: Option<u64>,
}

/// The events of a generation, and its end.
#[derive(Debug)]
pub struct RestoredEvents {
    /// The sequence number before the first event.
    pub trimmed: u64,
    /// The events after it.
    pub events: Vec<Event>,
    /// `None`: it is still being produced, by another node.
    pub end: Option<EndRecord>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FramingName {
    Sse,
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StateName {
    Complete,
    Error,
    Cancelled,
    Lost,
}

impl GenerationMeta {
    /// The meta of a generation. The headers of its answer are those that are known by now.
    pub fn of(generation: &Generation) -> Self {
        let Origin { owner, dialect, framing, context, chat, max_bytes, key, .. } =
            &generation.origin;
        let headers = generation.headers();
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        Self {
            version: VERSION,
            id: generation.id.clone(),
            epoch: generation.native.epoch.to_string(),
            owner: owner.to_string(),
            dialect: dialect.name().to_owned(),
            framing: match framing {
                Framing::Sse => FramingName::Sse,
                Framing::Ndjson => FramingName::Ndjson,
            },
            context: context.clone(),
            chat: chat.clone(),
            max_bytes: *max_bytes,
            key: key.as_ref().map(|(key, digest)| (key.clone(), STANDARD.encode(digest))),
            headers: headers.iter().filter_map(text).collect(),
        }
    }

    /// Its JSON.
    pub fn encode(&self) -> Vec<u8> {
        // Texts and numbers: there is nothing in it that JSON has no form for.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads its JSON.
    pub fn decode(json: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u16,
        }
        let damaged = |_| RecordError::Damaged("its meta is not the JSON that is expected");
        let Versioned { version } = serde_json::from_slice(json).map_err(damaged)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let meta: Self = serde_json::from_slice(json).map_err(damaged)?;
        meta.native()?;
        Epoch::parse(&meta.epoch).ok_or(RecordError::Damaged("its epoch"))?;
        Ok(meta)
    }

    /// Its epoch. It was checked when it was read.
    pub fn epoch(&self) -> Epoch {
        Epoch::parse(&self.epoch).unwrap_or_else(Epoch::random)
    }

    /// The framing of its events.
    pub fn framing(&self) -> Framing {
        match self.framing {
            FramingName::Sse => Framing::Sse,
            FramingName::Ndjson => Framing::Ndjson,
        }
    }

    /// The idempotency key of its request, and the SHA-256 of what it requested.
    pub fn key(&self) -> Option<(String, [u8; 32])> {
        let (key, digest) = self.key.as_ref()?;
        let digest = STANDARD.decode(digest).ok()?;
        Some((key.clone(), digest.try_into().ok()?))
    }

    /// The id of the response that it is, in a dialect that has such ids.
    pub fn response_id(&self) -> Option<String> {
        Some(self.native().ok()?.state()?.id(&self.context))
    }

    /// The headers of its answer.
    pub fn headers(&self) -> HeaderMap {
        let header = |(name, value): &(String, String)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        };
        self.headers.iter().filter_map(header).collect()
    }

    fn native(&self) -> Result<&'static dyn CallerDialect, RecordError> {
        let mut all = caller_dialects();
        let found = all.find(|dialect| dialect.name() == self.dialect);
        found.ok_or(RecordError::Damaged("its dialect is unknown"))
    }

    /// The request that it answers. `clock`: the one of its derived formats, where the end has none.
    pub fn origin(&self, clock: &Clock, end: Option<&EndRecord>) -> Result<Origin, RecordError> {
        let stopped = end.map(|end| Clock::stopped_at(end.stopped_at()));
        let now = stopped.unwrap_or_else(|| clock.stopping());
        Ok(Origin {
            owner: self.owner.as_str().into(),
            dialect: self.native()?,
            framing: self.framing(),
            context: ResponseContext { now, ..self.context.clone() },
            chat: self.chat.clone(),
            on_disconnect: OnDisconnect::Continue,
            max_bytes: self.max_bytes,
            key: self.key(),
        })
    }
}

impl EndRecord {
    /// The record of an end. `ended`: its time in Unix seconds.
    pub fn of(generation: &Generation, end: &StreamEnd, ended: u64) -> Self {
        Self {
            state: match end.state {
                State::Complete => StateName::Complete,
                State::Error => StateName::Error,
                State::Cancelled => StateName::Cancelled,
                // Nothing ends as a stream that is being produced.
                State::Lost | State::Streaming => StateName::Lost,
            },
            message: end.message.clone(),
            aborted: match &end.ending {
                Ending::Closed => None,
                Ending::Aborted { error } => Some(STANDARD.encode(error)),
            },
            ended,
            stopped: generation.origin.context.now.stopped(),
        }
    }

    /// Its JSON.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads its JSON.
    pub fn decode(json: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(json)
            .map_err(|_| RecordError::Damaged("its end is not the JSON that is expected"))
    }

    /// The state that it ended in.
    pub fn state(&self) -> State {
        match self.state {
            StateName::Complete => State::Complete,
            StateName::Error => State::Error,
            StateName::Cancelled => State::Cancelled,
            StateName::Lost => State::Lost,
        }
    }

    /// The time at which the clock of its derived formats has stopped, in Unix seconds.
    pub fn stopped_at(&self) -> u64 {
        self.stopped.unwrap_or(self.ended)
    }

    /// The end of the log.
    pub fn stream_end(&self) -> StreamEnd {
        let error = self.aborted.as_ref().map(|text| STANDARD.decode(text).unwrap_or_default());
        let aborted = |error: Vec<u8>| Ending::Aborted { error: error.into() };
        StreamEnd {
            state: self.state(),
            message: self.message.clone(),
            ending: error.map_or(Ending::Closed, aborted),
        }
    }
}

/// The blocks of events.
pub fn encode_events(events: &[Event]) -> Bytes {
    let bytes = events.iter().map(|event| event.block.len() + 5).sum();
    let mut out = BytesMut::with_capacity(bytes);
    for event in events {
        out.put_u8(if event.cancelled { CANCELLED } else { 0 });
        // An event is within the bounds of its producer, far below 4 GiB.
        out.put_u32_le(u32::try_from(event.block.len()).unwrap_or(u32::MAX));
        out.put_slice(&event.block);
    }
    out.freeze()
}

/// Reads blocks, of which the first is the event after a sequence number of this epoch.
pub fn decode_events(
    (epoch, trimmed): (Epoch, u64),
    framing: Framing,
    mut blocks: Bytes,
) -> Result<Vec<Event>, RecordError> {
    let mut events = Vec::new();
    let mut seq = trimmed;
    while blocks.has_remaining() {
        seq += 1;
        if blocks.remaining() < 5 {
            return Err(RecordError::Damaged("its events are cut"));
        }
        let flags = blocks.get_u8();
        let length = usize::try_from(blocks.get_u32_le()).unwrap_or(usize::MAX);
        if blocks.remaining() < length {
            return Err(RecordError::Damaged("its events are cut"));
        }
        let block = blocks.split_to(length);
        let event = Event::of_block(epoch.at(seq), framing, block)
            .ok_or(RecordError::Damaged("an event has another position"))?;
        events.push(Event { cancelled: flags & CANCELLED != 0, ..event });
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::MemoryBudget;
    use crate::streams::log::Read;
    use crate::streams::registry::Streams;
    use crate::telemetry::Metrics;
    use crate::wire::chat::ToolForms;
    use crate::wire::dialect::Form;
    use crate::wire::format::Format;

    fn origin(dialect: &str, framing: Framing) -> Origin {
        Origin {
            owner: "issuer#\u{e9}".into(),
            dialect: caller_dialects().find(|one| one.name() == dialect).unwrap(),
            framing,
            context: ResponseContext {
                id: "x".repeat(24),
                created: 7,
                model: "m".to_owned(),
                stream: true,
                want_usage: true,
                form: Form::Chat,
                echo: "{}".to_owned(),
                tool_forms: ToolForms::default(),
                input_estimate: 3,
                now: Clock::new(|| 42).stopping(),
            },
            chat: Some("chat-1".to_owned()),
            on_disconnect: OnDisconnect::Cancel,
            max_bytes: 1 << 20,
            key: Some(("key".to_owned(), [7; 32])),
        }
    }

    fn parts(generation: &Generation) -> (Vec<u8>, Vec<u8>, Bytes) {
        let Read::Entries { entries, .. } = generation.native.log.read(0, usize::MAX) else {
            panic!("no events");
        };
        let end = generation.extent().end.unwrap();
        let end = EndRecord::of(generation, &end, generation.ended_at().unwrap());
        (GenerationMeta::of(generation).encode(), end.encode(), encode_events(&entries))
    }

    fn restored(
        streams: &Streams,
        (meta, end, blocks): &(Vec<u8>, Vec<u8>, Bytes),
    ) -> std::sync::Arc<Generation> {
        let meta = GenerationMeta::decode(meta).unwrap();
        let end = EndRecord::decode(end).unwrap();
        let events = decode_events((meta.epoch(), 0), meta.framing(), blocks.clone()).unwrap();
        let events = RestoredEvents { trimmed: 0, events, end: Some(end) };
        streams.restore(&meta, events, &Clock::new(|| 99)).unwrap()
    }

    /// Everything that a viewer may see of a generation.
    fn shown(generation: &Generation) -> Vec<String> {
        let all = Format::all().filter_map(|format| {
            let track = generation.in_format(format)?;
            track.advance(generation);
            Some(format!(
                "{} {:?} {:?}",
                format.name(),
                track.log.read(0, usize::MAX),
                track.log.extent()
            ))
        });
        let native = &generation.native;
        let own = format!("{:?} {:?}", native.log.read(0, usize::MAX), native.log.extent());
        all.chain([own, format!("{:?} {:?}", generation.headers(), generation.ended_at())])
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_generation_has_the_same_positions_and_bytes_in_every_format() {
        let memory = MemoryBudget::new(1 << 30, &Metrics::default());
        let [one, two] = [(), ()].map(|()| Streams::new(&memory.streams));
        let chat = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
        let stop = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let line = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n";
        let done = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done_reason\":\"stop\",\"done\":true}\n";
        let aborted = Ending::Aborted { error: Bytes::from_static(b"\x00\xffdata") };
        for (dialect, framing, pieces, cancelled, ending) in [
            ("openai-chat", Framing::Sse, [chat, stop], false, Ending::Closed),
            (
                "openai-chat",
                Framing::Sse,
                [chat, "data: {\"error\":{\"message\":\"cancelled\"}}\n\n"],
                true,
                aborted,
            ),
            ("ollama", Framing::Ndjson, [line, done], false, Ending::Closed),
        ] {
            let generation = one.begin(origin(dialect, framing), 10).unwrap();
            let mut head = HeaderMap::new();
            head.insert("x-upstream-request-id", HeaderValue::from_static("up-1"));
            generation.opened(Ok(head));
            generation.append(pieces[0].as_bytes(), false);
            generation.append(pieces[1].as_bytes(), cancelled);
            let state = if cancelled { State::Cancelled } else { State::Complete };
            let message = cancelled.then(|| "cancelled".to_owned());
            generation.close(StreamEnd { state, message, ending }, 43);
            let before = shown(&generation);
            let record = parts(&generation);
            let copy = restored(&two, &record);
            assert_eq!(shown(&copy), before);
            assert_eq!(copy.origin.key, generation.origin.key);
            let again = parts(&copy);
            assert_eq!((again.0, again.2), (record.0, record.2));
            assert!(two.get(&generation.origin.owner, &generation.id).is_some());
            assert!(two.at(&generation.origin.owner, generation.native.epoch.at(1)).is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_record_is_an_error_and_never_a_shorter_stream() {
        let memory = MemoryBudget::new(1 << 30, &Metrics::default());
        let streams = Streams::new(&memory.streams);
        let generation = streams.begin(origin("openai-chat", Framing::Sse), 10).unwrap();
        generation.append(b"data: a\n\ndata: b\n\n", false);
        let end = StreamEnd { state: State::Complete, message: None, ending: Ending::Closed };
        generation.close(end, 7);
        let (meta, _, blocks) = parts(&generation);
        let at = (generation.native.epoch, 0);
        let first = blocks.len() / 2;
        for cut in (1..blocks.len()).filter(|cut| *cut != first) {
            assert!(decode_events(at, Framing::Sse, blocks.slice(..cut)).is_err(), "{cut}");
        }
        assert!(decode_events((at.0, 1), Framing::Sse, blocks).is_err());
        let text = String::from_utf8(meta).unwrap();
        for (wrong, expected) in [
            (text.replace("\"version\":1", "\"version\":2"), RecordError::Version(2)),
            (text.replace("openai-chat", "nobody"), RecordError::Damaged("its dialect is unknown")),
            (text.replace(&at.0.to_string(), "short"), RecordError::Damaged("its epoch")),
        ] {
            assert_eq!(GenerationMeta::decode(wrong.as_bytes()).unwrap_err(), expected);
        }
        assert!(GenerationMeta::decode(b"{\"version\":1}").is_err());
        assert!(GenerationMeta::decode(b"").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), trimmed in any::<u32>()) {
            let at = (Epoch::random(), trimmed.into());
            let read = decode_events(at, Framing::Ndjson, bytes.clone().into());
            prop_assert!(read.is_err() || bytes.is_empty());
            prop_assert!(GenerationMeta::decode(&bytes).is_err());
            prop_assert!(EndRecord::decode(&bytes).is_err());
        }
    }
}
