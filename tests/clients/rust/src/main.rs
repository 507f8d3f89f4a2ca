//! rust-genai in front of a gateway: runs every case, several at a time, and writes a JUnit report.
//! `../suites.py` starts it and says by the environment where things are. It must never leave a case out silently.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use futures::StreamExt;

use crate::client::Place;

mod cases;
mod client;

/// The result of a case.
enum Verdict {
    Passed,
    Failed(String),
    /// It cannot be with this client, and why.
    Cannot(&'static str),
}

/// The name of a case, and the case.
struct Case {
    name: String,
    body: futures::future::BoxFuture<'static, Result<(), CaseError>>,
}

/// Why a case did not pass.
#[derive(Debug)]
enum CaseError {
    Wrong(String),
    Cannot(&'static str),
}

impl From<String> for CaseError {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

impl From<genai::Error> for CaseError {
    fn from(error: genai::Error) -> Self {
        Self::Wrong(format!("the client raised: {error}"))
    }
}

impl From<reqwest::Error> for CaseError {
    fn from(error: reqwest::Error) -> Self {
        Self::Wrong(format!("the simulated upstream did not tell: {error}"))
    }
}

async fn verdict(case: Case) -> (String, Verdict) {
    // A task of its own, so that a panic is the failure of one case.
    let verdict = match tokio::spawn(case.body).await {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(CaseError::Wrong(what))) => Verdict::Failed(what),
        Ok(Err(CaseError::Cannot(why))) => Verdict::Cannot(why),
        Err(panic) => Verdict::Failed(panic.to_string()),
    };
    (case.name, verdict)
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").chars().filter(|c| !c.is_control()).collect()
}

fn report(verdicts: &[(String, Verdict)]) -> String {
    let mut out = String::from("<testsuites><testsuite name=\"rust-genai\">\n");
    for (name, verdict) in verdicts {
        let inner = match verdict {
            Verdict::Passed => String::new(),
            Verdict::Failed(what) => format!("<failure message=\"{}\"/>", escaped(what)),
            Verdict::Cannot(why) => format!("<skipped message=\"cannot: {}\"/>", escaped(why)),
        };
        let name = escaped(name);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<testcase classname=\"genai\" name=\"{name}\">{inner}</testcase>");
    }
    out + "</testsuite></testsuites>\n"
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: streamgate-clients REPORT")?;
    let place = Arc::new(Place::from_environment()?);
    let together = futures::stream::iter(cases::together(&place)).map(verdict);
    let mut verdicts: Vec<_> = together.buffer_unordered(8).collect().await;
    // The simulated upstream's counts must belong to one case at a time.
    verdicts.extend(
        futures::stream::iter(cases::alone(&place)).then(verdict).collect::<Vec<_>>().await,
    );
    let mut failed = 0;
    for (name, verdict) in &verdicts {
        if let Verdict::Failed(what) = verdict {
            failed += 1;
            println!("{name}: {what}");
        }
    }
    println!("{} cases, {failed} failed", verdicts.len());
    std::fs::write(path, report(&verdicts))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
