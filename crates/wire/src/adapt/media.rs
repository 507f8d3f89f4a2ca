//! Media that an upstream does not take. What belongs to the past of a conversation is left out with a
//! word in its place, since it would be sent again with every turn; what is asked about just now is
//! rejected: here by its type, and by the writer of the request by its place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Dropped;
use super::rules::{Media, Rules};
use crate::body::refuse;
use crate::chat::{ApiError, Document, Image, Medium, Message, Part, Role, Source};

/// Image types by the ends of addresses, where these are not the subtypes themselves.
const ENDINGS: [(&str, &str); 4] = [
    ("jpg", "image/jpeg"),
    ("svg", "image/svg+xml"),
    ("tif", "image/tiff"),
    ("ico", "image/x-icon"),
];

/// The same where they are.
const SUBTYPES: [&str; 9] = ["png", "jpeg", "gif", "webp", "bmp", "heic", "heif", "avif", "tiff"];

/// Types of text outside of `text/`.
const TEXTS: [&str; 17] = [
    "application/json",
    "application/jsonl",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/javascript",
    "application/x-javascript",
    "application/typescript",
    "application/x-typescript",
    "application/x-python",
    "application/x-python-code",
    "application/x-sh",
    "application/x-httpd-php",
    "application/sql",
    "application/csv",
];

impl Media {
    /// Whether a source may be sent, as far as its type and its place are known.
    fn takes(self, source: &Source) -> bool {
        match source {
            Source::Url(url) if url.starts_with("s3://") => self.inline,
            Source::Url(url) => {
                self.address && image_type(url).is_none_or(|kind| self.has_type(&kind))
            }
            Source::Base64 { media_type, .. } => self.inline && self.has_type(media_type),
            // It is sent as text where there are no documents.
            Source::Text(_) => true,
        }
    }

    fn has_type(self, media_type: &str) -> bool {
        self.types.is_empty() || self.types.split(' ').any(|taken| taken == media_type)
    }
}

/// The type of an image by the end of its address.
fn image_type(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    let known = ENDINGS.iter().find(|(known, _)| *known == ending);
    known
        .map(|(_, kind)| (*kind).to_owned())
        .or_else(|| SUBTYPES.contains(&ending.as_str()).then(|| format!("image/{ending}")))
}

/// Gives media the names that vendors know them by, and text that came as bytes is text.
pub(super) fn name(messages: &mut [Message]) {
    messages.iter_mut().flat_map(|message| &mut message.parts).for_each(name_part);
}

fn name_part(part: &mut Part) {
    match part {
        Part::Image(Image { source: Source::Base64 { media_type, .. }, .. }) => {
            *media_type = plain(media_type);
        }
        Part::Document(document) => {
            let Source::Base64 { media_type, data } = &mut document.source else { return };
            *media_type = plain(media_type);
            // Clients that do not know a type say that it is some bytes.
            if media_type == "application/octet-stream" && data.starts_with("JVBERi") {
                "application/pdf".clone_into(media_type);
            }
            if is_text(media_type)
                && let Some(text) =
                    STANDARD.decode(&*data).ok().and_then(|bytes| String::from_utf8(bytes).ok())
            {
                document.source = Source::Text(text);
            } else if Medium::of(media_type) == Medium::Image {
                *part = Part::Image(Image { source: document.source.clone(), detail: None });
            }
        }
        Part::ToolResult { parts, .. } => parts.iter_mut().for_each(name_part),
        _ => {}
    }
}

/// A media type without parameters, in small letters, by its registered name.
fn plain(media_type: &str) -> String {
    let bare = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match bare.as_str() {
        "image/jpg" | "image/pjpeg" => "image/jpeg".to_owned(),
        "image/x-png" => "image/png".to_owned(),
        "image/svg" => "image/svg+xml".to_owned(),
        "application/x-pdf" => "application/pdf".to_owned(),
        _ => bare,
    }
}

fn is_text(media_type: &str) -> bool {
    let structured = media_type.ends_with("+json") || media_type.ends_with("+xml");
    media_type.starts_with("text/")
        || TEXTS.contains(&media_type)
        || structured && media_type.starts_with("application/")
}

/// Leaves out what is not taken, and names it. Rejects what the user asks about just now and only the
/// caller's vendor can read, or is of a type that is not taken.
pub(super) fn leave_out(
    messages: &mut [Message],
    rules: &Rules,
    dropped: &mut Dropped,
) -> Result<(), ApiError> {
    let answered = messages.iter().rposition(|message| message.role == Role::Assistant);
    for (i, message) in messages.iter_mut().enumerate() {
        // A turn with results is the work of an agent, which sends it again.
        let results = message.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }));
        let past = results || answered.is_some_and(|answered| i < answered);
        let asked = message.role == Role::User && !past;
        for (j, part) in message.parts.iter_mut().enumerate() {
            if asked {
                check(part, (i, j), rules)?;
            } else {
                replace(part, message.role, rules, dropped);
            }
        }
    }
    Ok(())
}

/// What a part is, and whether it is taken. `None`: no medium.
fn taken(part: &Part, rules: &Rules) -> Option<(Medium, bool)> {
    let (medium, source) = match part {
        Part::Unreadable { medium, .. } => return Some((*medium, false)),
        Part::Image(image) => (Medium::Image, &image.source),
        Part::Document(document) => match &document.source {
            source @ Source::Base64 { media_type, .. } => (Medium::of(media_type), source),
            source => (Medium::Document, source),
        },
        _ => return None,
    };
    Some((medium, rules.media(medium).takes(source)))
}

/// Rejects a part of the user's question that is not taken.
fn check(part: &Part, (turn, place): (usize, usize), rules: &Rules) -> Result<(), ApiError> {
    let Some((medium, false)) = taken(part, rules) else { return Ok(()) };
    let name = medium.one();
    let what = match part {
        Part::Unreadable { at, .. } => {
            let what = format!(
                "is {} that only its own vendor can read; send the bytes, or a public address of an \
                 image or a PDF, or choose another model",
                medium.one()
            );
            return Err(refuse(at, &what));
        }
        Part::Image(Image { source: Source::Url(_), .. })
        | Part::Document(Document { source: Source::Url(_), .. })
            if rules.media(medium).inline =>
        {
            format!(
                "holds {name} by its address; this model's provider takes it inline only, in base64"
            )
        }
        Part::Image(Image { source, .. }) | Part::Document(Document { source, .. }) => format!(
            "holds {name} {}that this model's provider does not take; leave it out or choose another model",
            of_media_type(source)
        ),
        _ => return Ok(()),
    };
    Err(refuse(&format!("messages[{turn}].content[{place}]"), &what))
}

/// The media type of bytes, for a refusal.
fn of_media_type(source: &Source) -> String {
    let Source::Base64 { media_type, .. } = source else { return String::new() };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '-' | '.' | '_');
    let is_type =
        !media_type.is_empty() && media_type.len() <= 100 && media_type.chars().all(plain);
    if is_type { format!("of type `{media_type}` ") } else { String::new() }
}

/// Leaves a part out that is not taken, or has no place in a turn of this role.
fn replace(part: &mut Part, role: Role, rules: &Rules, dropped: &mut Dropped) {
    if let Part::ToolResult { parts, .. } = part {
        for part in parts {
            replace(part, Role::User, rules, dropped);
        }
        return;
    }
    let Some((medium, taken)) = taken(part, rules) else { return };
    if taken && role == Role::User {
        return;
    }
    let (name, noted) = match medium {
        Medium::Image => ("image", "images"),
        Medium::Document => ("document", "documents"),
        Medium::Audio => ("audio", "audio"),
        Medium::Video => ("video", "video"),
    };
    dropped.note(noted);
    let of = if name == noted { "" } else { "s" };
    *part = Part::Text(format!("[{name} left out: this model takes no such {name}{of}]"));
}
