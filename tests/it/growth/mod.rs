//! Growth of the work with the size of what was sent: requests of every caller dialect to every upstream
//! dialect, and answers of every upstream dialect to every caller dialect, streamed and collected.
//!
//! Work that grows with the square shows itself by its ratio, not by its duration. Each shape is worked on at
//! n and at 16 n, and the second may take no more than 32 times the processor time of the first: linear work
//! takes about 16 times, work by the square up to 256. Nothing else on the machine makes this fail: what is
//! measured is the processor time of this thread (its time on a processor, as the kernel counts it), so
//! that waiting does not count; of each size the least of several runs counts, since disturbances only
//! ever add; and the runs are repeated until the ratio is met, so that a disturbed one is not the last
//! word. Only work that is never within the bound fails, however often it is repeated.

mod answers;
mod embeddings;
mod requests;
mod upstream_events;

use tokio::time::Instant;

/// The ratio of the two sizes.
const FACTOR: usize = 16;

/// The permitted ratio of work.
const MOST: u64 = 32;

/// Measurements of a shape before it fails: other tests of the process allocate at the same time, some for seconds.
const ATTEMPTS: usize = 64;

/// Work of less than this, in nanoseconds, is too little to be compared.
const LEAST: u64 = 50_000;

/// The processor time of this thread in nanoseconds. Without support of the kernel, the wall time.
fn spent(start: Instant) -> u64 {
    // The kernel brings the count up to date when a thread yields.
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let told = told.and_then(|told| told.split(' ').next()?.parse().ok());
    told.unwrap_or_else(|| u64::try_from(start.elapsed().as_nanos()).unwrap())
}

fn cost<T>(work: impl FnOnce() -> T) -> u64 {
    let start = Instant::now();
    let before = spent(start);
    let result = work();
    let cost = spent(start) - before;
    drop(result);
    cost
}

/// Checks how work on something grows with it. `make` is not measured.
fn grows_linearly<S, T>(place: &str, n: usize, make: impl Fn(usize) -> S, work: impl Fn(S) -> T) {
    let (mut small, mut large) = (u64::MAX, u64::MAX);
    for _ in 0..ATTEMPTS {
        for _ in 0..2 {
            let made = make(n);
            small = small.min(cost(|| work(made)));
        }
        let made = make(n * FACTOR);
        large = large.min(cost(|| work(made)));
        if large <= small.max(LEAST) * MOST {
            return;
        }
    }
    let ratio = large / small.max(LEAST);
    panic!("{place}: {FACTOR} times as much takes {ratio} times the work ({small} and {large} ns)");
}

/// The elements of a list.
fn list(n: usize, element: impl Fn(usize) -> String) -> String {
    (0..n).map(element).collect::<Vec<_>>().join(",")
}

/// The same, the last one first.
fn reversed(n: usize, element: impl Fn(usize) -> String) -> String {
    (0..n).rev().map(element).collect::<Vec<_>>().join(",")
}

/// The measure sees a square, and lets a line pass.
#[test]
fn work_by_the_square_is_seen() {
    let scan = |names: Vec<String>| names.iter().filter(|name| names.contains(name)).count();
    let names = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<String>>();
    let square = std::panic::catch_unwind(|| grows_linearly("square", 128, names, scan));
    assert!(square.is_err());
    let sorted = |names: Vec<String>| names.iter().map(String::len).sum::<usize>();
    grows_linearly("line", 128, names, sorted);
}
