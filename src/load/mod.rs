//! Load and chaos client: opens many streams through a gateway to a simulated upstream, checks that
//! every token arrives once, in order, with a correct end, and measures latency and throughput.
//!
//! It is an independent observer, like the simulated upstream: it must never use `wire`, or a mistake
//! there would be made on both sides and seen on neither. `docs/load-testing.md` describes its use.

mod answer;
mod check;
mod client;
mod counts;
mod failure;
mod fault;
mod histogram;
mod html;
mod json;
mod payload;
mod plan;
mod plot;
mod preflight;
mod progress;
pub mod protocol;
mod report;
mod run;
mod scenario;
mod summary;
mod tally;
mod text;
mod threshold;
mod timeline;

pub use check::Check;
pub use failure::Kind;
pub use html::html;
pub use json::json;
pub use plan::{Options, Plan, PlanError, Scenario};
pub use progress::Snapshot;
pub use report::{Report, StageReport};
pub use run::run;
pub use summary::summary;
pub use tally::Tally;
pub use text::duration;
pub use threshold::Threshold;
