//! Thresholds such as `ttft_p95<500ms`: bounds that a run must keep, and whether it did. A value that was
//! never measured must never pass.

use std::str::FromStr;
use std::time::Duration;

use super::check::Check;
use super::histogram::Histogram;
use super::tally::Tally;
use super::text;

/// The metrics, for messages.
const METRICS: &str = "ttft, inter_token, longest_gap or duration with _p50, _p95, _p99 or _max; \
                       errors, incomplete (a count or a percentage); rate (tokens per second)";

/// A threshold: a metric, a comparison and a bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    comparison: Comparison,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Latency(Latency, Statistic),
    Errors,
    Incomplete,
    Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Latency {
    Ttft,
    InterToken,
    LongestGap,
    Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistic {
    Quantile(u64),
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    Time(Duration),
    Number(f64),
    Percent(f64),
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let at = compact.find(['<', '>', '=']).ok_or_else(|| {
            format!("`{text}` compares nothing; expected for example `ttft_p95<500ms`")
        })?;
        let (name, rest) = compact.split_at_checked(at).unwrap_or_default();
        let metric = Metric::named(name)
            .ok_or_else(|| format!("`{name}` is no metric; expected {METRICS}"))?;
        let (comparison, bound) = Comparison::leading(rest)
            .ok_or_else(|| format!("`{text}`: expected one of <, <=, >, >=, =="))?;
        let bound = metric.bound(bound).ok_or_else(|| {
            format!("`{text}`: `{bound}` is no bound of {name}; expected {}", metric.bounds())
        })?;
        Ok(Self { text: compact, metric, comparison, bound })
    }
}

impl Metric {
    fn named(name: &str) -> Option<Self> {
        match name {
            "errors" => return Some(Self::Errors),
            "incomplete" => return Some(Self::Incomplete),
            "rate" => return Some(Self::Rate),
            _ => {}
        }
        let (latency, statistic) = name.rsplit_once('_')?;
        let latency = match latency {
            "ttft" => Latency::Ttft,
            "inter_token" => Latency::InterToken,
            "longest_gap" => Latency::LongestGap,
            "duration" => Latency::Duration,
            _ => return None,
        };
        let statistic = match statistic {
            "p50" => Statistic::Quantile(50),
            "p95" => Statistic::Quantile(95),
            "p99" => Statistic::Quantile(99),
            "max" => Statistic::Max,
            _ => return None,
        };
        Some(Self::Latency(latency, statistic))
    }

    fn bounds(self) -> &'static str {
        match self {
            Self::Latency(..) => "a duration such as `500ms` or `2s`",
            Self::Errors | Self::Incomplete => "a count such as `1` or a percentage such as `0.5%`",
            Self::Rate => "a number such as `1000`",
        }
    }

    fn bound(self, text: &str) -> Option<Bound> {
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            text.parse::<f64>().ok().filter(|number| plain && number.is_finite())
        };
        match (self, text.strip_suffix('%')) {
            (Self::Latency(..), _) => text::duration(text).map(Bound::Time),
            (Self::Errors | Self::Incomplete, Some(percent)) => {
                number(percent).filter(|percent| *percent <= 100.0).map(Bound::Percent)
            }
            (Self::Errors | Self::Incomplete | Self::Rate, None) => number(text).map(Bound::Number),
            (Self::Rate, Some(_)) => None,
        }
    }
}

impl Comparison {
    fn leading(text: &str) -> Option<(Self, &str)> {
        [
            ("<=", Self::AtMost),
            (">=", Self::AtLeast),
            ("==", Self::Equal),
            ("<", Self::Less),
            (">", Self::Greater),
        ]
        .into_iter()
        .find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?)))
    }

    fn holds<T: PartialOrd>(self, value: &T, bound: &T) -> bool {
        match self {
            Self::Less => value < bound,
            Self::AtMost => value <= bound,
            Self::Greater => value > bound,
            Self::AtLeast => value >= bound,
            Self::Equal => value == bound,
        }
    }
}

impl Threshold {
    /// Whether it decides itself how many streams may fail, in the place of "none".
    pub fn is_about_failures(&self) -> bool {
        matches!(self.metric, Metric::Errors | Metric::Incomplete)
    }

    /// Compares it with what was measured in `elapsed`.
    pub fn check(&self, tally: &Tally, elapsed: Duration) -> Check {
        let (ok, measured) = match (self.metric, self.bound) {
            (Metric::Latency(latency, statistic), Bound::Time(bound)) => {
                let value = statistic.of(latency.of(tally));
                let ok = value.is_some_and(|value| self.comparison.holds(&value, &bound));
                (ok, value.map(text::time))
            }
            (Metric::Rate, Bound::Number(bound)) => {
                let rate = text::per_second(tally.tokens, elapsed);
                let ok = rate.is_some_and(|rate| self.comparison.holds(&rate, &bound));
                (ok, rate.map(|rate| format!("{rate:.0} tokens/s")))
            }
            (Metric::Errors, bound) => self.count(tally.errors(), tally, bound),
            (_, bound) => self.count(tally.errors() + tally.unfinished(), tally, bound),
        };
        let measured = measured.unwrap_or_else(|| "nothing was measured".to_owned());
        Check::new(format!("threshold {}", self.text), ok, measured)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of streams are far below 2^52")]
    fn count(&self, count: u64, tally: &Tally, bound: Bound) -> (bool, Option<String>) {
        let share = (tally.started > 0).then(|| count as f64 * 100.0 / tally.started as f64);
        let ok = match bound {
            Bound::Percent(bound) => share.is_some_and(|it| self.comparison.holds(&it, &bound)),
            Bound::Number(bound) => {
                share.is_some() && self.comparison.holds(&(count as f64), &bound)
            }
            Bound::Time(_) => false,
        };
        (ok, share.map(|share| format!("{count} of {} ({share:.2}%)", tally.started)))
    }
}

impl Latency {
    fn of(self, tally: &Tally) -> &Histogram {
        match self {
            Self::Ttft => &tally.ttft,
            Self::InterToken => &tally.inter_token,
            Self::LongestGap => &tally.longest_gap,
            Self::Duration => &tally.duration,
        }
    }
}

impl Statistic {
    fn of(self, histogram: &Histogram) -> Option<Duration> {
        match self {
            Self::Quantile(percent) => histogram.quantile(percent),
            Self::Max => histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::failure::Kind;

    fn ok(text: &str, tally: &Tally) -> bool {
        text.parse::<Threshold>().unwrap().check(tally, Duration::from_secs(2)).ok
    }

    fn measured() -> Tally {
        let mut tally = Tally { started: 200, complete: 198, tokens: 1000, ..Tally::default() };
        tally.failures.insert(Kind::Stalled, 1);
        tally.ttft.record(Duration::from_millis(40));
        tally.ttft.record(Duration::from_millis(90));
        tally
    }

    #[test]
    fn thresholds_hold_or_not() {
        let tally = measured();
        for (text, wanted) in [
            ("ttft_p95<500ms", true),
            ("ttft_p95 < 90ms", false),
            ("ttft_max<=90ms", true),
            ("ttft_p50>1s", false),
            ("ttft_p50>=1ms", true),
            ("errors<1", false),
            ("errors==1", true),
            ("errors<=0.5%", true),
            ("errors<0.5%", false),
            ("incomplete<=2", true),
            ("incomplete<2", false),
            ("rate>=500", true),
            ("rate>500", false),
        ] {
            assert_eq!(ok(text, &tally), wanted, "{text}");
        }
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        for text in ["ttft_p95<500ms", "ttft_p95>0ms", "errors<1", "errors==0", "incomplete<50%"] {
            assert!(!ok(text, &Tally::default()), "{text}");
        }
        let empty: Threshold = "rate>=0".parse().unwrap();
        assert!(!empty.check(&Tally::default(), Duration::ZERO).ok);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("ttft", "compares nothing"),
            ("", "compares nothing"),
            ("latency_p95<1s", "`latency_p95` is no metric; expected ttft"),
            ("ttft_p90<1s", "`ttft_p90` is no metric"),
            ("ttft_p95<500", "a duration such as"),
            ("ttft_p95<-5ms", "a duration such as"),
            ("ttft_p95=5ms", "expected one of <"),
            ("errors<NaN", "a count such as"),
            ("errors<inf", "a count such as"),
            ("errors<200%", "a count such as"),
            ("rate>10%", "a number such as"),
            ("rate>", "a number such as"),
        ] {
            let error = text.parse::<Threshold>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z_0-9<>=.%é ]{0,30}") {
            drop(text.parse::<Threshold>());
        }
    }
}
