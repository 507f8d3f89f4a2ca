//! Requests that wait for room, under a paused clock: their order, their bounds, and an upstream that takes only so many
//! at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::config::{ModelRouting, Provider, Queue, QueueClass};
use crate::gateway::offload::BufferedBody;
use crate::gateway::scripted::{answer, config, request as order, tally};
use crate::gateway::source_script::Step as Part;
use crate::gateway::target_health::TargetHealth;
use crate::memory::MemoryBudget;
use crate::wire::chat::ApiError;

const SECOND: Duration = Duration::from_secs(1);
const TEXT: &str =
    r#"data: {"id":"a","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;

/// An upstream of one credential that takes so many requests at once, and what it has seen.
#[derive(Default)]
struct Upstream {
    most: u32,
    open: AtomicU32,
    peak: AtomicU32,
    served: AtomicU32,
    refused: AtomicU32,
}

/// A model with a queue, whose targets are at hosts of their own.
struct Model {
    request: UpstreamRequest,
    upstreams: HashMap<String, Arc<Upstream>>,
}

fn class(name: &str, weight: u32) -> QueueClass {
    QueueClass { name: name.into(), weight: NonZeroU32::new(weight).unwrap() }
}

fn queue(most: usize, wait: Duration) -> Queue {
    Queue { most, wait, classes: vec![class("interactive", 8), class("batch", 1)] }
}

impl Model {
    /// Each target: the most answers that its upstream takes, and the configured `max_streams`.
    fn new(queue: Queue, targets: &[(u32, Option<usize>)]) -> Self {
        let mut request = order(true, "sim", &[("m", None)]);
        let mut config = config();
        let sim = Arc::clone(&config.providers["sim"]);
        let target = |(place, (_, max_streams)): (usize, &(u32, Option<usize>))| {
            let base_url = format!("http://h{place}.test/v1").parse().unwrap();
            let (name, max_streams) = (format!("h{place}"), *max_streams);
            let provider = Provider { name, base_url, max_streams, ..(*sim).clone() };
            let mut target = Target::new(Arc::new(provider.identified()), "m".to_owned());
            target.tier = u32::try_from(place).unwrap();
            target
        };
        let all: Vec<Target> = targets.iter().enumerate().map(target).collect();
        config.models.insert("x".to_owned(), all.clone().into());
        let queue = Some(Arc::new(queue));
        let routing = ModelRouting { queue: queue.clone(), ..ModelRouting::default() };
        config.model_routing.insert("x".to_owned(), routing);
        request.health = Arc::new(TargetHealth::new(Arc::clone(&request.metrics), &config));
        (request.plan.targets, request.plan.queue) = (all.into(), queue);
        request.plan.demand.input = 100;
        let memory = MemoryBudget::new(1 << 30, &request.metrics);
        let json = r#"{"model":"x","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        request.body =
            BufferedBody { text: json.to_owned(), lease: memory.requests.lease() }.into();
        let upstream = |(place, (most, _)): (usize, &(u32, Option<usize>))| {
            (format!("h{place}"), Arc::new(Upstream { most: *most, ..Upstream::default() }))
        };
        let upstreams = targets.iter().enumerate().map(upstream).collect();
        Self { request, upstreams }
    }

    fn upstream(&self, place: usize) -> &Arc<Upstream> {
        &self.upstreams[&format!("h{place}")]
    }

    /// A request of a caller, in a class.
    fn request(&self, caller: &str, class: &QueueClass) -> UpstreamRequest {
        let mut request = self.request.copy();
        request.context = Arc::new(request.context.renewed());
        request.caller = caller.into();
        request.plan.class = Some(class.clone());
        let upstreams = self.upstreams.clone();
        request.script = Some(Arc::new(move |target, _| {
            let upstream = Arc::clone(&upstreams[&target.provider.name]);
            Box::pin(async move {
                if upstream.open.load(SeqCst) >= upstream.most {
                    upstream.refused.fetch_add(1, SeqCst);
                    return Err(Error::upstream(ApiError::new(Kind::RateLimited, "busy")).into());
                }
                upstream.peak.fetch_max(upstream.open.fetch_add(1, SeqCst) + 1, SeqCst);
                upstream.served.fetch_add(1, SeqCst);
                let mut answer = answer(true, vec![Part::Chunk(format!("{TEXT}\n\n").into())]);
                answer.read_first(1 << 20, true).await?;
                Ok(answer)
            })
        }));
        request
    }

    /// Serves a request, whose answer takes some time and uses so many tokens of output.
    async fn serve(&self, request: UpstreamRequest, takes: Duration, output: u64) -> Served {
        let begun = Instant::now();
        let mut opening = Opening::new(request);
        let (index, answer) = opening.answer().await?;
        let waited = begun.elapsed();
        let attempt = &opening.attempts[index];
        let queued: Duration = opening.attempts.iter().map(|attempt| attempt.queued).sum();
        assert_eq!(queued, waited, "the record has the wait");
        let name = attempt.target.provider.name.clone();
        sleep(takes).await;
        answer.in_progress.as_ref().expect("counted").completed(&tally(output));
        self.upstreams[&name].open.fetch_sub(1, SeqCst);
        drop(answer);
        Ok((name, waited))
    }

    fn metric(&self, name: &str) -> u32 {
        let text = self.request.metrics.render();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).sum()
    }
}

/// The target that has served a request and the time that it waited, or its error.
type Served = Result<(String, Duration), Error>;

fn interactive() -> QueueClass {
    class("interactive", 8)
}

/// R30: an upstream that takes four at once gets about four, though nobody has configured it, and the rest wait.
#[tokio::test(start_paused = true)]
async fn r30_everybody_is_served_at_the_limit_that_the_upstream_teaches() {
    let model = Arc::new(Model::new(queue(200, 60 * SECOND), &[(4, None)]));
    let mut tasks = JoinSet::new();
    for number in 0..2000_u32 {
        let model = Arc::clone(&model);
        let caller = format!("c{}", number % 10);
        tasks.spawn(async move {
            // 19 at once every five seconds, of which each takes one, come to four places.
            sleep(SECOND * (number / 19 * 5)).await;
            model.serve(model.request(&caller, &interactive()), SECOND, 10).await
        });
    }
    let results = tasks.join_all().await;
    let failed: Vec<_> = results.iter().filter_map(|served| served.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} {:?}", failed.len(), failed.first());
    let upstream = model.upstream(0);
    assert_eq!((upstream.served.load(SeqCst), upstream.peak.load(SeqCst)), (2000, 4));
    let refused = upstream.refused.load(SeqCst);
    assert!((1..40).contains(&refused), "{refused} busy answers, of 2000");
    assert!(model.metric("streamgate_queue_wait_seconds_count") >= 100);
    assert_eq!(model.metric("streamgate_queue_length"), 0);
}

/// Callers get equal tokens while they compete, though one of them sends ten times as many requests.
#[tokio::test(start_paused = true)]
async fn callers_that_compete_get_equal_tokens() {
    let model = Arc::new(Model::new(queue(2000, 100 * SECOND), &[(9, Some(4))]));
    let mut tasks = JoinSet::new();
    let ends = Instant::now() + 90 * SECOND;
    for (caller, streams) in [("loud", 60), ("quiet", 6)] {
        for _ in 0..streams {
            let model = Arc::clone(&model);
            tasks.spawn(async move {
                let mut served = 0_u32;
                while Instant::now() < ends {
                    let request = model.request(caller, &interactive());
                    served += u32::from(model.serve(request, SECOND, 50).await.is_ok());
                }
                (caller, served)
            });
        }
    }
    let mut served = HashMap::<_, u32>::new();
    for (caller, count) in tasks.join_all().await {
        *served.entry(caller).or_default() += count;
    }
    let share = f64::from(served["quiet"]) / f64::from(served["quiet"] + served["loud"]);
    assert!((0.43..0.55).contains(&share), "{served:?}");
}

/// A place that becomes free goes to the first at once, and a request that has just come does not pass it.
#[tokio::test(start_paused = true)]
async fn a_free_place_goes_to_the_first_in_the_queue() {
    let model = Arc::new(Model::new(queue(10, 60 * SECOND), &[(9, Some(1))]));
    let order = Arc::<Mutex<Vec<(u32, u128)>>>::default();
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for number in 0..5_u32 {
        let (model, order) = (Arc::clone(&model), Arc::clone(&order));
        tasks.spawn(async move {
            // The last one comes at the moment in which the first one's place is free.
            sleep(if number == 4 { 700 * MS } else { 10 * MS * number }).await;
            model.serve(model.request("one", &interactive()), 700 * MS, 5).await.expect("served");
            order.lock().unwrap().push((number, begun.elapsed().as_millis()));
        });
    }
    tasks.join_all().await;
    let order = order.lock().unwrap();
    assert_eq!(*order, [(0, 700), (1, 1400), (2, 2100), (3, 2800), (4, 3500)]);
}

const MS: Duration = Duration::from_millis(1);

/// A request waits behind those alone that need the same targets.
#[tokio::test(start_paused = true)]
async fn a_request_for_another_target_passes() {
    let model = Arc::new(Model::new(queue(10, 60 * SECOND), &[(9, Some(1)), (9, Some(1))]));
    let only = |place: usize| {
        let mut request = model.request("one", &interactive());
        request.plan.targets = vec![model.request.plan.targets[place].clone()].into();
        request
    };
    let (long, second, other) = tokio::join!(
        model.serve(only(0), 10 * SECOND, 5),
        async {
            sleep(MS).await;
            model.serve(only(0), SECOND, 5).await
        },
        async {
            sleep(2 * MS).await;
            model.serve(only(1), SECOND, 5).await
        },
    );
    assert_eq!(long.expect("served").1, Duration::ZERO);
    assert_eq!(second.expect("served").1, 9999 * MS);
    assert_eq!(other.expect("served"), ("h1".to_owned(), Duration::ZERO));
}

/// A target that is to be asked again after a short time is waited for; a target that fails is not.
#[tokio::test(start_paused = true)]
async fn a_short_rate_limit_is_waited_for() {
    let model = Model::new(queue(10, 10 * SECOND), &[(9, None)]);
    let target = &model.request.plan.targets[0];
    model.request.health.limited(target, 3 * SECOND, Instant::now());
    let (_, waited) =
        model.serve(model.request("one", &interactive()), SECOND, 5).await.expect("served");
    assert!(waited >= 3 * SECOND && waited < 4 * SECOND, "{waited:?}");
    model.request.health.limited(target, 30 * SECOND, Instant::now());
    let (_, waited) =
        model.serve(model.request("one", &interactive()), SECOND, 5).await.expect("served");
    assert_eq!(waited, Duration::ZERO, "a lone target is asked rather than refused");
}

/// Callers who leave take nothing with them: the upstream sees no request, and the queue is empty.
#[tokio::test(start_paused = true)]
async fn thousands_who_leave_ask_nothing() {
    let model = Arc::new(Model::new(queue(20_000, 60 * SECOND), &[(1, Some(1))]));
    let mut tasks = JoinSet::new();
    for number in 0..10_001_u32 {
        let model = Arc::clone(&model);
        tasks.spawn(async move {
            let caller = format!("c{}", number % 3);
            model.serve(model.request(&caller, &interactive()), 3600 * SECOND, 5).await
        });
    }
    sleep(SECOND).await;
    assert_eq!(model.metric("streamgate_queue_length"), 10_000);
    tasks.shutdown().await;
    assert_eq!(model.metric("streamgate_queue_length"), 0);
    let upstream = model.upstream(0);
    assert_eq!((upstream.served.load(SeqCst), upstream.refused.load(SeqCst)), (1, 0));
    assert_eq!(model.request.health.open_streams(&model.request.plan.targets[0]), 0);
}

/// The bounds: the whole queue, half of it for one caller, an expected wait, and the wait itself; each is a 429 with a
/// time and a count of its own.
#[tokio::test(start_paused = true)]
async fn r30_the_queue_is_bounded() {
    let model = Arc::new(Model::new(queue(4, 10 * SECOND), &[(9, Some(1))]));
    let serve = |caller: &'static str, takes: Duration| {
        let model = Arc::clone(&model);
        async move { model.serve(model.request(caller, &interactive()), takes, 5).await }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve("first", 3 * SECOND));
    for caller in ["a", "a", "b", "c"] {
        sleep(MS).await;
        tasks.spawn(serve(caller, 30 * SECOND));
    }
    sleep(MS).await;
    let check = |served: Served, reason: &str| {
        let error = served.expect_err("refused");
        assert_eq!(error.fault().kind, Kind::RateLimited);
        assert_eq!(error.limit(), Some(("model", "queue")));
        assert!(!error.is_final() && error.wait() >= Some(SECOND), "{:?}", error.wait());
        let name = format!("streamgate_queue_refusals_total{{model=\"x\",reason=\"{reason}\"}}");
        model.metric(&name)
    };
    assert_eq!(check(serve("d", SECOND).await, "full"), 1);
    let results = tasks.join_all().await;
    let mut failed = results.into_iter().filter(Result::is_err);
    // One of them was served after the first; the others' time was over before that one ended.
    assert_eq!(check(failed.next().expect("one"), "timed_out"), 3);
    assert_eq!(failed.count(), 2);

    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        tasks.spawn(serve("a", SECOND));
        sleep(MS).await;
    }
    assert_eq!(check(serve("a", SECOND).await, "caller_full"), 1);
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
}

/// One that would wait too long is rejected at once, with the time after which it may be worth another try.
#[tokio::test(start_paused = true)]
async fn a_wait_that_would_be_too_long_is_refused_at_once() {
    let model = Arc::new(Model::new(queue(100, 10 * SECOND), &[(9, Some(1))]));
    let mut tasks = JoinSet::new();
    let mut late = None;
    for number in 0..40_u32 {
        let model = Arc::clone(&model);
        tasks.spawn(async move {
            let begun = Instant::now();
            let caller = format!("c{number}");
            let served = model.serve(model.request(&caller, &interactive()), 2 * SECOND, 5).await;
            (begun.elapsed(), served)
        });
        sleep(500 * MS).await;
    }
    let mut at_once = 0;
    for (took, served) in tasks.join_all().await {
        if let Err(error) = served {
            at_once += u32::from(took.is_zero());
            late = error.wait().max(late);
        }
    }
    let refused = model.metric("streamgate_queue_refusals_total{model=\"x\",reason=\"too_long\"}");
    assert!(refused >= 10 && refused == at_once, "{refused} {at_once}");
    assert!(late > Some(8 * SECOND) && late < Some(20 * SECOND), "{late:?}");
}

/// The class is that of the caller; a request may ask for a lower one only.
#[test]
fn r30_a_request_lowers_its_class_only() {
    let queue = queue(1, SECOND);
    let of = |caller, asked| &*queue.class(caller, asked).unwrap().name;
    assert_eq!(of(None, None), "interactive");
    assert_eq!(of(None, Some("batch")), "batch");
    assert_eq!(of(Some("batch"), None), "batch");
    assert_eq!(of(Some("batch"), Some("interactive")), "batch");
    assert_eq!(of(Some("gone"), Some("unknown")), "interactive");
}
