// The text and the end of a stream, in every format.

import { describe, expect, test } from "vitest";

import { StreamEndError, endOf, type Format, type ServerSentEvent, textOf, texts } from "../src/index.js";

const event = (data: unknown, name = "message"): ServerSentEvent => ({
  id: "",
  event: name,
  data: typeof data === "string" ? data : JSON.stringify(data),
});
const typed = (data: { type: string }) => event(data, data.type);

/** A stream that says "Hello, world" and is complete, with events that are neither text nor the end. */
const STREAMS: [Format, ServerSentEvent[], string?][] = [
  ["native", [
    event({ choices: [{ delta: { role: "assistant", content: "" } }] }),
    event({ choices: [{ delta: { reasoning_content: "hm" } }] }),
    event({ choices: [{ delta: { content: "Hello, " } }] }),
    event({ choices: [{ delta: { content: "world" }, finish_reason: null }] }),
    event({ choices: [{ delta: {}, finish_reason: "stop" }] }),
    event({ choices: [], usage: { completion_tokens: 2 } }),
    event("[DONE]"),
  ]],
  ["anthropic", [
    typed({ type: "message_start", message: { content: [] } } as { type: string }),
    typed({ type: "ping" }),
    typed({ type: "content_block_delta", delta: { type: "thinking_delta", thinking: "hm" } } as { type: string }),
    typed({ type: "content_block_delta", delta: { type: "text_delta", text: "Hello, " } } as { type: string }),
    typed({ type: "content_block_delta", delta: { type: "input_json_delta", partial_json: "{" } } as { type: string }),
    typed({ type: "content_block_delta", delta: { type: "text_delta", text: "world" } } as { type: string }),
    typed({ type: "message_stop" }),
  ]],
  ["openai-responses", [
    typed({ type: "response.created", response: { error: null } } as { type: string }),
    typed({ type: "response.reasoning_summary_text.delta", delta: "hm" } as { type: string }),
    typed({ type: "response.output_text.delta", delta: "Hello, " } as { type: string }),
    typed({ type: "response.function_call_arguments.delta", delta: "{" } as { type: string }),
    typed({ type: "response.output_text.delta", delta: "world" } as { type: string }),
    typed({ type: "response.output_text.done", text: "Hello, world" } as { type: string }),
    typed({ type: "response.completed", response: { error: null } } as { type: string }),
  ]],
  ["events", [
    event({ type: "caught_up" }, "control"),
    event({ text: "hm" }, "reasoning"),
    event({ text: "Hello, " }, "text"),
    event({ index: 0, id: "a", name: "f" }, "tool_call"),
    event({ text: "world" }, "text"),
    event({ reason: "stop" }, "stop"),
    event({ state: "complete" }, "end"),
  ]],
  ["text", [event("Hello, "), event("wor"), event("ld"), event("complete", "end")]],
  ["ui", [
    event({ type: "start" }),
    event({ type: "reasoning-delta", id: "0", delta: "hm" }),
    event({ type: "text-delta", id: "1", delta: "Hello, " }),
    event({ type: "text-delta", id: "1", delta: "world" }),
    event({ type: "finish" }),
    event("[DONE]"),
  ]],
  ["gemini", [
    event({ candidates: [{ content: { parts: [{ text: "hm", thought: true }, { text: "Hello, " }] } }] }),
    event({ candidates: [{ content: { parts: [{ text: "wor" }, { text: "ld" }] }, finishReason: "STOP" }] }),
  ]],
  ["ollama", [
    event({ message: { role: "assistant", content: "Hello, ", thinking: "hm" }, done: false }),
    event({ message: { role: "assistant", content: "world" }, done: true }),
  ]],
  ["cohere", [
    typed({ type: "message-start" }),
    typed({ type: "content-delta", delta: { message: { content: { thinking: "hm" } } } } as { type: string }),
    typed({ type: "content-delta", delta: { message: { content: { text: "Hello, " } } } } as { type: string }),
    typed({ type: "content-delta", delta: { message: { content: { text: "world" } } } } as { type: string }),
    typed({ type: "message-end" }),
  ]],
];

async function* each(events: ServerSentEvent[]): AsyncGenerator<ServerSentEvent> {
  yield* events;
}

describe.each(STREAMS)("%s", (format, events) => {
  test("its text is put together", async () => {
    let text = "";
    for await (const added of texts(format, each(events))) text += added;
    expect(text).toBe("Hello, world");
    expect(events.map((event) => textOf(format, event)).join("")).toBe("Hello, world");
  });

  test("only its last event is the end", () => {
    const ends = events.map((event) => endOf(format, event));
    expect(ends.slice(0, -1).every((end) => end === undefined)).toBe(true);
    // Gemini's and Ollama's streams have no event for it: their end is the server's 204.
    const expected = ["gemini", "ollama"].includes(format) ? undefined : { state: "complete" };
    expect(ends.at(-1)).toEqual(expected);
  });
});

test.each<[Format, ServerSentEvent, string, string | undefined]>([
  ["native", event({ error: { message: "overloaded" } }), "error", "overloaded"],
  ["anthropic", event({ type: "error", error: { type: "x", message: "overloaded" } }, "error"), "error", "overloaded"],
  ["openai-responses", event({ type: "response.failed", response: { error: { message: "overloaded" } } }, "response.failed"), "error", "overloaded"],
  ["openai-responses", event({ type: "error", message: "overloaded" }, "error"), "error", "overloaded"],
  ["ollama", event({ error: "overloaded" }), "error", "overloaded"],
  ["events", event({ state: "error", error: { message: "overloaded" } }, "end"), "error", "overloaded"],
  ["events", event({ state: "lost" }, "end"), "lost", undefined],
  ["events", event({ state: "cancelled" }, "end"), "cancelled", undefined],
  ["events", event({ state: "a new one" }, "end"), "error", undefined],
  ["text", event("lost", "end"), "lost", undefined],
  ["text", event("", "end"), "error", undefined],
])("%s: %o is no complete answer", async (format, last, state, message) => {
  expect(endOf(format, last)).toEqual({ state, message });
  const text = texts(format, each([last]));
  const error = await text.next().then(() => undefined, (error: unknown) => error);
  expect(error).toBeInstanceOf(StreamEndError);
  expect(error).toMatchObject({ state, message: message ?? expect.any(String) });
});

test("text that looks like an end or an error is text", () => {
  expect(endOf("text", event("[DONE]"))).toBeUndefined();
  expect(textOf("text", event("[DONE]"))).toBe("[DONE]");
  expect(endOf("text", event('{"error":1}'))).toBeUndefined();
  expect(endOf("events", event({ text: "[DONE]" }, "text"))).toBeUndefined();
  expect(endOf("native", event({ choices: [{ delta: { content: '{"error":1}' } }] }))).toBeUndefined();
});
