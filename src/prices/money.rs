//! Money: rates and amounts as integers, read from and written as decimal text.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

/// Digits after the point of a rate in dollars per million tokens.
const RATE_DIGITS: usize = 6;
/// The highest rate: a thousand dollars per token.
const MAX_RATE: u64 = 1_000_000_000_000_000;
/// Pico-dollars in a nano-dollar.
const PICO_PER_NANO: u128 = 1000;
/// Nano-dollars in a dollar.
const NANO: u64 = 1_000_000_000;

/// The price of a token in pico-dollars, which is micro-dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate(u64);

/// A text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateError;

impl Rate {
    /// The price of so many tokens, in pico-dollars.
    pub fn of(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

/// A decimal text in dollars per million tokens, such as `2.5`: at most six digits after the point, no sign, no exponent.
impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > RATE_DIGITS {
            return Err(RateError);
        }
        let whole: u64 = whole.parse().map_err(|_| RateError)?;
        let part: u64 = format!("{part:0<RATE_DIGITS$}").parse().map_err(|_| RateError)?;
        let rate = whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(part));
        rate.filter(|rate| *rate <= MAX_RATE).map(Self).ok_or(RateError)
    }
}

/// An amount in nano-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cost(u64);

impl Cost {
    /// An amount of pico-dollars, rounded half up. What no account can hold is the most that can be.
    pub fn from_pico(pico: u128) -> Self {
        Self(
            u64::try_from(pico.saturating_add(PICO_PER_NANO / 2) / PICO_PER_NANO)
                .unwrap_or(u64::MAX),
        )
    }

    /// In dollars, for metrics alone: not every amount is exact.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a floating-point number")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / NANO as f64
    }

    /// In nano-dollars.
    pub fn nano(self) -> u64 {
        self.0
    }
}

/// In dollars, with all nine digits.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / NANO, self.0 % NANO)
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        Self(costs.fold(0, |sum, cost| sum.saturating_add(cost.0)))
    }
}
