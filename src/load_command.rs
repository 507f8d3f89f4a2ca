//! `streamgate load`: its options, its progress on standard error, its reports and exit status.
//! It must never print a key.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use streamgate::gateway::clock::unix_seconds;
use streamgate::load::{self, Options, Plan, Report, Scenario, Snapshot, Threshold};
use tokio::signal::unix::{SignalKind, signal};

use crate::serve::runtime;
use crate::{CliError, print_line};

/// Open files that a run needs beside its streams.
const OTHER_FILES: u64 = 64;
/// How often progress is written where it cannot be refreshed.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The text after the options in `streamgate load --help`.
const AFTER_HELP: &str = "\
Examples:
  STREAMGATE_KEY=sg-... streamgate load
      20 callers for 15 s against the gateway on 127.0.0.1:8080
  streamgate load --scenario ramp --streams 2000 --duration 60s --ramp 30s
      2,000 streams open at once
  streamgate load --scenario all --html report.html --json report.json
      every scenario, as a page with plots and for machines
  streamgate load --threshold 'ttft_p95<500ms' --threshold 'errors<0.1%'
      exit status 1 if it is slower, or if more streams fail

Exit status:
  0  every check and threshold holds
  1  a check or a threshold does not hold, or the gateway cannot be used
  2  impossible options
  130  ended by SIGINT or SIGTERM, with a summary of what was measured until then

docs/load-testing.md explains scenarios, checks and reports.";

/// The options of `streamgate load`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct LoadArguments {
    /// The gateway's address.
    #[arg(
        long,
        env = "STREAMGATE_LOAD_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    url: String,
    /// A key of the gateway, best one without limits.
    #[arg(
        long,
        env = "STREAMGATE_KEY",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    key: String,
    /// For `limits`: the key of a caller with fewer than 1,200 requests a minute.
    #[arg(long, value_name = "KEY", env = "STREAMGATE_LIMITED_KEY", hide_env_values = true)]
    limited_key: Option<String>,
    /// The gateway's name for a provider that is a simulated upstream.
    #[arg(long, alias = "model", value_name = "NAME", default_value = "sim")]
    provider: String,
    /// The protocol: openai-chat, openai-responses, anthropic, gemini, ollama, cohere, or mixed for
    /// all in turn. Unless given openai-chat; `mixed` and `faults` use all.
    #[arg(long, value_name = "NAME")]
    dialect: Option<String>,
    /// The pattern of load.
    #[arg(long, default_value = "steady")]
    scenario: Pattern,
    /// Callers at once [default: 20; ramp 80; faults 1 for each fault and protocol].
    #[arg(long, value_name = "N")]
    streams: Option<u64>,
    /// How long streams are started; those that are open then run to their end [default: 15s; ramp 20s].
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// How many requests each scenario sends at most.
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// The time in which the callers start one after another [default: 0s; ramp 8s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ramp: Option<Duration>,
    /// Tokens of an answer [default: 200; ramp as many as fill its duration; faults 100].
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Time between two tokens, such as 500us or 20ms [default: 20ms; ramp 200ms; faults 5ms].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    interval: Option<Duration>,
    /// The longest silence: until the first token, and between two [default: 30s; faults 150s, which
    /// is longer than the gateway's own deadlines].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// The simulated upstream's counts, such as <http://127.0.0.1:9200/_sim/stats>, to compare.
    #[arg(long, env = "STREAMGATE_LOAD_UPSTREAM_STATS", value_name = "URL")]
    upstream_stats: Option<String>,
    /// The gateway's counts, such as <http://127.0.0.1:9090/metrics>, to compare.
    #[arg(long, env = "STREAMGATE_LOAD_METRICS", value_name = "URL")]
    metrics: Option<String>,
    /// A threshold such as `ttft_p95<500ms`; may be repeated. Metrics: `ttft`,
    /// `inter_token`, `longest_gap`, `duration` with `_p50`, `_p95`, `_p99`, `_max`; `errors`,
    /// `incomplete` (a count or a percentage); `rate` (tokens per second).
    #[arg(long, value_name = "CONDITION")]
    threshold: Vec<Threshold>,
    /// Write the result as JSON; - is standard output, in the place of the summary.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as one HTML page with plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

/// The values of `--scenario`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pattern {
    /// Callers that send the next request as soon as they have a response.
    Steady,
    /// Callers that start one after another, until all their streams are open at once.
    Ramp,
    /// Callers of which every second one disconnects early.
    HangUps,
    /// A caller over its limits beside others.
    Limits,
    /// As steady, in every protocol.
    Mixed,
    /// Upstreams that fail, in every way and every protocol.
    Faults,
    /// Each of them, one after another.
    All,
}

impl Pattern {
    fn scenarios(self) -> Vec<Scenario> {
        match self {
            Self::Steady => vec![Scenario::Steady],
            Self::Ramp => vec![Scenario::Ramp],
            Self::HangUps => vec![Scenario::HangUps],
            Self::Limits => vec![Scenario::Limits],
            Self::Mixed => vec![Scenario::Mixed],
            Self::Faults => vec![Scenario::Faults],
            Self::All => Scenario::ALL.to_vec(),
        }
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    load::duration(text)
        .ok_or("expected a duration such as `500us`, `20ms`, `15s` or `2m`, at most 24h")
}

/// Where reports go. Opened before the run: after it, it would be too late to find out.
struct Reports {
    json: Option<File>,
    json_on_stdout: bool,
    html: Option<File>,
}

impl Reports {
    fn open(json: Option<&Path>, html: Option<&Path>) -> Result<Self, CliError> {
        let create = |file: &Path| {
            File::create(file).map_err(|error| {
                let file = file.display();
                CliError::configuration(&format!("cannot write the report {file}: {error}"))
            })
        };
        let stdout = |file: &Path| file == Path::new("-");
        if html.is_some_and(stdout) {
            return Err(CliError::configuration(&"--html - is not possible; name a file"));
        }
        Ok(Self {
            json_on_stdout: json.is_some_and(stdout),
            json: json.filter(|file| !stdout(file)).map(create).transpose()?,
            html: html.map(create).transpose()?,
        })
    }

    fn write(self, report: &Report) -> Result<(), CliError> {
        let failed =
            |error: std::io::Error| CliError::new(format!("cannot write a report: {error}"));
        let json = load::json(report);
        let summary = if self.json_on_stdout { json.to_string() } else { load::summary(report) };
        print_line(&mut std::io::stdout(), summary.trim_end());
        if let Some(mut file) = self.json {
            writeln!(file, "{json}").map_err(failed)?;
        }
        if let Some(mut file) = self.html {
            file.write_all(load::html(report).as_bytes()).map_err(failed)?;
        }
        Ok(())
    }
}

/// Runs the load test.
pub(crate) fn load(arguments: LoadArguments) -> Result<(), CliError> {
    let quiet = arguments.quiet;
    let (json, html) = (arguments.json.clone(), arguments.html.clone());
    let plan =
        Plan::new(options(arguments)).map_err(|problems| CliError::configuration(&problems))?;
    open_files(&plan)?;
    let reports = Reports::open(json.as_deref(), html.as_deref())?;
    let mut progress = Progress::new(quiet);
    let report = runtime()?.block_on(async {
        let failed = |error| CliError::new(format!("cannot listen for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let report = load::run(&plan, unix_seconds(), stop, |snapshot| progress.show(snapshot));
        report.await.map_err(CliError::new)
    });
    progress.clear();
    let report = report?;
    reports.write(&report)?;
    if report.interrupted {
        return Err(CliError { message: "interrupted".to_owned(), code: 130 });
    }
    if report.ok() {
        Ok(())
    } else {
        Err(CliError::new("the load test failed: see the checks above"))
    }
}

fn options(arguments: LoadArguments) -> Options {
    Options {
        url: arguments.url,
        key: arguments.key,
        limited_key: arguments.limited_key.filter(|key| !key.is_empty()),
        provider: arguments.provider,
        dialect: arguments.dialect,
        scenarios: arguments.scenario.scenarios(),
        streams: arguments.streams,
        duration: arguments.duration,
        requests: arguments.requests,
        ramp: arguments.ramp,
        tokens: arguments.tokens,
        interval: arguments.interval,
        timeout: arguments.timeout,
        upstream_stats: arguments.upstream_stats,
        metrics: arguments.metrics,
        thresholds: arguments.threshold,
    }
}

/// Raises the limit of open files to what the plan needs: each stream is a connection.
fn open_files(plan: &Plan) -> Result<(), CliError> {
    let needed = plan.most_open().saturating_add(OTHER_FILES);
    let failed = |error| CliError::new(format!("cannot raise the limit of open files: {error}"));
    let limit = rlimit::increase_nofile_limit(needed).map_err(failed)?;
    if limit < needed {
        return Err(CliError::configuration(&format!(
            "{} streams need {needed} open files, and the limit is {limit}: raise it with \
             `ulimit -n`, or use fewer --streams",
            plan.most_open()
        )));
    }
    Ok(())
}

/// Progress on standard error: one line that is refreshed, or one every few seconds.
struct Progress {
    quiet: bool,
    terminal: bool,
    due: Duration,
    last: Option<Scenario>,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { quiet, terminal, due: Duration::ZERO, last: None }
    }

    fn show(&mut self, snapshot: &Snapshot) {
        if self.quiet {
            return;
        }
        if self.last != Some(snapshot.scenario) {
            self.last = Some(snapshot.scenario);
            self.due = LINE_EVERY;
        }
        if self.terminal {
            // Back to the beginning of the line, and erase the rest of the previous one.
            let _gone = write!(std::io::stderr(), "\r{snapshot}\x1b[K");
        } else if snapshot.elapsed >= self.due {
            self.due = snapshot.elapsed + LINE_EVERY;
            print_line(&mut std::io::stderr(), &snapshot.to_string());
        }
    }

    fn clear(&self) {
        if self.terminal && !self.quiet && self.last.is_some() {
            let _gone = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
