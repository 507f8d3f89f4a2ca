//! Ten minutes of paused time with six targets whose faults come and go at random, by a seed: every request completes
//! exactly once or ends honestly, and outages do not multiply the load.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::*;
use crate::config::{Config, Provider};
use crate::error::Reply;
use crate::gateway::delivery;
use crate::gateway::offload::BufferedBody;
use crate::gateway::production::Production;
use crate::gateway::scripted::{Attempted, Exchange, Scene, answer, config, request as order};
use crate::gateway::source_script::Step as Part;
use crate::gateway::target_health::TargetHealth;
use crate::memory::MemoryBudget;
use crate::telemetry::Metrics;
use crate::wire::chat::{ApiError, Deadline, End};

const SECOND: Duration = Duration::from_secs(1);
const REQUESTS: u32 = 2500;
const TOKENS: usize = 10;

/// The time for which a target keeps a state.
const EPISODE: u64 = 20;

/// A number that looks random, by its inputs alone (splitmix64).
fn drawn(seed: u64, parts: [u64; 2]) -> u64 {
    let mut state = seed ^ parts[0].wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ parts[1].rotate_left(32);
    state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// The state of a target in an episode.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Well,
    /// A fifth of its answers fail.
    Flaky,
    Failing,
    Unreachable,
    Hanging,
    Limited,
    /// Its answers break off after some output.
    Breaking,
    Revoked,
}

fn state(seed: u64, target: u64, episode: u64) -> State {
    match drawn(seed, [target, episode]) % 100 {
        0..70 => State::Well,
        70..76 => State::Flaky,
        76..82 => State::Failing,
        82..86 => State::Unreachable,
        86..90 => State::Hanging,
        90..95 => State::Limited,
        95..99 => State::Breaking,
        _ => State::Revoked,
    }
}

fn token(number: usize) -> Part {
    let chunk = r#"{"id":"a","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"#;
    Part::Chunk(format!("data: {chunk}\"t{number} \"}}}}]}}\n\n").into())
}

/// The body of an answer; it breaks off after so many tokens, if it does.
fn body(broken: Option<usize>) -> Vec<Part> {
    let mut parts = Vec::new();
    for number in 0..broken.unwrap_or(TOKENS) {
        parts.extend([token(number), Part::Wait(Duration::from_millis(20))]);
    }
    if broken.is_some() {
        parts.push(Part::Break);
        return parts;
    }
    let stop =
        r#"{"id":"a","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    parts.push(Part::Chunk(format!("data: {stop}\n\ndata: [DONE]\n\n").into()));
    parts
}

fn refused(kind: Kind, status: u16) -> Error {
    let (dialect, headers) = ("openai-chat", HeaderMap::new());
    let reply = Reply { dialect, status, body: "{}".into(), headers };
    Error::upstream(ApiError::new(kind, "no")).reply(reply)
}

/// The upstreams: their states by the seed, and the attempts at them.
struct Upstreams {
    seed: u64,
    begun: Instant,
    attempts: AtomicUsize,
}

impl Upstreams {
    fn attempt(&self, target: &Target, deadline: Instant) -> Attempted {
        let number = self.attempts.fetch_add(1, SeqCst) as u64;
        let place: u64 = target.provider.name.trim_start_matches('p').parse().unwrap();
        let chance = drawn(self.seed, [number, 77]);
        let state = state(self.seed, place, self.begun.elapsed().as_secs() / EPISODE);
        let first = Duration::from_millis(20 + chance % 200);
        let attempted = async move {
            sleep(first).await;
            let broken = match state {
                State::Failing => return Err(refused(Kind::Overloaded, 503)),
                State::Flaky if chance.is_multiple_of(5) => {
                    return Err(refused(Kind::Upstream, 500));
                }
                State::Unreachable => {
                    return Err(
                        Error::upstream(ApiError::new(Kind::Upstream, "no")).blamed(Blame::Host)
                    );
                }
                State::Revoked => return Err(refused(Kind::Authentication, 401)),
                State::Limited => {
                    let error = refused(Kind::RateLimited, 429).retry_after(10 * SECOND);
                    return Err(error.cooling_for(Some(10 * SECOND)));
                }
                State::Hanging => std::future::pending().await,
                State::Breaking => Some(usize::try_from(1 + chance % 8).unwrap()),
                State::Well | State::Flaky => None,
            };
            let mut answer = answer(true, body(broken));
            answer.read_first(1 << 20, true).await?;
            Ok(answer)
        };
        Box::pin(async move {
            let late = || Error::from_end(&End::TimedOut(Deadline::FirstToken));
            Ok(timeout_at(deadline, attempted).await.unwrap_or_else(|_| Err(late()))?)
        })
    }
}

/// Six targets of a provider each, three of them in the first tier.
fn targets(config: &mut Config) -> Vec<Target> {
    let sim = Arc::clone(&config.providers["sim"]);
    let target = |place: u32| {
        let provider = Provider { name: format!("p{place}"), ..(*sim).clone() }.identified();
        let mut target = Target::new(Arc::new(provider), "m".to_owned());
        target.tier = 1 + place / 3;
        target
    };
    let targets: Vec<Target> = (0..6).map(target).collect();
    config.models.insert("x".to_owned(), targets.clone().into());
    targets
}

/// The text of an answer as its caller gets it.
async fn text(production: Production) -> String {
    let mut body = pin!(delivery::stream(production));
    let mut text = String::new();
    while let Some(Ok(bytes)) = body.next().await {
        let bytes = String::from_utf8(bytes.to_vec()).unwrap();
        for line in bytes.lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            text += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        }
    }
    text
}

/// One request: its outcome and the text that its caller has got.
async fn request(
    (plan, health, metrics): (Plan, Arc<TargetHealth>, Arc<Metrics>),
    script: Exchange,
    leaves: Option<Duration>,
) -> (&'static str, String) {
    let scene = Scene::new();
    let memory = MemoryBudget::new(1 << 30, &metrics);
    let mut upstream = order(true, "sim", &[("m", None)]);
    let json = r#"{"model":"x","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    upstream.body = BufferedBody { text: json.to_owned(), lease: memory.requests.lease() }.into();
    (upstream.plan, upstream.health, upstream.metrics) = (plan, health, metrics);
    upstream.script = Some(script);
    let context = Arc::new(scene.context(true));
    upstream.context = Arc::clone(&context);
    let production = Production::new(Opening::new(upstream), context, scene.account());
    let text = match leaves {
        Some(after) => {
            let left = tokio::time::timeout(after, text(production)).await;
            left.unwrap_or_default()
        }
        None => text(production).await,
    };
    (scene.settled().outcome, text)
}

/// R1, R7, R11, R22: random faults for ten minutes.
#[tokio::test(start_paused = true)]
async fn r22_random_faults_are_unseen_and_do_not_multiply_the_load() {
    for seed in [1, 2] {
        let mut config = config();
        let targets = targets(&mut config);
        let metrics = Arc::<Metrics>::default();
        let health = Arc::new(TargetHealth::new(Arc::clone(&metrics), &config));
        let mut plan = order(true, "sim", &[("m", None)]).plan;
        (plan.targets, plan.pick) = (targets.clone().into(), Pick::LeastLoaded);
        let attempts = AtomicUsize::new(0);
        let upstreams = Arc::new(Upstreams { seed, begun: Instant::now(), attempts });
        let mut running = JoinSet::new();
        for number in 0..REQUESTS {
            let of = (plan.clone(), Arc::clone(&health), Arc::clone(&metrics));
            let shared = Arc::clone(&upstreams);
            let script: Exchange =
                Arc::new(move |target, limits| shared.attempt(target, limits.deadline));
            let chance = drawn(seed, [number.into(), 99]);
            let leaves = chance.is_multiple_of(50).then(|| Duration::from_millis(chance % 400));
            running.spawn(async move {
                sleep(Duration::from_millis(240) * number).await;
                request(of, script, leaves).await
            });
        }
        let words: Vec<String> = (0..TOKENS).map(|number| format!("t{number} ")).collect();
        let whole = words.concat();
        let mut outcomes = BTreeMap::<&str, u32>::new();
        while let Some(ended) = running.join_next().await {
            let (outcome, text) = ended.unwrap();
            *outcomes.entry(outcome).or_default() += 1;
            assert!(whole.starts_with(&text), "seed {seed}, {outcome}: {text}");
            assert_eq!(outcome == "complete", text == whole, "seed {seed}, {outcome}: {text}");
        }
        let count = |outcome: &str| outcomes.get(outcome).copied().unwrap_or_default();
        assert_eq!(outcomes.values().sum::<u32>(), REQUESTS);
        let served = count("complete") + count("client_gone");
        assert!(served * 100 >= REQUESTS * 97, "seed {seed}: {outcomes:?}");
        let sent = upstreams.attempts.load(SeqCst);
        assert!(sent * 4 <= REQUESTS as usize * 5, "seed {seed}: {sent} attempts, {outcomes:?}");
        for target in &targets {
            assert_eq!(health.open_streams(target), 0, "seed {seed}");
        }
    }
}
