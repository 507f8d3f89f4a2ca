//! Plots as inline SVG: distributions of latencies and timelines. Colours come from the page's
//! classes, so that they fit light and dark. No coordinate may be NaN.

use std::fmt::Write;
use std::time::Duration;

use super::histogram::Histogram;
use super::text;
use super::timeline::Point;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
/// The plot's area: left, right, top, bottom.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 548.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 188.0;
/// Bars of a distribution.
const BARS: u32 = 48;

/// A linear or logarithmic axis.
struct Axis {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// The position of a value on the axis, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let scale =
            |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let (from, to) = (scale(self.from), scale(self.to));
        if to > from { ((scale(value) - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.share(value) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.share(value) * (BOTTOM - TOP)
    }

    /// Round values: 1, 2 and 5 times powers of ten on a logarithmic axis, else four to eight steps.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        if self.logarithmic {
            let mut decade = 10_f64.powf(self.from.log10().floor());
            while decade <= self.to && ticks.len() < 40 {
                ticks.extend([1.0, 2.0, 5.0].map(|step| step * decade));
                decade *= 10.0;
            }
            ticks.retain(|tick| (self.from..=self.to).contains(tick));
        } else {
            let step = round_step((self.to - self.from) / 5.0);
            let mut tick = (self.from / step).ceil() * step;
            while tick <= self.to && ticks.len() < 40 {
                ticks.push(tick);
                tick += step;
            }
        }
        ticks
    }
}

/// The next larger of 1, 2 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    if !step.is_finite() || step <= 0.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|it| it * decade).into_iter().find(|it| *it >= step).unwrap_or(step)
}

/// Writes into a `String`, which cannot fail.
macro_rules! add {
    ($out:expr, $($arguments:tt)*) => {{
        let _infallible = write!($out, $($arguments)*);
    }};
}

fn open(title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
         <text class=\"title\" x=\"{LEFT}\" y=\"14\">{title}</text>"
    )
}

fn empty(title: &str) -> String {
    let (x, y) = (f64::midpoint(LEFT, RIGHT), f64::midpoint(TOP, BOTTOM));
    let text = "nothing was measured";
    open(title)
        + &format!(
            "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{text}</text></svg>"
        )
}

/// A number without needless digits.
fn number(value: f64) -> String {
    if value >= 1_000_000.0 {
        format!("{:.1}M", value / 1_000_000.0)
    } else if value >= 10_000.0 {
        format!("{:.0}k", value / 1_000.0)
    } else if value >= 1.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn horizontal(y: &Axis, label: fn(f64) -> String, out: &mut String) {
    for tick in y.ticks() {
        let at = y.y(tick);
        add!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
        );
        add!(
            out,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 3.5,
            label(tick)
        );
    }
}

fn below(x: &Axis, label: fn(f64) -> String, out: &mut String) {
    for tick in x.ticks() {
        let at = x.x(tick);
        add!(
            out,
            "<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 15.0,
            label(tick)
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a plot needs no more precision")]
fn micros(duration: Duration) -> f64 {
    duration.as_micros() as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounded, not negative"
)]
fn bounds(x: &Axis) -> Vec<u64> {
    let ratio = x.to / x.from;
    let share = |bar: u32| f64::from(bar) / f64::from(BARS);
    (0..=BARS).map(|bar| (x.from * ratio.powf(share(bar))).round() as u64).collect()
}

/// The distribution of a latency, on a logarithmic axis, with its quantiles. The bars at the edges
/// hold what lies beyond them.
#[expect(clippy::cast_precision_loss, reason = "a plot needs no more precision")]
pub(super) fn distribution(title: &str, histogram: &Histogram) -> String {
    let (Some(low), Some(high)) = (histogram.quantile(1), histogram.quantile(99)) else {
        return empty(title);
    };
    // Tokens of one read have nothing between them; they must not take most of the axis.
    let median = histogram.quantile(50).map_or(0.0, micros);
    let from = (micros(low) / 1.6).max(median / 30.0).max(20.0);
    let to = (micros(high) * 1.6).max(from * 6.0);
    let x = Axis { from, to, logarithmic: true };
    let bounds = bounds(&x);
    // The first range ends where the first bar does; what is below belongs to it.
    let inner = bounds.get(1..bounds.len().saturating_sub(1)).unwrap_or_default();
    let counts = histogram.distribution(inner);
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let y = Axis { from: 0.0, to: most as f64 * 1.08, logarithmic: false };
    let mut out = open(title);
    horizontal(&y, number, &mut out);
    for (range, count) in bounds.windows(2).zip(&counts).filter(|(_, count)| **count > 0) {
        let [start, end] = range else { continue };
        let (left, right, top) = (x.x(*start as f64), x.x(*end as f64), y.y(*count as f64));
        let height = (BOTTOM - top).max(1.0);
        let top = BOTTOM - height;
        add!(
            out,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{} to {}: {}</title></rect>",
            left + 0.5,
            (right - left - 1.0).max(1.0),
            text::time(Duration::from_micros(*start)),
            text::time(Duration::from_micros(*end)),
            text::grouped(*count)
        );
    }
    let mut free = f64::NEG_INFINITY;
    for percent in [50, 95, 99] {
        let Some(value) = histogram.quantile(percent) else { continue };
        let at = x.x(micros(value));
        add!(
            out,
            "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"><title>p{percent}: {}</title></line>",
            text::time(value)
        );
        if at >= free {
            add!(
                out,
                "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">p{percent}</text>",
                at + 3.0,
                TOP + 9.0
            );
            free = at + 26.0;
        }
    }
    below(&x, |value| short(value / 1_000.0), &mut out);
    add!(
        out,
        "<text class=\"tick\" x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\">milliseconds, logarithmic</text></svg>",
        HEIGHT - 4.0
    );
    out
}

/// Milliseconds on an axis.
fn short(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1_000.0)
    } else if value >= 1.0 {
        format!("{value:.0}")
    } else if value >= 0.1 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A quantity over time.
pub(super) fn timeline(title: &str, points: &[Point], value: impl Fn(&Point) -> f64) -> String {
    let Some(last) = points.last().filter(|_| points.len() > 1) else { return empty(title) };
    let most = points.iter().map(&value).fold(1.0, f64::max);
    let x = Axis { from: 0.0, to: last.at.as_secs_f64(), logarithmic: false };
    let y = Axis { from: 0.0, to: most * 1.08, logarithmic: false };
    let mut out = open(title);
    horizontal(&y, number, &mut out);
    let mut line = String::new();
    for point in points {
        add!(line, "{:.1},{:.1} ", x.x(point.at.as_secs_f64()), y.y(value(point)));
    }
    let first = points.first().map_or(LEFT, |point| x.x(point.at.as_secs_f64()));
    add!(out, "<polygon class=\"area\" points=\"{first:.1},{BOTTOM} {line}{RIGHT},{BOTTOM}\"/>");
    add!(out, "<polyline class=\"line\" points=\"{}\"/>", line.trim_end());
    below(
        &x,
        |value| if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") },
        &mut out,
    );
    add!(
        out,
        "<text class=\"tick\" x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\">seconds</text></svg>",
        HEIGHT - 4.0
    );
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plots_have_no_impossible_coordinate(
            values in prop::collection::vec(prop_oneof![Just(0_u64), 0..u64::MAX, 0_u64..100_000], 0..60),
            rates in prop::collection::vec((0_u64..5_000, 0.0..1e9), 0..20),
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(Duration::from_micros(*value));
            }
            let mut at = Duration::ZERO;
            let mut points = Vec::new();
            for (millis, rate) in rates {
                at += Duration::from_millis(millis);
                points.push(Point { at, open: millis, rate });
            }
            for plot in [distribution("T", &histogram), timeline("T", &points, |point| point.rate)] {
                prop_assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
                prop_assert!(plot.ends_with("</svg>"));
                prop_assert!(plot.len() < 50_000);
            }
        }
    }

    #[test]
    fn every_observation_is_in_a_bar() {
        let mut histogram = Histogram::default();
        for value in [1, 20_000, 20_100, 90_000_000] {
            histogram.record(Duration::from_micros(value));
        }
        let plot = distribution("T", &histogram);
        let counts = plot.matches("<rect").count();
        assert!((2..=4).contains(&counts), "{plot}");
        assert!(plot.contains("p50") && plot.contains("p99"));
    }
}
