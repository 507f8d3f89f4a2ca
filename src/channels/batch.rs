//! Batches: events that are delivered together, as parts of an event stream. They must never be reordered.

use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::cursor::Cursor;
use super::source::Event;
use crate::streams::position::Epoch;

/// Events that are delivered together.
#[derive(Debug, Default)]
pub struct Batch {
    /// One or more, unless none has one of the types that are wanted.
    pub events: Vec<Delivered>,
    /// Whether there may be more now.
    pub more: bool,
}

/// An event, and its id for one subscriber.
#[derive(Debug)]
pub struct Delivered {
    /// The event.
    pub event: Event,
    /// The subscriber's position after it, unless the event's own line has it.
    pub position: Option<Cursor>,
}

impl Delivered {
    /// The event's id.
    pub fn id(&self, epoch: Epoch) -> String {
        let own = || Cursor::new([epoch.at(self.event.seq)]).to_string();
        self.position.as_ref().map_or_else(own, Cursor::to_string)
    }

    fn write(&self, out: &mut BytesMut) {
        match &self.position {
            None => out.extend_from_slice(self.event.frame.bytes()),
            Some(position) => {
                out.extend_from_slice(&self.event.frame.without_id());
                out.extend_from_slice(format!("id: {position}\n\n").as_bytes());
            }
        }
    }
}

impl Batch {
    /// The events as a part of an event stream, each as `event: channel` with `{"channel", "event", "data"}`: for clients
    /// that cannot register for names that they do not know. `epoch`: that of the hub.
    pub fn enveloped(&self, epoch: Epoch) -> Bytes {
        let mut out = BytesMut::new();
        for delivered in &self.events {
            let event = &delivered.event;
            // Events of streams name their stream already.
            if event.kind() == "stream" {
                delivered.write(&mut out);
                continue;
            }
            let (name, data) = (event.frame.name(), event.frame.data());
            let body = json!({"channel": *event.origin, "event": name, "data": data});
            let id = delivered.id(epoch);
            out.extend_from_slice(format!("event: channel\ndata: {body}\nid: {id}\n\n").as_bytes());
        }
        out.freeze()
    }

    /// The events as a part of an event stream, each with a text before its id.
    pub fn with_ids_after(&self, text: &str, epoch: Epoch) -> Bytes {
        let mut out = BytesMut::new();
        for delivered in &self.events {
            out.extend_from_slice(&delivered.event.frame.without_id());
            let id = delivered.id(epoch);
            out.extend_from_slice(format!("id: {text}{id}\n\n").as_bytes());
        }
        out.freeze()
    }

    /// The events as a part of an event stream. A single one is not copied.
    pub fn bytes(&self) -> Bytes {
        if let [Delivered { event, position: None }] = self.events.as_slice() {
            return event.frame.bytes().clone();
        }
        let size = self.events.iter().map(|it| it.event.frame.bytes().len() + 64).sum();
        let mut out = BytesMut::with_capacity(size);
        for event in &self.events {
            event.write(&mut out);
        }
        out.freeze()
    }
}
