//! Runner: preflight, then each stage on one thread per core, sampled from here. Every thread ends
//! with its stage; a stopped run returns what was measured until then.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::check::Check;
use super::client::Client;
use super::counts::Counts;
use super::plan::{Plan, Stage};
use super::preflight::preflight;
use super::progress::Snapshot;
use super::report::{Report, StageReport};
use super::scenario::{Share, Shared};
use super::tally::{Gauge, Meter, Tally};
use super::text;

/// The name of the check that the counts of the gateway and the upstream can be read.
const COUNTS_CHECK: &str = "the gateway and the upstream report their counts";
/// The interval at which a stage is sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// The end of each worker's thread.
type Ends = Vec<oneshot::Receiver<Result<(), String>>>;

/// A stage on its threads, which stop when it is dropped.
struct Running {
    begin: Instant,
    meters: Vec<Arc<Meter>>,
    gauge: Arc<Gauge>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    /// Puts what was measured until now into `report`; returns the tokens so far.
    fn sample(&self, report: &mut StageReport) -> u64 {
        let tokens = self.meters.iter().map(|meter| meter.tokens()).sum();
        report.elapsed = self.begin.elapsed();
        report.most_open = self.gauge.peak();
        report.timeline.sample(report.elapsed, self.gauge.now(), tokens);
        let mut tally = Tally::default();
        for meter in &self.meters {
            tally.merge(&meter.tally());
        }
        // Its own count is of streams that have ended.
        if tally.unfinished() > 0 {
            tally.tokens = tokens;
        }
        report.tally = tally;
        tokens
    }
}

/// Runs the plan until it is done or `stop` resolves. `now`: seconds since 1970, for the report.
///
/// The error is that of a target that cannot be used at all.
pub async fn run(
    plan: &Plan,
    now: u64,
    stop: impl Future<Output = ()>,
    mut progress: impl FnMut(&Snapshot),
) -> Result<Report, String> {
    let mut stop = std::pin::pin!(stop);
    let mut report = Report {
        target: plan.url.to_string(),
        started: now,
        stages: Vec::new(),
        notes: plan.notes.clone(),
        interrupted: false,
    };
    tokio::select! {
        checked = preflight(plan) => checked?,
        () = stop.as_mut() => report.interrupted = true,
    }
    let client = Client::new(&plan.url, Duration::from_secs(10))?;
    for stage in &plan.stages {
        if report.interrupted {
            break;
        }
        let before = tokio::select! {
            counts = Counts::settled(&client, plan) => counts,
            () = stop.as_mut() => {
                report.interrupted = true;
                break;
            }
        };
        let before = match (before, report.stages.last_mut()) {
            (Ok(counts), _) => counts,
            (Err(error), None) => return Err(error),
            // Earlier measurements must not be lost.
            (Err(error), Some(last)) => {
                last.checks.push(Check::new(COUNTS_CHECK, false, error));
                break;
            }
        };
        let (running, ends) = start(stage, plan)?;
        let mut ended = std::pin::pin!(all(ends));
        let mut measured = StageReport::new(stage);
        tokio::select! {
            watched = watch(&running, ended.as_mut(), &mut measured, &mut progress) => watched?,
            () = stop.as_mut() => {
                report.interrupted = true;
                running.sample(&mut measured);
                running.stop.cancel();
                ended.await?;
            }
        }
        if !report.interrupted {
            measured.checks = tokio::select! {
                counts = Counts::settled(&client, plan) => match counts {
                    Ok(counts) => counts.agree(&before, &measured.tally, stage.scenario),
                    Err(error) => vec![Check::new(COUNTS_CHECK, false, error)],
                },
                () = stop.as_mut() => {
                    report.interrupted = true;
                    Vec::new()
                }
            };
        }
        measured.judge(&plan.thresholds);
        report.stages.push(measured);
    }
    Ok(report)
}

/// Starts a stage on one thread per core.
fn start(stage: &Stage, plan: &Plan) -> Result<(Running, Ends), String> {
    let keys = (plan.key.clone(), plan.limited_key.clone());
    let shared = Arc::new(Shared::new(stage.clone(), keys, plan.provider.clone()));
    let gauge = Arc::new(Gauge::default());
    let stop = CancellationToken::new();
    let mut running = Running { begin: Instant::now(), meters: Vec::new(), gauge, stop };
    let mut ends = Ends::new();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = u64::try_from(cores).unwrap_or(1).min(stage.most_open()).max(1);
    for worker in 0..workers {
        let meter = Arc::new(Meter::new(&running.gauge));
        let share = Share {
            shared: Arc::clone(&shared),
            client: Client::new(&plan.url, stage.timeout)?,
            meter: Arc::clone(&meter),
            worker: (worker, workers),
        };
        let (done, end) = oneshot::channel();
        let stop = running.stop.clone();
        thread::Builder::new()
            .name(format!("load-{worker}"))
            .spawn(move || drop(done.send(work(share, &stop))))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        running.meters.push(meter);
        ends.push(end);
    }
    Ok((running, ends))
}

/// A worker's thread.
fn work(share: Share, stop: &CancellationToken) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    runtime.block_on(async {
        tokio::select! {
            () = share.run() => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(())
}

/// Resolves when all threads have ended, or with the error of one.
async fn all(ends: Ends) -> Result<(), String> {
    for end in ends {
        match end.await {
            Ok(ended) => ended?,
            Err(_) => return Err("a worker of the load test has panicked".to_owned()),
        }
    }
    Ok(())
}

/// Samples a stage until its threads have ended.
async fn watch(
    running: &Running,
    mut ended: std::pin::Pin<&mut impl Future<Output = Result<(), String>>>,
    report: &mut StageReport,
    progress: &mut impl FnMut(&Snapshot),
) -> Result<(), String> {
    let mut tick = interval(SAMPLE_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = (Duration::ZERO, 0_u64);
    loop {
        let over = tokio::select! {
            result = ended.as_mut() => Some(result),
            _ = tick.tick() => None,
        };
        let tokens = running.sample(report);
        if let Some(result) = over {
            return result;
        }
        let elapsed = report.elapsed;
        let rate = text::per_second(tokens.saturating_sub(last.1), elapsed.saturating_sub(last.0));
        last = (elapsed, tokens);
        progress(&Snapshot {
            scenario: report.stage.scenario,
            elapsed,
            duration: report.stage.duration,
            open: running.gauge.now(),
            ended: report.tally.ended().saturating_sub(report.tally.errors()),
            errors: report.tally.errors(),
            tokens,
            rate: rate.unwrap_or_default(),
            ttft_p95: report.tally.ttft.quantile(95),
        });
    }
}
