//! Plan of a load test: the options as given, checked, and the stages that follow from them. It must
//! report every impossible option at once, and start nothing.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::fault::FAULTS;
use super::protocol::{self, PROTOCOLS, Protocol};
use super::text;
use super::threshold::Threshold;

/// The most streams: one address has no more ports.
const MAX_STREAMS: u64 = 28_000;
/// The most tokens of an answer of the simulated upstream.
const MAX_TOKENS: u64 = 1_000_000;
/// The longest duration of a stage.
const MAX_DURATION: Duration = Duration::from_hours(24);
/// Longer than the gateway's own deadlines, which end faults that are silent.
const FAULT_TIMEOUT: Duration = Duration::from_secs(150);
/// The longest silence of any other stream.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A pattern of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
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
}

impl Scenario {
    /// Every scenario, in the order of `all`.
    pub const ALL: [Self; 6] =
        [Self::Steady, Self::Ramp, Self::HangUps, Self::Limits, Self::Mixed, Self::Faults];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Ramp => "ramp",
            Self::HangUps => "hang-ups",
            Self::Limits => "limits",
            Self::Mixed => "mixed",
            Self::Faults => "faults",
        }
    }
}

/// The user's options. Those that are `None` have defaults that depend on the scenario.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The gateway's address.
    pub url: String,
    /// The key of a caller.
    pub key: String,
    /// The key of a caller with a low limit, for `limits`.
    pub limited_key: Option<String>,
    /// The gateway's name for a simulated upstream.
    pub provider: String,
    /// A protocol's name, or `mixed`.
    pub dialect: Option<String>,
    /// The scenarios, in the order given.
    pub scenarios: Vec<Scenario>,
    /// Concurrent callers.
    pub streams: Option<u64>,
    /// The time for which each stage starts streams.
    pub duration: Option<Duration>,
    /// The most requests that each stage sends.
    pub requests: Option<u64>,
    /// The time in which the callers start.
    pub ramp: Option<Duration>,
    /// Tokens of an answer.
    pub tokens: Option<u64>,
    /// Time between tokens.
    pub interval: Option<Duration>,
    /// The longest silence.
    pub timeout: Option<Duration>,
    /// The simulated upstream's counts.
    pub upstream_stats: Option<String>,
    /// The gateway's metrics.
    pub metrics: Option<String>,
    /// The thresholds.
    pub thresholds: Vec<Threshold>,
}

/// A checked plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The gateway's address.
    pub url: Url,
    /// The key of a caller.
    pub key: String,
    /// The key of a caller with a low limit.
    pub limited_key: String,
    /// The gateway's name for a simulated upstream.
    pub provider: String,
    /// The stages, in their order.
    pub stages: Vec<Stage>,
    /// The simulated upstream's counts.
    pub upstream_stats: Option<Url>,
    /// The gateway's metrics.
    pub metrics: Option<Url>,
    /// The thresholds.
    pub thresholds: Vec<Threshold>,
    /// The parts that were omitted, and why.
    pub notes: Vec<String>,
}

/// One scenario with its numbers.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The scenario.
    pub scenario: Scenario,
    /// The protocols, which callers take in turn.
    pub protocols: Vec<&'static Protocol>,
    /// Concurrent callers; of `faults`, those for each fault and protocol.
    pub streams: u64,
    /// The time for which streams are started.
    pub duration: Duration,
    /// The most requests.
    pub requests: Option<u64>,
    /// The time in which the callers start.
    pub ramp: Duration,
    /// Tokens of an answer.
    pub tokens: u64,
    /// Time between tokens.
    pub interval: Duration,
    /// The longest silence.
    pub timeout: Duration,
}

/// Every option that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct PlanError(pub Vec<String>);

impl fmt::Display for PlanError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0.join("\n"))
    }
}

impl Stage {
    /// The program of the simulated upstream for an answer without a fault.
    pub fn program(&self) -> String {
        format!("n{}-i{}", self.tokens, self.interval.as_micros())
    }

    /// The time that an answer of `tokens` takes.
    pub fn lasts(&self, tokens: u64) -> Duration {
        let gaps = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.interval.saturating_mul(gaps)
    }

    /// The most streams that may be open at once.
    pub fn most_open(&self) -> u64 {
        match self.scenario {
            Scenario::Faults => {
                let faults = u64::try_from(FAULTS.len()).unwrap_or(u64::MAX);
                let protocols = u64::try_from(self.protocols.len()).unwrap_or(u64::MAX);
                self.streams.saturating_mul(faults).saturating_mul(protocols)
            }
            Scenario::Limits => self.streams.saturating_add(40),
            _ => self.streams,
        }
    }
}

impl Plan {
    /// The most streams that may be open at once.
    pub fn most_open(&self) -> u64 {
        self.stages.iter().map(Stage::most_open).max().unwrap_or_default()
    }

    /// Checks the options.
    pub fn new(options: Options) -> Result<Self, PlanError> {
        let mut problems = Vec::new();
        let mut notes = Vec::new();
        let url = address("--url", &options.url, &mut problems);
        let upstream_stats =
            page("--upstream-stats", options.upstream_stats.as_deref(), &mut problems);
        let metrics = page("--metrics", options.metrics.as_deref(), &mut problems);
        key(&options, &mut problems);
        let protocols = protocols(&options, &mut problems);
        let mut scenarios = options.scenarios.clone();
        if options.limited_key.is_none() && scenarios.contains(&Scenario::Limits) {
            let what = "`limits` needs --limited-key (or STREAMGATE_LIMITED_KEY): the key of a \
                        caller with fewer than 1,200 requests a minute";
            if scenarios.len() == 1 {
                problems.push(what.to_owned());
            } else {
                notes.push(format!("limits is left out: {what}"));
                scenarios.retain(|scenario| *scenario != Scenario::Limits);
            }
        }
        let stages: Vec<Stage> =
            scenarios.iter().map(|scenario| stage(*scenario, &protocols, &options)).collect();
        for stage in &stages {
            numbers(stage, &options, &mut problems);
        }
        problems.dedup();
        match url {
            Some(url) if problems.is_empty() => Ok(Self {
                url,
                key: options.key,
                limited_key: options.limited_key.unwrap_or_default(),
                provider: options.provider,
                stages,
                upstream_stats,
                metrics,
                thresholds: options.thresholds,
                notes,
            }),
            _ => Err(PlanError(problems)),
        }
    }
}

fn address(option: &str, text: &str, problems: &mut Vec<String>) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if url.is_none() {
        problems.push(format!(
            "{option} `{text}` is no address; expected for example http://127.0.0.1:8080"
        ));
    }
    url
}

fn page(option: &str, text: Option<&str>, problems: &mut Vec<String>) -> Option<Url> {
    text.and_then(|text| address(option, text, problems))
}

fn key(options: &Options, problems: &mut Vec<String>) {
    if options.key.is_empty() {
        problems.push(
            "no key: set STREAMGATE_KEY to a key of the gateway (one without a configuration \
             prints it at its start), or give --key"
                .to_owned(),
        );
    }
    let keys = [("--key", Some(&options.key)), ("--limited-key", options.limited_key.as_ref())];
    for (option, key) in keys {
        if key.is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            problems.push(format!("{option} has spaces or other characters that no key has"));
        }
    }
    let name = &options.provider;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        problems
            .push(format!("--provider `{name}` is no provider's name; expected one such as sim"));
    }
}

fn protocols(options: &Options, problems: &mut Vec<String>) -> Vec<&'static Protocol> {
    let Some(name) = options.dialect.as_deref() else { return Vec::new() };
    if name == "mixed" {
        return PROTOCOLS.to_vec();
    }
    let Some(protocol) = protocol::named(name) else {
        let names: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
        problems.push(format!(
            "--dialect `{name}` is unknown; expected one of {}, mixed",
            names.join(", ")
        ));
        return Vec::new();
    };
    vec![protocol]
}

/// A scenario with the user's options and its defaults.
fn stage(scenario: Scenario, chosen: &[&'static Protocol], options: &Options) -> Stage {
    let secs = Duration::from_secs;
    let every = matches!(scenario, Scenario::Mixed | Scenario::Faults);
    let protocols = match (chosen, every) {
        ([], true) => PROTOCOLS.to_vec(),
        ([], false) => PROTOCOLS.iter().take(1).copied().collect(),
        _ => chosen.to_vec(),
    };
    let ramping = scenario == Scenario::Ramp;
    let faulty = scenario == Scenario::Faults;
    let duration = options.duration.unwrap_or_else(|| secs(if ramping { 20 } else { 15 }));
    let interval = options.interval.unwrap_or_else(|| {
        Duration::from_millis(match scenario {
            Scenario::Ramp => 200,
            Scenario::Faults => 5,
            _ => 20,
        })
    });
    // The first streams must still be open when the last caller has started.
    let whole = duration.as_micros().checked_div(interval.as_micros().max(1)).unwrap_or_default();
    let whole = u64::try_from(whole).unwrap_or(u64::MAX).clamp(1, MAX_TOKENS);
    let tokens = match scenario {
        Scenario::Ramp => whole,
        Scenario::Faults => 100,
        _ => 200,
    };
    Stage {
        scenario,
        protocols,
        streams: options.streams.unwrap_or(match scenario {
            Scenario::Ramp => 80,
            Scenario::Faults => 1,
            _ => 20,
        }),
        duration,
        requests: options.requests,
        ramp: options.ramp.unwrap_or(if ramping { duration * 2 / 5 } else { Duration::ZERO }),
        tokens: options.tokens.unwrap_or(tokens),
        interval,
        timeout: options.timeout.unwrap_or(if faulty { FAULT_TIMEOUT } else { TIMEOUT }),
    }
}

/// The errors of a stage's numbers.
fn numbers(stage: &Stage, options: &Options, problems: &mut Vec<String>) {
    let mut problem = |wrong: bool, what: String| {
        if wrong && !problems.contains(&what) {
            problems.push(what);
        }
    };
    let Stage { scenario, streams, duration, ramp, tokens, interval, timeout, .. } = stage;
    let range = |name: &str, value: u64, most: u64| {
        let what = format!("{name} {value} is impossible; expected 1 to {}", text::grouped(most));
        (!(1..=most).contains(&value), what)
    };
    let (wrong, what) = range("--streams", *streams, MAX_STREAMS);
    problem(wrong, what);
    let (wrong, what) = range("--tokens", *tokens, MAX_TOKENS);
    problem(wrong, what);
    problem(options.requests == Some(0), "--requests 0 is impossible; expected at least 1".into());
    problem(duration.is_zero(), "--duration is zero; expected for example 15s".into());
    problem(*duration > MAX_DURATION, "--duration is too long; expected at most 24h".into());
    problem(timeout.is_zero(), "--timeout is zero; expected for example 30s".into());
    problem(
        ramp >= duration && !duration.is_zero(),
        format!(
            "--ramp {} is not shorter than --duration {}: the last callers would never start",
            text::time(*ramp),
            text::time(*duration)
        ),
    );
    problem(
        interval >= timeout && !timeout.is_zero(),
        format!(
            "--interval {} is not shorter than --timeout {}: every stream would count as stalled",
            text::time(*interval),
            text::time(*timeout)
        ),
    );
    problem(
        stage.lasts(*tokens) > MAX_DURATION,
        format!(
            "--tokens {tokens} with --interval {} lasts longer than 24h",
            text::time(*interval)
        ),
    );
    problem(
        stage.most_open() > MAX_STREAMS && *streams <= MAX_STREAMS,
        format!(
            "{}: --streams {streams} makes {} streams at once; expected at most {}",
            scenario.name(),
            stage.most_open(),
            text::grouped(MAX_STREAMS)
        ),
    );
    problem(
        *scenario == Scenario::Faults && *tokens < 2,
        format!("--tokens {tokens} leaves no place for a fault; expected at least 2"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(scenarios: &[Scenario]) -> Options {
        Options {
            url: "http://127.0.0.1:8080".to_owned(),
            key: "sg-x".to_owned(),
            provider: "sim".to_owned(),
            scenarios: scenarios.to_vec(),
            ..Options::default()
        }
    }

    fn problems(change: impl FnOnce(&mut Options)) -> String {
        let mut options = options(&[Scenario::Steady]);
        change(&mut options);
        Plan::new(options).map(|plan| format!("{plan:?}")).unwrap_err().to_string()
    }

    #[test]
    fn defaults_make_a_plan() {
        let plan = Plan::new(options(&Scenario::ALL)).unwrap();
        let names: Vec<&str> = plan.stages.iter().map(|stage| stage.scenario.name()).collect();
        assert_eq!(names, ["steady", "ramp", "hang-ups", "mixed", "faults"]);
        assert!(plan.notes[0].contains("--limited-key"), "{:?}", plan.notes);
        assert_eq!(plan.stages[0].program(), "n200-i20000");
        // A stream of the ramp lasts as long as the stage.
        assert_eq!(plan.stages[1].lasts(plan.stages[1].tokens), Duration::from_secs(20));
        assert_eq!(plan.stages[3].protocols.len(), PROTOCOLS.len());
    }

    #[test]
    fn impossible_options_are_named_with_what_is_expected() {
        const SECOND: Duration = Duration::from_secs(1);
        type Change = fn(&mut Options);
        let cases: [(&str, Change); 17] = [
            ("--streams 0 is impossible; expected 1 to 28,000", |o| o.streams = Some(0)),
            ("--streams 28001", |o| o.streams = Some(28_001)),
            ("--tokens 0", |o| o.tokens = Some(0)),
            ("--tokens 1000001 is impossible", |o| o.tokens = Some(1_000_001)),
            ("--requests 0", |o| o.requests = Some(0)),
            ("--duration is zero", |o| o.duration = Some(Duration::ZERO)),
            ("at most 24h", |o| o.duration = Some(MAX_DURATION + SECOND)),
            ("--timeout is zero", |o| o.timeout = Some(Duration::ZERO)),
            ("--ramp 15.0 s is not shorter than --duration 15.0 s", |o| o.ramp = Some(SECOND * 15)),
            ("would count as stalled", |o| o.interval = Some(SECOND * 40)),
            ("lasts longer than 24h", |o| (o.tokens, o.interval) = (Some(1_000_000), Some(SECOND))),
            ("no key: set STREAMGATE_KEY", |o| o.key = String::new()),
            ("--key has spaces", |o| o.key = "a b".to_owned()),
            ("--url `8080` is no address", |o| o.url = "8080".to_owned()),
            ("--metrics `ftp://x` is no address", |o| o.metrics = Some("ftp://x".to_owned())),
            ("expected one of openai-chat, ", |o| o.dialect = Some("klingon".to_owned())),
            ("--provider `a/b`", |o| o.provider = "a/b".to_owned()),
        ];
        for (words, change) in cases {
            let found = problems(change);
            assert!(found.contains(words), "{words} is not in {found}");
            assert_eq!(found.lines().count(), 1, "{found}");
        }
        let all = problems(|options| {
            options.streams = Some(0);
            options.key = String::new();
            options.url = String::new();
        });
        assert_eq!(all.lines().count(), 3, "{all}");
    }

    #[test]
    fn scenarios_have_demands_of_their_own() {
        let error = Plan::new(options(&[Scenario::Limits])).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("--limited-key"), "{error}");
        let one = Options { tokens: Some(1), ..options(&[Scenario::Faults]) };
        let error = Plan::new(one).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no place for a fault"), "{error}");
        let many = Options { streams: Some(1000), ..options(&[Scenario::Faults]) };
        let error = Plan::new(many).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("streams at once"), "{error}");
    }
}
