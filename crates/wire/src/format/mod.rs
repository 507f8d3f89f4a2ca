//! Viewers' formats of a generation: its native bytes read again, and written in another dialect or in a format
//! of no vendor. Nothing is kept between viewers, and no byte of the generation is changed.

use std::fmt;

use super::chat::ToolForms;
use super::dialect::{
    CallerDialect, Dialect, Encode, Form, Mode, ResponseContext, caller_dialects,
};
use super::transcode::{Choose, Transcoder};

pub mod continued;
mod end_state;
mod events;
mod fragment;
mod own_marks;
mod snapshot;
mod text;
mod ui;

pub use end_state::EndState;
pub use fragment::Fragment;
pub use snapshot::Snapshot;

use own_marks::OwnMarks;

/// The format in which a viewer follows a generation.
#[derive(Clone, Copy)]
pub enum Format {
    /// The bytes of the dialect that it was made in.
    Native,
    /// A dialect of callers.
    Dialect(&'static dyn CallerDialect),
    /// The UI message stream of Vercel's AI SDK, version 1.
    Ui,
    /// The text of the answer.
    Text,
    /// Events of the gateway's own.
    Events,
    /// One JSON document, which [`Snapshot`] makes of [`Format::Events`].
    Snapshot,
}

/// The formats that are no dialect.
const OWN: [Format; 5] =
    [Format::Native, Format::Ui, Format::Text, Format::Events, Format::Snapshot];

/// The media type of server-sent events.
const EVENT_STREAM: &str = "text/event-stream";

impl Format {
    /// Every format: those that are no dialect, then the dialects of callers.
    pub fn all() -> impl Iterator<Item = Self> {
        OWN.into_iter().chain(caller_dialects().map(Self::Dialect))
    }

    /// Finds a format by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|format| format.name() == name)
    }

    /// Its name, as in the query of a request; dialects have their own.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Dialect(dialect) => dialect.name(),
            Self::Ui => "ui",
            Self::Text => "text",
            Self::Events => "events",
            Self::Snapshot => "snapshot",
        }
    }

    /// The same format for a generation of this dialect: its own dialect is [`Format::Native`].
    #[must_use]
    pub fn resolved(self, native: &dyn Dialect) -> Self {
        match self {
            Self::Dialect(dialect) if dialect.name() == native.name() => Self::Native,
            format => format,
        }
    }

    /// The media type of its bytes. `context`: that of the generation, as for [`transcoder`].
    pub fn media_type(self, native: &dyn Dialect, context: &ResponseContext) -> &'static str {
        match self.resolved(native) {
            Self::Native => {
                native.as_caller().map_or(EVENT_STREAM, |native| native.media_type(context))
            }
            Self::Dialect(dialect) => dialect.media_type(&viewers(context)),
            Self::Ui | Self::Text | Self::Events => EVENT_STREAM,
            Self::Snapshot => "application/json",
        }
    }

    /// Headers of a response in this format beside `content-type`: names and values.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Ui => &[("x-vercel-ai-ui-message-stream", "v1")],
            _ => &[],
        }
    }

    /// A state machine that writes it; `None`: the native bytes are passed on. That of [`Format::Snapshot`] writes
    /// [`Format::Events`].
    pub fn encoder(
        self,
        native: &dyn Dialect,
        context: &ResponseContext,
    ) -> Option<Box<dyn Encode>> {
        Some(match self.resolved(native) {
            Self::Native => return None,
            Self::Dialect(dialect) => dialect.encoder(&viewers(context), Mode::Translated),
            Self::Ui => Box::new(ui::Encoder::new(context)),
            Self::Text => Box::<text::Encoder>::default(),
            Self::Events | Self::Snapshot => Box::<events::Encoder>::default(),
        })
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

impl std::hash::Hash for Format {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// The context of a viewer's response in a dialect: another one than the request's, so that nothing of the request
/// has a form there.
fn viewers(context: &ResponseContext) -> ResponseContext {
    ResponseContext {
        stream: true,
        want_usage: true,
        form: Form::Chat,
        echo: String::new(),
        tool_forms: ToolForms::default(),
        ..context.clone()
    }
}

/// The codec from the native bytes of a generation to a viewer's format; `None`: they are passed on as they are.
/// For [`Format::Snapshot`] it writes [`Format::Events`].
///
/// `native`: the dialect that it was made in. `context`: that of its response, the same for every viewer, since the
/// bytes that viewers receive must not differ. `cap`: the most bytes of one frame; in some dialects the last one
/// repeats the whole answer.
///
/// The native bytes of a generation that was cancelled or lost end with an error like those of any other that is not
/// complete. To show its end, call [`Transcoder::abort`] in place of reading them.
pub fn transcoder(
    native: &'static dyn Dialect,
    format: Format,
    context: &ResponseContext,
    cap: usize,
) -> Option<Transcoder> {
    let encoder = format.encoder(native, context)?;
    Some(decode_into(encoder, native, context, cap))
}

/// The codec from the native bytes of a generation to the same dialect, written anew: it can end a generation whose
/// producer is gone. Parameters as those of [`transcoder`]; `None`: it is no dialect of callers.
pub fn rewriter(native: &dyn Dialect, context: &ResponseContext, cap: usize) -> Option<Transcoder> {
    let encoder = native.as_caller()?.encoder(context, Mode::Translated);
    Some(decode_into(encoder, native, context, cap))
}

fn decode_into(
    encoder: Box<dyn Encode>,
    native: &dyn Dialect,
    context: &ResponseContext,
    cap: usize,
) -> Transcoder {
    let media_type = native.as_caller().map_or(EVENT_STREAM, |native| native.media_type(context));
    let mut decoder = native.decoder(context.form);
    decoder.name(&context.id);
    // Logs may hold lines as the data of events, so that the framing is detected.
    let choose: Choose = Box::new(|_| (encoder, Ok(Mode::Translated)));
    let transcoder = Transcoder::labelled(native.framing(media_type), cap, decoder, choose);
    transcoder.with_stage(Box::new(OwnMarks))
}

#[cfg(test)]
mod tests;
