// Formats of a stream: the text of an event, and the end that an event announces. A broken stream must never read as
// a complete one.

import { StreamEndError, errorMessage, json, member, text } from "./errors.js";
import type { ServerSentEvent } from "./sse.js";

/** The form of a stream's events: `native` is that of the endpoint where it was made, `events` Streamgate's own. */
export type Format =
  | "native"
  | "events"
  | "text"
  | "ui"
  | "openai-chat"
  | "openai-responses"
  | "anthropic"
  | "gemini"
  | "ollama"
  | "cohere";

/** The final state of a stream. */
export interface StreamEnd {
  state: "complete" | "error" | "cancelled" | "lost";
  /** The cause of a stream that is not complete. */
  message?: string | undefined;
}

/** Names of the events that complete a stream in a vendor's format. */
const LAST_EVENTS = ["message_stop", "message-end", "response.completed", "response.incomplete"];

/** The end that an event announces, if it announces one. */
export function endOf(format: Format, event: ServerSentEvent): StreamEnd | undefined {
  if (format === "events" || format === "text") {
    return event.event === "end" ? ownEnd(event.data) : undefined;
  }
  if (event.data === "[DONE]" || LAST_EVENTS.includes(event.event)) return { state: "complete" };
  if (event.event === "error" || event.event === "response.failed" || /^\s*\{\s*"error"\s*:/.test(event.data)) {
    const body = json(event.data);
    return { state: "error", message: errorMessage(member(body, "response")) ?? errorMessage(body) };
  }
  return undefined;
}

/** The end in our own formats: its state alone, or with the error. A state that is not known is none to trust. */
function ownEnd(data: string): StreamEnd {
  const body = json(data);
  const state = text(member(body, "state")) ?? data.trim();
  const known = state === "complete" || state === "cancelled" || state === "lost";
  return { state: known ? state : "error", message: text(member(member(body, "error"), "message")) };
}

/** The text of an answer that an event adds; empty if it adds none. */
export function textOf(format: Format, event: ServerSentEvent): string {
  if (format === "text") return event.event === "message" ? event.data : "";
  if (format === "events" && event.event !== "text") return "";
  if (event.data === "[DONE]") return "";
  const body = json(event.data);
  return format === "events" ? string(member(body, "text")) : vendorText(body);
}

/** The text of a payload in a vendor's format, which its members tell. */
function vendorText(body: unknown): string {
  switch (member(body, "type")) {
    case "response.output_text.delta":
    case "text-delta":
      return string(member(body, "delta"));
    case "content_block_delta":
      return string(member(member(body, "delta"), "text"));
    case "content-delta":
      return string(path(body, "delta", "message", "content", "text"));
  }
  const candidate = first(member(body, "candidates"));
  if (candidate !== undefined) return geminiText(candidate);
  const choice = first(member(body, "choices"));
  return string(choice === undefined ? path(body, "message", "content") : path(choice, "delta", "content"));
}

/** The parts of a candidate but for the model's thoughts. */
function geminiText(candidate: unknown): string {
  const parts = path(candidate, "content", "parts");
  const answer = Array.isArray(parts) ? parts.filter((part: unknown) => member(part, "thought") !== true) : [];
  return answer.map((part: unknown) => string(member(part, "text"))).join("");
}

function path(value: unknown, ...names: string[]): unknown {
  return names.reduce(member, value);
}

function first(value: unknown): unknown {
  return Array.isArray(value) ? (value as unknown[])[0] : undefined;
}

function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** The text of a stream's events, as it arrives. Throws `StreamEndError` where the end is not a complete answer. */
export async function* texts(
  format: Format,
  events: AsyncIterable<ServerSentEvent>,
): AsyncGenerator<string, void, undefined> {
  for await (const event of events) {
    const end = endOf(format, event);
    if (end !== undefined) {
      if (end.state !== "complete") throw new StreamEndError(end.state, end.message);
      return;
    }
    const added = textOf(format, event);
    if (added !== "") yield added;
  }
}
