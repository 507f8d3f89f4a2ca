//! Benchmarks of routing: one choice among the targets of a model, by each policy. They measure and must never assert:
//! `cargo bench --bench routing -- --test` only checks that they run.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "without its own configuration there is nothing to measure"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use streamgate::config::{self, Config};
use streamgate::gateway::limit::TokenDemand;
use streamgate::gateway::route::Plan;
use streamgate::gateway::select::{ByTier, Select as _};
use streamgate::gateway::target_health::TargetHealth;
use tokio::time::Instant;

const PICKS: [&str; 5] = ["order", "weighted", "least_loaded", "fastest", "cheapest"];

/// A model with so many targets, chosen by a policy.
fn config(targets: usize, pick: &str) -> Config {
    let target = |number: usize| {
        format!(
            "      - {{ provider: sim, model: m{number}, weight: {}, price: {{ input: {number}, output: 10 }} }}\n",
            number % 7 + 1
        )
    };
    let targets: String = (1..=targets).map(target).collect();
    let text = format!(
        "auth: {{ keys: [{{ name: a, sha256: {:064} }}] }}\nproviders: {{ sim: {{ dialect: openai-chat, base_url: http://127.0.0.1:9/v1 }} }}\n\
         models:\n  chat:\n    pick: {pick}\n    targets:\n{targets}",
        0
    );
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("routing-{pick}.yaml"));
    std::fs::write(&path, text).expect("a file of its own");
    match config::load(&path, &|_| None) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

fn plan(config: &Config) -> Plan {
    let routing = config.model_routing.get("chat").cloned().unwrap_or_default();
    Plan {
        targets: config.models.get("chat").map(Arc::clone).expect("the model"),
        label: "chat".into(),
        pick: routing.pick,
        session: None,
        affinity: None,
        pinned: None,
        demand: TokenDemand { input: 1000, max_output: Some(500), choices: 1 },
        attempts: None,
        retry: routing.retry,
        hedge: None,
        slow: None,
        queue: None,
        class: None,
        mirror: None,
        fallback: None,
        on_break: None,
        direct: false,
    }
}

fn choices(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("pick");
    for targets in [3, 100] {
        for pick in PICKS {
            let config = config(targets, pick);
            let plan = plan(&config);
            let health = Arc::new(TargetHealth::new(Arc::default(), &config));
            group.bench_function(format!("{pick}/{targets}"), |bench| {
                let policy = || ByTier::new(Arc::clone(&health));
                let choose =
                    |mut policy: ByTier| policy.next(black_box(&plan), &[], Instant::now());
                bench.iter_batched(policy, choose, BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, choices);
criterion_main!(benches);
