//! Token counts by estimate, where the upstream cannot count: the estimate that limits use. It must never send a
//! request, and always marks its answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::answer::Answer;
use super::source::Source;
use super::upstream_body::decoded;
use super::upstream_request::UpstreamRequest;
use crate::config::Target;
use crate::error::{Blame, Error};
use crate::wire::count::{Decoder, plain};
use crate::wire::dialect::{Mode, Operation};
use crate::wire::framing::Framing;
use crate::wire::transcode::Transcoder;

/// The response header of a number that the gateway estimated.
pub(super) const ESTIMATED: HeaderName = HeaderName::from_static("x-streamgate-estimated");

/// Its value.
pub(super) const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Whether a request is answered without its target, which has no way to count tokens.
pub(super) fn is_estimated(request: &UpstreamRequest, target: &Target) -> bool {
    let passthrough = request.is_verbatim(&target.provider);
    request.context.operation() == Operation::CountTokens
        && !target.provider.dialect.counts_tokens(&target.quirks, passthrough)
}

/// Whether an upstream cannot count tokens: it has no such endpoint, or answers with success and something
/// that is no count, like a page or an error. An unknown model is another matter, and so are errors that
/// the caller caused.
pub(super) fn is_unsupported(request: &UpstreamRequest, error: &Error) -> bool {
    let code = error.fault().code.as_deref();
    let missing =
        error.upstream_reply().is_some_and(|reply| matches!(reply.status, 404 | 405 | 501));
    request.context.operation() == Operation::CountTokens
        && (error.is_failed_answer() && error.blame() != Blame::Caller
            || missing && code != Some("model_not_found"))
}

/// The answer to a request that is valid in its caller's dialect.
pub(super) async fn checked_estimate(
    request: &UpstreamRequest,
    target: &Target,
) -> Result<Box<Answer>, Error> {
    decoded(request).await?;
    estimate(request, target).await
}

/// The answer that holds the estimate, whole.
pub(super) async fn estimate(
    request: &UpstreamRequest,
    target: &Target,
) -> Result<Box<Answer>, Error> {
    let encoder = request.context.dialect.encoder(&request.context.call, Mode::Translated);
    let max_event = request.context.stream.max_event;
    let decoder = Box::new(Decoder(plain));
    let transcoder = Transcoder::new(Framing::Whole, max_event, decoder, encoder, Mode::Translated);
    let headers = HeaderMap::from_iter([(ESTIMATED, TRUE)]);
    let source = Source::replay([Bytes::from(request.context.call.input_estimate.to_string())]);
    let (of, lease) = ((Arc::clone(&target.provider), headers), request.memory.lease());
    let mut answer = Box::new(Answer::new(of, source, transcoder, lease));
    answer.read_first(max_event, false).await?;
    Ok(answer)
}
