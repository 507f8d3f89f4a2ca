//! Durable streams as sources of a subscription, and their announcements on their owners' own channels.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::hub::Hub;
use super::publication::Publication;
use super::source::{Audience, Event, Source, SourceRead};
use super::wakeup::Worker;
use crate::streams::event;
use crate::streams::generation::Generation;
use crate::streams::log::Read;
use crate::streams::position::Epoch;
use crate::streams::registry::Announce;

/// The events of a durable stream, each as an event `stream` that names it. The subscription counts as a viewer.
pub struct StreamSource {
    generation: Arc<Generation>,
    id: Arc<str>,
}

impl StreamSource {
    /// The source of a generation.
    pub fn new(generation: Arc<Generation>) -> Self {
        generation.joined();
        Self { id: generation.id.as_str().into(), generation }
    }

    fn event(&self, seq: u64, event: &event::Event) -> Event {
        let (name, data) = event.parts();
        let data = json!({"stream": *self.id, "event": name, "data": data}).to_string();
        let id = self.epoch().at(seq).to_string();
        Event {
            seq,
            origin: Arc::clone(&self.id),
            published: Instant::now(),
            audience: Audience::Channel,
            frame: Publication::own("stream", &data).frame(&id),
        }
    }
}

impl Drop for StreamSource {
    fn drop(&mut self) {
        self.generation.left();
    }
}

impl Source for StreamSource {
    fn epoch(&self) -> Epoch {
        self.generation.native.epoch
    }

    fn complete(&self) -> u64 {
        self.generation.extent().tail
    }

    fn earliest(&self) -> u64 {
        self.generation.extent().earliest
    }

    fn read(&self, after: u64, most: usize) -> SourceRead {
        match self.generation.native.log.read(after, most) {
            Read::Entries { first, entries } => SourceRead::Events {
                events: (first..)
                    .zip(&entries)
                    .map(|(seq, event)| self.event(seq, event))
                    .collect(),
                more: first - 1 + (entries.len() as u64) < self.complete(),
            },
            Read::Gone { earliest } => SourceRead::Gone { earliest },
            Read::Tail | Read::End(_) | Read::Ahead => SourceRead::Tail,
        }
    }

    fn appended(&self, _: Worker) -> Notified<'_> {
        self.generation.native.log.appended()
    }
}

/// A second tab of a user learns of the user's generations without asking.
impl Announce for Hub {
    fn announce(&self, generation: &Generation, event: &'static str) {
        let origin = &generation.origin;
        let Ok(channel) = format!("user:{}", origin.owner).parse() else { return };
        let data = json!({
            "stream": generation.id,
            "chat": origin.chat,
            "model": origin.context.model,
            "state": generation.state().name(),
        });
        // Without room for another channel there is nobody who would hear of it.
        let _full = self.publish(&channel, vec![Publication::own(event, &data.to_string())]);
    }
}
