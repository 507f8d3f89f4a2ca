"""The invariants: functions from what callers saw, what the log holds and what the metrics say to a list of what is wrong.

Nothing here runs or measures anything; `selftest.py` shows that each finds what it is for.
"""

import json
from collections import Counter

from ledger import Entry, Ledger
from machines import SILENCE, total

# How a request may have ended in the log, by how its caller saw it end.
OUTCOMES = {
    "complete": {"complete"},
    "failed": {"upstream_error", "truncated", "stalled", "upstream_timeout", "cut_off", "shutting_down", "rejected", "rate_limited"},
    # Some dialects say so by cutting the body; a caller that does not read is cut as well.
    "cut": {"upstream_error", "truncated", "stalled", "upstream_timeout", "cut_off", "shutting_down", "client_gone"},
}
# Memory that may stay, in KiB: what allocators and pools keep.
MEMORY = 48 * 1024


def log(text: str) -> tuple[list[dict], list[str]]:
    """The records of a log, and what should not be in it."""
    records, problems = [], []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            # Such as a panic's message, which is no line of the log's.
            problems.append(f"a line that is none of the log's: {line[:200]}")
            continue
        if value.get("message") == "request":
            records.append(value)
        if "panic" in line:
            problems.append(f"a panic: {line[:300]}")
    return records, problems


def records(entries: dict[str, Entry], found: list[dict]) -> list[str]:
    """One record for each request that arrived, none twice, none of nobody; each says what the caller saw."""
    problems = []
    times = Counter(record["request_id"] for record in found)
    problems += [f"{id} has {count} records" for id, count in times.items() if count > 1]
    # Questions, such as for a list of models, are asked without an id among other nonsense.
    asked = {record["request_id"] for record in found if record.get("method") == "GET"}
    problems += [f"a record of {id}, which nobody sent" for id in times if id not in entries and id not in asked]
    for entry in entries.values():
        if entry.record == "one" and not times[entry.id]:
            problems.append(f"{entry.id} ({entry.conduct} {entry.model}, status {entry.status}) has no record")
        if entry.record == "none" and times[entry.id]:
            problems.append(f"{entry.id} has a record, though it was never sent")
    for record in found:
        if entry := entries.get(record["request_id"]):
            problems += same(entry, record)
    return problems


def same(entry: Entry, record: dict) -> list[str]:
    """A record against what its caller saw."""
    problems, outcome = [], record["outcome"]
    if outcome == "internal_error":
        problems.append(f"{entry.id} ({entry.model}): internal_error: {record.get('error')}")
    if entry.status is not None and record.get("status") != entry.status:
        problems.append(f"{entry.id}: status {entry.status}, in its record {record.get('status')}")
    # The gateway has written what a slow reader is cut from.
    allowed = OUTCOMES.get(entry.end) if entry.conduct != "slow" or entry.end != "cut" else None
    if entry.status is not None and allowed and outcome not in allowed and not (entry.end == "failed" and outcome == "unavailable"):
        problems.append(f"{entry.id} ({entry.dialect}, {entry.model}): its caller saw {entry.end}, its record says {outcome}")
    return problems


def answers(entries: dict[str, Entry], stopping: bool = False) -> list[str]:
    """Each answer ended honestly, and as its upstream's conduct demands. `stopping`: it may be ended with an error instead."""
    problems = []
    for entry in entries.values():
        what = f"{entry.id} ({entry.conduct}, {entry.dialect}, {entry.model}, {'streamed' if entry.stream else 'whole'}, status {entry.status})"
        problems += [f"{what}: {problem}" for problem in entry.problems]
        if entry.end == "silent":
            problems.append(f"{what}: ended as if it were complete, without its dialect's end")
        if entry.verdict == "broken" and entry.end == "complete":
            problems.append(f"{what}: looks complete, and its upstream never completed it")
        if entry.verdict == "complete" and entry.end == "cut" or not stopping and entry.verdict == "complete" and entry.end == "failed":
            problems.append(f"{what}: {entry.end}, though its upstream completed it")
    return problems


def control(ledger: Ledger) -> list[str]:
    """Nobody else's trouble silenced a control stream or held health up, and streams with long pauses had heartbeats."""
    streams = [entry for entry in ledger.entries.values() if entry.conduct == "control"]
    complete = [entry for entry in streams if entry.end == "complete"]
    most = SILENCE + ledger.lag
    problems = [f"{entry.id} ({entry.model}): silent for {entry.silence:.1f} s" for entry in streams if entry.silence > most]
    if ledger.quiet and not any(entry.quiet for entry in complete) or not complete:
        problems.append("no control stream was read to its end, so that this tested nothing")
    if ledger.health > most:
        problems.append(f"/healthz took {ledger.health:.1f} s")
    return problems + ledger.problems


def counted(metrics: dict, found: list[dict]) -> list[str]:
    """The metrics are those of the records: outcomes and tokens."""
    problems = []
    for outcome in {record["outcome"] for record in found} | {dict(labels).get("outcome") for name, labels in metrics if name == "streamgate_requests_total"}:
        recorded = sum(record["outcome"] == outcome for record in found)
        said = total(metrics, "streamgate_requests_total", outcome=outcome)
        if said != recorded:
            problems.append(f"{recorded} records of {outcome}, and the metric says {said:.0f}")
    for direction in ("input", "output"):
        recorded = sum(record.get(f"{direction}_tokens") or 0 for record in found)
        said = total(metrics, "streamgate_tokens_total", gen_ai_token_type=direction)
        if said != recorded:
            problems.append(f"{recorded} {direction} tokens in records, and the metric says {said:.0f}")
    if lost := total(metrics, "streamgate_log_lines_lost_total"):
        problems.append(f"{lost:.0f} log lines lost")
    return problems


def idle(metrics: dict, answers_open: int = 0) -> list[str]:
    """Nothing is held any more: requests, permits, answers of upstreams."""
    problems = [f"{value:.0f} open requests {dict(labels)}" for (name, labels), value in metrics.items()
                if name == "streamgate_open_requests" and value]
    problems += [f"{dict(labels)['name']} still has {value:.2f} of its concurrent_streams" for (name, labels), value in metrics.items()
                 if name == "streamgate_limit_used_ratio" and dict(labels)["limit"] == "concurrent_streams" and value]
    if answers_open:
        problems.append(f"{answers_open} answers are still under way at upstreams")
    return problems


def back(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Memory, descriptors and threads are what they were."""
    problems = []
    if after["memory"] > before["memory"] + MEMORY:
        problems.append(f"memory: {before['memory'] >> 10} MiB before, {after['memory'] >> 10} MiB after")
    for name in ("descriptors", "threads"):
        if after[name] > before[name]:
            problems.append(f"{name}: {before[name]} before, {after[name]} after")
    return problems
