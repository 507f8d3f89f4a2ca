// The event stream rules (WHATWG HTML, 9.2.6), each in every slicing of its bytes.

import { describe, expect, test } from "vitest";

import { EventStreamParser, type ServerSentEvent } from "../src/index.js";

const event = (data: string, id = "", name = "message"): ServerSentEvent => ({ id, event: name, data });

interface Case {
  name: string;
  stream: string | Uint8Array;
  events: ServerSentEvent[];
  id?: string;
  retry?: number;
}

const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part))));

const CASES: Case[] = [
  { name: "LF", stream: "data: a\n\ndata: b\n\n", events: [event("a"), event("b")] },
  { name: "CR", stream: "data: a\r\rdata: b\r\r", events: [event("a"), event("b")] },
  { name: "CRLF", stream: "data: a\r\n\r\ndata: b\r\n\r\n", events: [event("a"), event("b")] },
  { name: "mixed ends of lines", stream: "data: a\r\ndata: b\rdata: c\n\r\n", events: [event("a\nb\nc")] },
  { name: "a CR at the very end", stream: "data: a\n\r", events: [event("a")] },
  { name: "LF CR is two ends", stream: "data: a\n\rdata: b\n\n", events: [event("a"), event("b")] },
  { name: "one byte order mark is stripped", stream: bytes([0xef, 0xbb, 0xbf], "data: a\n\n"), events: [event("a")] },
  { name: "a second one is content", stream: bytes([0xef, 0xbb, 0xbf, 0xef, 0xbb, 0xbf], "data: a\n\ndata: b\n\n"), events: [event("b")] },
  { name: "a later one is content", stream: bytes("data: a\n\n", [0xef, 0xbb, 0xbf], "data: b\n\ndata: c\n\n"), events: [event("a"), event("c")] },
  { name: "invalid bytes are replaced", stream: bytes("data: a", [0xff], "b\n\n"), events: [event("a\ufffdb")] },
  { name: "a sequence of several bytes", stream: "data: \u{1f600}é\n\n", events: [event("\u{1f600}é")] },
  { name: "a sequence that is cut", stream: bytes("data: ", [0xf0, 0x9f], "\n\n"), events: [event("\ufffd")] },
  { name: "one space is stripped", stream: "data:a\n\ndata: a\n\ndata:  a\n\ndata:\ta\n\n", events: [event("a"), event("a"), event(" a"), event("\ta")] },
  { name: "lines of data are joined", stream: "data: a\ndata:\ndata: b\n\n", events: [event("a\n\nb")] },
  { name: "data without a colon", stream: "data\n\ndata\ndata\n\n", events: [event(""), event("\n")] },
  { name: "empty data is an event", stream: "data:\n\n", events: [event("")] },
  { name: "no data is none", stream: "event: a\n\nid: 1\n\n\n\ndata: b\n\n", events: [event("b", "1")], id: "1" },
  { name: "the name does not outlast its block", stream: "event: a\n\ndata: b\n\n", events: [event("b")] },
  { name: "the last name counts", stream: "event: a\nevent: b\ndata: 1\n\nevent: c\nevent:\ndata: 2\n\n", events: [event("1", "", "b"), event("2")] },
  { name: "the id outlasts its block", stream: "id: 1\ndata: a\n\ndata: b\n\n", events: [event("a", "1"), event("b", "1")], id: "1" },
  { name: "an id with NUL is ignored", stream: "id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", events: [event("a", "1"), event("b", "1")], id: "1" },
  { name: "an empty id resets it", stream: "id: 1\ndata: a\n\nid\ndata: b\n\n", events: [event("a", "1"), event("b")], id: "" },
  { name: "an id without data", stream: "id: 1\ndata: a\n\nid: 2\n\n", events: [event("a", "1")], id: "2" },
  { name: "NUL in data", stream: "data: a\0b\n\n", events: [event("a\0b")] },
  { name: "comments", stream: ": ok\n\n:\ndata: a\n: b\n\n", events: [event("a")] },
  { name: "unknown fields, and names in capitals", stream: "Data: a\nfoo: b\n data: c\ndata: d\n\n", events: [event("d")] },
  { name: "a colon in a value", stream: "data: a: b\n\n", events: [event("a: b")] },
  { name: "digits of retry", stream: "retry: 2500\n\nretry: 1.5\nretry: 2x\nretry:\nretry: -1\nretry: ٣\ndata: a\n\n", events: [event("a")], retry: 2500 },
  { name: "retry without a block", stream: "retry: 7\n", events: [], retry: 7 },
  { name: "a block that is cut", stream: "id: 1\ndata: a\n\nid: 2\ndata: lost", events: [event("a", "1")], id: "1" },
  { name: "a block without its blank line", stream: "id: 1\ndata: a\n\nid: 2\ndata: lost\n", events: [event("a", "1")], id: "1" },
];

function parse(chunks: Uint8Array[]) {
  const parser = new EventStreamParser();
  const events = chunks.flatMap((chunk) => parser.push(chunk));
  return { events, id: parser.lastEventId, retry: parser.retry };
}

describe.each(CASES)("$name", ({ stream, events, id, retry }) => {
  const whole = Buffer.from(stream);
  const expected = { events, id: id ?? events.at(-1)?.id ?? "", retry };

  test("in one piece, and byte by byte", () => {
    expect(parse([whole])).toEqual(expected);
    expect(parse(Array.from(whole, (byte) => Uint8Array.of(byte)))).toEqual(expected);
  });

  test("in every two and three pieces", () => {
    const seen = new Set<string>();
    for (let first = 0; first <= whole.length; first += 1) {
      for (let second = first; second <= whole.length; second += 1) {
        seen.add(JSON.stringify(parse([whole.subarray(0, first), whole.subarray(first, second), whole.subarray(second)])));
      }
    }
    expect([...seen].map((result) => JSON.parse(result) as unknown)).toEqual([JSON.parse(JSON.stringify(expected))]);
  });
});

test("an event of ten million characters in small pieces", () => {
  const parser = new EventStreamParser();
  const piece = Buffer.from("x".repeat(1000));
  parser.push(Buffer.from("data: "));
  for (let count = 0; count < 10_000; count += 1) expect(parser.push(piece)).toEqual([]);
  expect(parser.push(Buffer.from("\n\n"))[0]?.data.length).toBe(10_000_000);
});
