//! Price of a deployment: LiteLLM's dollars per token as dollars per million tokens. It must never round.

use super::Notes;
use super::deployment::Deployment;

/// Costs of a token there, and rates here.
pub(super) const COSTS: [(&str, &str); 5] = [
    ("input_cost_per_token", "input"),
    ("cache_read_input_token_cost", "cache_read"),
    ("cache_creation_input_token_cost", "cache_write"),
    ("output_cost_per_token", "output"),
    ("output_cost_per_reasoning_token", "reasoning"),
];

/// Places by which the point moves: a million tokens.
const SHIFT: i64 = 6;
/// The most digits of a rate after its point, and before it.
const DIGITS: [usize; 2] = [6, 9];

/// The `price` of a target, as YAML. `None`: no cost is stated, or a note says what is wrong with it.
pub(super) fn price(deployment: &Deployment<'_>, notes: &mut Notes) -> Option<String> {
    let name = deployment.name;
    let (mut rates, mut line, mut broken) = (Vec::new(), 0, false);
    for (theirs, ours) in COSTS {
        let Some(node) = deployment.cost(theirs) else { continue };
        line = line.max(node.line);
        if let Some(rate) = node.as_text().and_then(per_million) {
            rates.push((ours, rate));
        } else {
            broken = true;
            notes.add(node.line, format!("`{theirs}` of `{name}` cannot be written here: expected a number of dollars from 0 to 1000, with at most six digits after the point for a million tokens; its price is left out"));
        }
    }
    if rates.is_empty() || broken {
        return None;
    }
    let complete = ["input", "output"].iter().all(|key| rates.iter().any(|(rate, _)| rate == key));
    if !complete {
        notes.add(line, format!("the price of `{name}` is left out: it needs both `input_cost_per_token` and `output_cost_per_token` (`price: {{ input: ..., output: ... }}` of the target)"));
        return None;
    }
    let rates: Vec<String> = rates.iter().map(|(key, rate)| format!("{key}: {rate}")).collect();
    Some(format!("{{ {} }}", rates.join(", ")))
}

/// A million times a decimal text such as `2.5e-06`, exactly. `None`: it is no rate of ours.
fn per_million(text: &str) -> Option<String> {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.strip_prefix('+').unwrap_or(whole);
    let digits = format!("{whole}{part}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let after = i64::try_from(part.len()).ok()?;
    // The digits as a whole number, and the places of them that are behind the point.
    let places = after.checked_sub(exponent.parse::<i16>().ok()?.into())?.checked_sub(SHIFT)?;
    let mut digits = digits.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let [most_after, most_before] = DIGITS;
    let Ok(places) = usize::try_from(places) else {
        let zeros = usize::try_from(places.unsigned_abs()).ok()?;
        let fits = digits.len().checked_add(zeros)? <= most_before;
        return fits.then(|| digits + &"0".repeat(zeros));
    };
    // No more zeros than a rate could have: the rest of them are digits that do not fit.
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    if places.saturating_sub(trailing) > most_after {
        return None;
    }
    if digits.len() <= places {
        digits = format!("{digits:0>width$}", width = places.checked_add(1)?);
    }
    let (whole, part) = digits.split_at_checked(digits.len().checked_sub(places)?)?;
    let part = part.trim_end_matches('0');
    let fits = whole.len() <= most_before;
    let text = if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") };
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_per_token_become_dollars_per_million_exactly() {
        for (text, rate) in [
            ("2.5e-06", "2.5"),
            ("0.0000025", "2.5"),
            ("1E-5", "10"),
            ("1.0e-05", "10"),
            ("+3e-6", "3"),
            ("1.25e-07", "0.125"),
            ("7.5e-8", "0.075"),
            ("1e-12", "0.000001"),
            ("10e-13", "0.000001"),
            ("0", "0"),
            ("0.0", "0"),
            ("0e-99", "0"),
            ("0.1", "100000"),
            ("999", "999000000"),
            (".5e-6", "0.5"),
        ] {
            assert_eq!(per_million(text).as_deref(), Some(rate), "{text}");
            assert!(rate.parse::<streamgate::prices::Rate>().is_ok(), "{rate}");
        }
        for text in [
            "", ".", "-1e-6", "1e-13", "1.5e-12", "1e-30000", "1e30000", "1e99999", "1000", "nan",
            "1_0", "1e", "0x1", "1e-6 ",
        ] {
            assert_eq!(per_million(text), None, "{text}");
        }
    }
}
