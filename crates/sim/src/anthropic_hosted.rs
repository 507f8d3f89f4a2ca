//! Anthropic's models on other platforms: Bedrock's `InvokeModel` and Vertex AI's `rawPredict`. The format is
//! Anthropic's; the paths, a few request members and the framing are the platform's.

use axum::http::Uri;
use serde_json::Value;

use super::answer::Piece;
use super::anthropic::{Anthropic, COUNT};
use super::aws_frames::unescaped;
use super::bedrock;
use super::encoder::{Encoder, Event, Layout, Totals};
use super::request::{Fields, RequestError, SimRequest};
use super::vendor::Vendor;

/// Anthropic's models on Bedrock.
pub(super) struct OnBedrock;

/// Anthropic's models on Vertex AI.
pub(super) struct OnVertex;

impl Vendor for OnBedrock {
    fn paths(&self) -> &'static [&'static str] {
        &["/model/{model}/invoke", "/model/{model}/invoke-with-response-stream"]
    }

    fn request_id(&self) -> &'static str {
        "x-amzn-requestid"
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let (model, stream) = bedrock::named(uri, "invoke-with-response-stream");
        ask(self, body, &["model", "stream"], (model, stream))
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Box::new(InChunks(Anthropic.encoder(number, ask)))
    }

    fn refusal(&self, refused: &RequestError, _request_id: &str) -> Value {
        bedrock::refusal(refused)
    }

    fn error_type(&self, refused: &RequestError) -> Option<&'static str> {
        Some(bedrock::error_type(refused))
    }
}

impl Vendor for OnVertex {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{call}"]
    }

    fn read(&self, uri: &Uri, body: &[u8]) -> Result<SimRequest, RequestError> {
        let call = uri.path().rsplit('/').next().unwrap_or_default();
        let (model, method) = call.rsplit_once(':').unwrap_or_default();
        if (model, method) == ("count-tokens", "rawPredict") {
            return Anthropic.read(&Uri::from_static(COUNT), body);
        }
        let stream = match method {
            "streamRawPredict" => true,
            "rawPredict" => false,
            _ => return Err(RequestError::no_model("rawPredict, streamRawPredict")),
        };
        ask(self, body, &["model"], (unescaped(model), stream))
    }

    fn encoder(&self, number: u64, ask: &SimRequest) -> Box<dyn Encoder> {
        Anthropic.encoder(number, ask)
    }

    fn refusal(&self, refused: &RequestError, request_id: &str) -> Value {
        Anthropic.refusal(refused, request_id)
    }
}

/// Reads a request as strictly as the platforms do: the version is required, and members that duplicate the
/// path are rejected.
fn ask(
    vendor: &dyn Vendor,
    body: &[u8],
    unwanted: &[&str],
    (model, stream): (String, bool),
) -> Result<SimRequest, RequestError> {
    let fields = Fields::read(vendor, body)?;
    fields.text("anthropic_version")?;
    if let Some(field) = unwanted.iter().find(|field| fields.has(field)) {
        return Err(RequestError::invalid(
            format!("{field}: Extra inputs are not permitted"),
            None,
        ));
    }
    // Rewritten as a request to the vendor's own endpoint.
    let mut whole = fields.value;
    if let Some(members) = whole.as_object_mut() {
        members.insert("model".to_owned(), Value::from(model));
        members.insert("stream".to_owned(), Value::from(stream));
    }
    let whole = whole.to_string();
    Anthropic.read(&Uri::from_static("/v1/messages"), whole.as_bytes())
}

/// Anthropic's events, wrapped by Bedrock.
struct InChunks(Box<dyn Encoder>);

impl Encoder for InChunks {
    fn layout(&self) -> Layout {
        Layout::AwsChunks
    }

    fn opening(&mut self, first: Option<&Piece>) -> Vec<Event> {
        self.0.opening(first)
    }

    fn say(&mut self, piece: &Piece) -> Vec<Event> {
        self.0.say(piece)
    }

    fn closing(&mut self, totals: Totals) -> Vec<Event> {
        let mut events = self.0.closing(totals);
        if let Some(last) = events.last_mut() {
            let tokens = totals.tokens;
            last.data.truncate(last.data.len().saturating_sub(1));
            let metrics = format!(
                r#","amazon-bedrock-invocationMetrics":{{"inputTokenCount":1,"outputTokenCount":{tokens},"invocationLatency":2,"firstByteLatency":1}}}}"#
            );
            last.data.push_str(&metrics);
        }
        events
    }

    fn failure(&self) -> Vec<Event> {
        vec![bedrock::failure()]
    }

    fn junk(&self) -> Event {
        bedrock::junk()
    }

    fn whole(&self, pieces: &[Piece], totals: Totals) -> Value {
        self.0.whole(pieces, totals)
    }
}
