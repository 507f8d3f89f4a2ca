//! Images and documents: a format name and bytes, or an object in S3. Nothing is fetched from an address:
//! the vendor does not fetch, and the gateway must not.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::chat::{ApiError, Document, Image, Source};

/// Name of a document that has none; the vendor requires one.
const UNNAMED: &str = "document";
/// The most characters of a document's name.
const LONGEST_NAME: usize = 200;

#[derive(Debug, Serialize)]
pub(super) struct Medium<'a> {
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    source: MediaSource<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum MediaSource<'a> {
    Bytes(Cow<'a, str>),
    S3Location { uri: &'a str },
}

/// Writes an image.
pub(super) fn image<'a>(image: &'a Image, at: &str) -> Result<Medium<'a>, ApiError> {
    let (media_type, source) = match &image.source {
        Source::Base64 { media_type, data } => {
            (media_type.as_str(), MediaSource::Bytes(Cow::Borrowed(data)))
        }
        Source::Url(url) => (extension(url), s3(url, at)?),
        Source::Text(_) => return Err(ApiError::field(at, "an image cannot be plain text")),
    };
    let format = match bare(media_type).as_str() {
        "image/png" | "png" => "png",
        "image/jpeg" | "image/jpg" | "jpeg" | "jpg" => "jpeg",
        "image/gif" | "gif" => "gif",
        "image/webp" | "webp" => "webp",
        _ => {
            let message = "this model's provider takes images as PNG, JPEG, GIF or WebP only";
            return Err(ApiError::field(at, message));
        }
    };
    Ok(Medium { format, name: None, source })
}

/// Writes a document. `number` counts the documents of the request: no two may have one name.
pub(super) fn document<'a>(
    document: &'a Document,
    number: usize,
    at: &str,
) -> Result<Medium<'a>, ApiError> {
    let (media_type, source) = match &document.source {
        Source::Base64 { media_type, data } => {
            (media_type.as_str(), MediaSource::Bytes(Cow::Borrowed(data)))
        }
        Source::Text(text) => {
            ("text/plain", MediaSource::Bytes(Cow::Owned(BASE64_STANDARD.encode(text))))
        }
        Source::Url(url) => (extension(url), s3(url, at)?),
    };
    let format = match bare(media_type).as_str() {
        "application/pdf" | "pdf" => "pdf",
        "text/csv" | "csv" => "csv",
        "application/msword" | "doc" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" | "docx" => {
            "docx"
        }
        "application/vnd.ms-excel" | "xls" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" | "xlsx" => "xlsx",
        "text/html" | "html" => "html",
        "text/plain" | "txt" => "txt",
        "text/markdown" | "md" => "md",
        _ => {
            let message = "this model's provider takes documents as PDF, plain text, Markdown, HTML, CSV, Word or Excel only";
            return Err(ApiError::field(at, message));
        }
    };
    let name = name(document.title.as_deref().unwrap_or_default());
    let name = if number == 0 { name } else { format!("{name} {}", number.saturating_add(1)) };
    Ok(Medium { format, name: Some(name), source })
}

/// A media type without parameters, in small letters.
fn bare(media_type: &str) -> String {
    let bare = media_type.split_once(';').map_or(media_type, |(bare, _)| bare);
    bare.trim().to_ascii_lowercase()
}

fn extension(url: &str) -> &str {
    url.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn s3<'a>(url: &'a str, at: &str) -> Result<MediaSource<'a>, ApiError> {
    if url.starts_with("s3://") {
        return Ok(MediaSource::S3Location { uri: url });
    }
    let message = "this model's provider fetches nothing from the web; send the bytes inline as base64, or name an `s3://` object";
    Err(ApiError::field(at, message))
}

/// A name of the characters that the vendor takes: letters, digits, hyphens, brackets, and no two
/// spaces in a row.
fn name(title: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']');
    let mut name = String::new();
    // Room is left for the number.
    for c in title.chars().take(LONGEST_NAME - 8) {
        match c {
            c if fits(c) => name.push(c),
            '_' | '.' => name.push('-'),
            _ if name.ends_with(' ') => {}
            _ => name.push(' '),
        }
    }
    let name = name.trim();
    if name.is_empty() { UNNAMED.to_owned() } else { name.to_owned() }
}
