#!/usr/bin/env python3
"""The checker, checked: a run without a fault passes each check, and each fault fails the check that is for it."""

import json
import unittest

import checks
from dialects import CALLERS, StreamReader
from callers import note_stream, note_whole
from ledger import Entry, Ledger


def run() -> tuple[Ledger, list[dict], dict]:
    """A run in which everything is right."""
    ledger = Ledger("x")
    for conduct in ("read", "control"):
        entry = ledger.enter(dialect="openai-chat", model="m", stream=True, conduct=conduct, verdict="complete")
        entry.status, entry.end, entry.record = 200, "complete", "one"
    records = [{"request_id": id, "status": 200, "outcome": "complete", "input_tokens": 3, "output_tokens": 4} for id in ledger.entries]
    metrics = {
        ("streamgate_requests_total", (("dialect", "openai-chat"), ("outcome", "complete"))): 2.0,
        ("streamgate_tokens_total", (("gen_ai_token_type", "input"),)): 6.0, ("streamgate_tokens_total", (("gen_ai_token_type", "output"),)): 8.0,
        ("streamgate_open_requests", (("dialect", "openai-chat"),)): 0.0, ("streamgate_log_lines_lost_total", ()): 0.0,
        ("streamgate_limit_used_ratio", (("limit", "concurrent_streams"), ("name", "tight"))): 0.0,
    }
    return ledger, records, metrics


class Checks(unittest.TestCase):
    def setUp(self) -> None:
        self.ledger, self.records, self.metrics = run()
        self.entries = self.ledger.entries
        self.first = self.entries["x-0"]

    def fails(self, problems: list[str], words: str) -> None:
        self.assertEqual([words in problem for problem in problems], [True], problems)

    def test_a_right_run_has_no_problem(self) -> None:
        found = [checks.records(self.entries, self.records), checks.answers(self.entries), checks.control(self.ledger),
                 checks.counted(self.metrics, self.records), checks.idle(self.metrics), checks.back(FIGURES, FIGURES)]
        self.assertEqual(found, [[]] * 6)

    def test_records(self) -> None:
        self.fails(checks.records(self.entries, self.records[1:]), "has no record")
        self.fails(checks.records(self.entries, [*self.records, self.records[0]]), "2 records")
        self.fails(checks.records(self.entries, [*self.records, {**self.records[0], "request_id": "stray"}]), "nobody sent")
        self.fails(checks.records(self.entries, [{**self.records[0], "status": 500}, self.records[1]]), "in its record 500")
        self.fails(checks.records(self.entries, [{**self.records[0], "outcome": "client_gone"}, self.records[1]]), "saw complete")
        self.first.record, self.first.status = "none", None
        self.fails(checks.records(self.entries, [{**self.records[0], "status": None}, self.records[1]]), "never sent")

    def test_our_own_mistakes(self) -> None:
        self.first.end, self.first.status = "left", 500
        self.fails(checks.records(self.entries, [{**self.records[0], "status": 500, "outcome": "internal_error"}, self.records[1]]), "internal_error")
        self.fails(checks.log("thread 'worker-0' panicked at src/x.rs")[1], "none of the log's")
        self.fails(checks.log(json.dumps({"message": "a worker panicked"}))[1], "panic")
        self.assertEqual(checks.log(json.dumps({"message": "request", "request_id": "x-0"})), ([{"message": "request", "request_id": "x-0"}], []))

    def test_ends(self) -> None:
        self.first.end = "silent"
        self.fails(checks.answers(self.entries), "as if it were complete")
        self.first.end, self.first.verdict = "complete", "broken"
        self.fails(checks.answers(self.entries), "never completed it")
        self.first.end, self.first.verdict = "failed", "complete"
        self.fails(checks.answers(self.entries), "though its upstream completed it")
        self.assertEqual(checks.answers(self.entries, stopping=True), [])
        self.first.end = "cut"
        self.fails(checks.answers(self.entries, stopping=True), "though its upstream completed it")

    def test_control_streams(self) -> None:
        self.entries["x-1"].silence = checks.SILENCE + 1
        self.fails(checks.control(self.ledger), "silent for")
        self.entries["x-1"].silence, self.ledger.quiet = 0, True
        self.fails(checks.control(self.ledger), "tested nothing")
        self.entries["x-1"].quiet, self.ledger.health = True, checks.SILENCE + 1
        self.fails(checks.control(self.ledger), "/healthz took")

    def test_counts(self) -> None:
        for name, value in [("streamgate_requests_total", 3.0), ("streamgate_tokens_total", 7.0), ("streamgate_log_lines_lost_total", 1.0)]:
            (series, labels), *_ = [key for key in self.metrics if key[0] == name]
            self.assertEqual(len(checks.counted({**self.metrics, (series, labels): value}, self.records)), 1, name)
        stray = {("streamgate_requests_total", (("outcome", "stalled"),)): 1.0}
        self.fails(checks.counted(self.metrics | stray, self.records), "0 records of stalled")

    def test_what_is_held(self) -> None:
        for name in ("streamgate_open_requests", "streamgate_limit_used_ratio"):
            (series, labels), *_ = [key for key in self.metrics if key[0] == name]
            self.assertEqual(len(checks.idle({**self.metrics, (series, labels): 1.0})), 1, name)
        self.fails(checks.idle(self.metrics, 2), "2 answers")

    def test_what_is_not_given_back(self) -> None:
        for name in FIGURES:
            self.fails(checks.back(FIGURES, {**FIGURES, name: FIGURES[name] + checks.MEMORY + 1}), name)


class Readers(unittest.TestCase):
    """What a caller notes of an answer."""

    def note(self, text: str, cut: bool = False, dialect: str = "openai-chat") -> Entry:
        entry = Entry(id="x-0", marker="kx0", dialect=dialect, stream=True, text="kx0.0 kx0.1 ", status=200)
        reader = StreamReader(dialect)
        for byte in text.encode():
            reader.feed(bytes([byte]))
        note_stream(entry, reader, cut)
        return entry

    def chunk(self, text: str) -> str:
        return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"

    def test_ends_of_streams(self) -> None:
        done, error = "data: [DONE]\n\n", 'data: {"error":{"message":"x"}}\n\n'
        whole = self.chunk("kx0.0 ") + ": ping\n" + self.chunk("kx0.1 ")
        ends = {whole + done: "complete", whole + error: "failed", whole: "silent", "": "silent"}
        self.assertEqual([self.note(text).end for text in ends], list(ends.values()))
        self.assertEqual([self.note(text).problems for text in ends], [[]] * 4)
        self.assertEqual(self.note(whole, cut=True).end, "cut")
        self.assertEqual(self.note(whole + done + error).problems, ["a complete end and an error, both"])
        self.assertEqual(self.note(whole + error + done).problems, ["a complete end and an error, both"])
        finish = 'data: {"candidates":[{"finishReason":"STOP"}]}\n\n'
        self.assertEqual(self.note(finish + error, dialect="gemini").problems, [])
        self.assertEqual(self.note(finish + error, dialect="gemini").end, "failed")
        self.assertIn("a complete end and an error, both", self.note(error + finish, dialect="gemini").problems)
        self.assertEqual(self.note(whole + done + self.chunk("kx0.2 ")).problems[0], "text after the end")

    def test_tokens(self) -> None:
        done = "data: [DONE]\n\n"
        for wrong in ["kx0.0 ", "kx0.1 kx0.0 ", "kx0.0 kx0.0 kx0.1 ", "kx1.0 kx1.1 ", "kx0.0 kx0.1 kx0.2 "]:
            self.assertEqual(len(self.note(self.chunk(wrong) + done).problems), 1, wrong)
        self.assertEqual(len(self.note(self.chunk("kx1.0 "), cut=True).problems), 1)
        self.assertEqual(self.note(self.chunk("kx0.0 "), cut=True).problems, [])

    def test_each_dialect_knows_an_end_that_is_none(self) -> None:
        self.assertEqual([self.note("", dialect=dialect).end for dialect in CALLERS], ["silent"] * len(CALLERS))

    def test_whole_answers(self) -> None:
        entry = Entry(id="x-0", marker="kx0", dialect="ollama", text="kx0.0 ", status=200)
        note_whole(entry, b'{"message":{"content":"kx1.0 "}}', "application/json")
        self.assertEqual(len(entry.problems), 1)
        entry = Entry(id="x-0", marker="kx0", dialect="ollama", status=502)
        note_whole(entry, b"<html>", "text/html")
        self.assertEqual((entry.end, len(entry.problems)), ("failed", 1))


FIGURES = {"memory": 20_000, "descriptors": 20, "threads": 4}

if __name__ == "__main__":
    unittest.main()
