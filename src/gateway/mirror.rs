//! Mirrored requests: a copy of a request is sent to another target once the first output of its answer is there, and the
//! copy's answer is counted and thrown away. It must never delay a caller, count for one, or judge a target.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout, timeout_at};

use super::offload::RequestBody;
use super::target_health::{OpenStream, PromptSize};
use super::upstream::{self, AttemptDeadline};
use super::upstream_body::{large_body, small_body};
use super::upstream_request::UpstreamRequest;
use crate::config::Mirror;
use crate::error::Error;
use crate::telemetry::trace::TraceContext;
use crate::telemetry::{MirrorLabels, RouteLabels, Sample, WastedTokenLabels};
use crate::wire::chat::End;
use crate::wire::dialect::Operation;

/// The header by which a request declines to be mirrored.
const HEADER: &str = "streamgate-mirror";

/// The most bytes of request bodies that mirrored requests hold, in the whole process.
const MAX_BYTES: usize = 64 << 20;

/// The longest time of one mirrored request, where `stream.total` sets none.
const MAX_TIME: Duration = Duration::from_mins(10);

/// The mirrored requests of one model that are under way.
#[derive(Debug, Default)]
pub struct Mirrored {
    open: AtomicU32,
}

/// The bytes of all mirrored requests of a process.
#[derive(Debug, Default)]
pub struct MirroredBytes(AtomicUsize);

/// The place of one mirrored request, until it ends.
struct Place {
    model: Arc<Mirrored>,
    bytes: Arc<MirroredBytes>,
    size: usize,
}

impl Place {
    /// `None`: there is none.
    fn take(
        model: Arc<Mirrored>,
        bytes: &Arc<MirroredBytes>,
        (most, size): (u32, usize),
    ) -> Option<Self> {
        let more = |open: u32| (open < most).then_some(open + 1);
        model.open.fetch_update(Relaxed, Relaxed, more).ok()?;
        let bytes = Arc::clone(bytes);
        let fits = |held: usize| Some(held.saturating_add(size)).filter(|all| *all <= MAX_BYTES);
        if bytes.0.fetch_update(Relaxed, Relaxed, fits).is_err() {
            model.open.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self { model, bytes, size })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.model.open.fetch_sub(1, Relaxed);
        self.bytes.0.fetch_sub(self.size, Relaxed);
    }
}

/// The end of a mirrored request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MirrorResult {
    Complete,
    Failed,
    TimedOut,
    Dropped,
}

impl MirrorResult {
    fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Dropped => "dropped",
        }
    }
}

/// Begins the copy of a request whose answer has begun, if it is to be mirrored.
pub(super) fn begin(request: &Arc<UpstreamRequest>) {
    let Some(mirror) = request.plan.mirror.as_ref().filter(|mirror| is_mirrored(request, mirror))
    else {
        return;
    };
    let now = Instant::now();
    let health = &request.health;
    let place = health
        .mirrored(&request.plan.label)
        .and_then(|(model, bytes)| Place::take(model, &bytes, (mirror.most, request.body.len())));
    let prompt = PromptSize::of(request.plan.demand.input);
    let stream = place.as_ref().and_then(|_| health.begin((&mirror.to, false), (prompt, now)));
    let (Some(place), Some(mut stream)) = (place, stream) else {
        return count(request, MirrorResult::Dropped);
    };
    // Its silence is no sign for the requests of callers.
    stream.has_output(true, now);
    // A request of its own: its time begins now, and nothing of it is traced.
    let context = Arc::new(request.context.renewed());
    let copy = UpstreamRequest { context, trace: TraceContext::None, ..request.copy() };
    let closing = request.context.closing.clone();
    let mirror = Arc::clone(mirror);
    request.context.tasks.spawn(async move {
        let most = copy.context.stream.total.unwrap_or(MAX_TIME);
        let sent = timeout(most, send(&copy, &mirror, (place, stream)));
        // Unfinished ones end with the process, and are counted as such.
        let result = tokio::select! {
            sent = sent => sent.unwrap_or(MirrorResult::TimedOut),
            () = closing.cancelled() => MirrorResult::Dropped,
        };
        count(&copy, result);
    });
}

/// Whether a request belongs to the share, and may be sent twice.
fn is_mirrored(request: &UpstreamRequest, mirror: &Mirror) -> bool {
    let declines = request.headers.get(HEADER).is_some_and(|value| value == "no");
    !declines
        && request.part.is_none()
        && request.context.operation() != Operation::CountTokens
        && !request.context.closing.is_cancelled()
        && is_in_share(&request.request_id, mirror.share)
        && !request.has_side_effects()
}

/// Whether an id is in a share of all ids. The same id is in every larger share as well.
fn is_in_share(id: &str, share: f64) -> bool {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let upper = digest.first_chunk().map_or(0, |beginning| u32::from_be_bytes(*beginning));
    f64::from(upper) < share * (f64::from(u32::MAX) + 1.0)
}

/// Sends a copy and reads its answer to the end.
async fn send(
    request: &UpstreamRequest,
    mirror: &Mirror,
    _held: (Place, OpenStream),
) -> MirrorResult {
    let target = &mirror.to;
    let written = match &request.body {
        RequestBody::Large(body) => large_body(request, body, target.clone()).await,
        RequestBody::Small(body) => small_body(request, body, target),
    };
    let Ok(written) = written else { return MirrorResult::Failed };
    let begun = Instant::now();
    let silent = request.is_whole(&target.provider);
    let patience =
        if silent { request.context.stream.unstreamed } else { request.context.stream.first_token };
    let deadline = AttemptDeadline { deadline: begun + patience, followed: false };
    let input = request.plan.demand.input;
    let answer = upstream::attempt(request, target, written, deadline, HeaderMap::new()).await;
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            count_tokens(request, mirror, input);
            return result(&failure.error);
        }
    };
    if !silent {
        let ttft = Sample::of(answer.first_output.saturating_duration_since(begun));
        let labels = RouteLabels {
            dialect: request.context.dialect.name(),
            model: Arc::clone(&request.plan.label),
            target: request.target_label(target),
        };
        request.metrics.mirror_ttft.get_or_create(&labels).merge(&ttft);
    }
    let stall = request.context.stream.stall;
    while answer.transcoder.end().is_none() {
        let chunk = timeout_at(Instant::now() + stall, answer.source.chunk()).await;
        let Ok(chunk) = chunk else { break };
        answer.take(chunk);
        answer.ready.clear();
    }
    let tally = answer.transcoder.tally();
    let input = tally.usage.input.unwrap_or(input);
    count_tokens(request, mirror, input.saturating_add(tally.output_tokens().0));
    match answer.transcoder.end() {
        Some(End::Complete) => MirrorResult::Complete,
        Some(_) => MirrorResult::Failed,
        None => MirrorResult::TimedOut,
    }
}

fn result(error: &Error) -> MirrorResult {
    if error.is_first_token_timeout() { MirrorResult::TimedOut } else { MirrorResult::Failed }
}

fn count(request: &UpstreamRequest, result: MirrorResult) {
    let labels = MirrorLabels { model: Arc::clone(&request.plan.label), result: result.word() };
    request.metrics.mirrors.get_or_create(&labels).inc();
}

fn count_tokens(request: &UpstreamRequest, mirror: &Mirror, tokens: u64) {
    let target = request.target_label(&mirror.to);
    let labels = WastedTokenLabels { target, purpose: "mirror" };
    request.metrics.wasted_tokens.get_or_create(&labels).inc_by(tokens);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_ids_is_mirrored() {
        let ids: Vec<String> = (0..20_000).map(|number| format!("req_{number}")).collect();
        let within = |share: f64| ids.iter().filter(|id| is_in_share(id, share)).count();
        assert_eq!((within(0.0), within(1.0)), (0, 20_000));
        let some = within(0.05);
        assert!((900..1100).contains(&some), "{some}");
        assert!(ids.iter().all(|id| !is_in_share(id, 0.05) || is_in_share(id, 0.1)));
    }

    /// R29: places are bounded by number and by bytes, and given back.
    #[test]
    fn r29_places_are_bounded_and_given_back() {
        let (model, bytes) = (Arc::<Mirrored>::default(), Arc::<MirroredBytes>::default());
        let take = |most, size| Place::take(Arc::clone(&model), &bytes, (most, size));
        let first = take(2, MAX_BYTES - 1).expect("a place");
        assert!(take(2, 2).is_none(), "bytes");
        let second = take(2, 1).expect("a place");
        assert!(take(2, 0).is_none(), "number");
        drop((first, second));
        assert_eq!((model.open.load(Relaxed), bytes.0.load(Relaxed)), (0, 0));
    }
}
