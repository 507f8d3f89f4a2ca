//! Media that an upstream does not accept. Media in earlier turns are replaced by a short text, since every
//! later request repeats them. Media in the current question are rejected: here by type, and in the request
//! writer by place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Dropped;
use super::rules::{Media, Rules};
use crate::body::refuse;
use crate::chat::{ApiError, Document, Image, Medium, Message, Part, Role, Source};

/// Image types by the file extension of an address, where the extension is not the subtype itself.
const ENDINGS: [(&str, &str); 4] = [
    ("jpg", "image/jpeg"),
    ("svg", "image/svg+xml"),
    ("tif", "image/tiff"),
    ("ico", "image/x-icon"),
];

/// Image subtypes that equal the extension.
const SUBTYPES: [&str; 9] = ["png", "jpeg", "gif", "webp", "bmp", "heic", "heif", "avif", "tiff"];

/// Text types outside of `text/`.
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
    /// Whether a source may be sent, by its type and its kind of address.
    fn takes(self, source: &Source) -> bool {
        match source {
            Source::Url(url) if url.starts_with("s3://") => self.inline,
            Source::Url(url) => {
                self.address && image_type(url).is_none_or(|kind| self.has_type(&kind))
            }
            Source::Base64 { media_type, .. } => self.inline && self.has_type(media_type),
            // Sent as text where documents are not accepted.
            Source::Text(_) => true,
        }
    }

    fn has_type(self, media_type: &str) -> bool {
        self.types.is_empty() || self.types.split(' ').any(|taken| taken == media_type)
    }
}

/// The type of an image by the extension of its address.
fn image_type(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    let known = ENDINGS.iter().find(|(known, _)| *known == ending);
    known
        .map(|(_, kind)| (*kind).to_owned())
        .or_else(|| SUBTYPES.contains(&ending.as_str()).then(|| format!("image/{ending}")))
}

/// Normalises media types to the names that vendors use, and turns text in bytes into plain text.
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
            // Clients send this type if they do not know a better one.
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

/// A media type without parameters, in lower case, by its registered name.
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

/// Removes media that the upstream does not accept and records them. Rejects media of the current question that
/// only the caller's vendor can read or that have an unsupported type.
pub(super) fn leave_out(
    messages: &mut [Message],
    rules: &Rules,
    dropped: &mut Dropped,
) -> Result<(), ApiError> {
    let answered = messages.iter().rposition(|message| message.role == Role::Assistant);
    for (i, message) in messages.iter_mut().enumerate() {
        // A turn with tool results is part of an agent's loop, and the agent sends it again.
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

/// Medium of a part, and whether the upstream accepts it. `None` if the part is not a medium.
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

/// Rejects an unsupported part of the user's question.
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

/// The media type of inline bytes, as a fragment of an error message.
fn of_media_type(source: &Source) -> String {
    let Source::Base64 { media_type, .. } = source else { return String::new() };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '-' | '.' | '_');
    let is_type =
        !media_type.is_empty() && media_type.len() <= 100 && media_type.chars().all(plain);
    if is_type { format!("of type `{media_type}` ") } else { String::new() }
}

/// Replaces a part that the upstream does not accept, or does not accept in a turn of this role.
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
