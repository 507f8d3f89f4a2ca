// Event stream parser (WHATWG HTML, section 9.2.6): bytes to events, for any slicing of the bytes. It must never
// deliver an event whose blank line has not arrived.

/** An event of an event stream. */
export interface ServerSentEvent {
  /** The last event id of the stream when the event was dispatched; empty if there was none. */
  readonly id: string;
  /** The name of the event: `message` unless its block has another. */
  readonly event: string;
  /** The lines of data, joined with LF. */
  readonly data: string;
}

const LINE_END = /[\r\n]/g;
const DIGITS = /^[0-9]+$/;

/** The parser of one connection: what a cut connection has not completed is lost with its parser. */
export class EventStreamParser {
  /** The last event id, also of a block without data. */
  lastEventId = "";
  /** The reconnection time that the stream has set, in milliseconds. */
  retry: number | undefined;

  // Strips one byte order mark, and replaces invalid bytes by U+FFFD.
  readonly #decoder = new TextDecoder("utf-8");
  #line = "";
  /** A CR ended the last chunk: an LF that follows belongs to it. */
  #carriageReturn = false;
  #data: string[] = [];
  #event = "";
  #id: string | undefined;

  /** The events that the bytes complete. */
  push(bytes: Uint8Array): ServerSentEvent[] {
    const text = this.#decoder.decode(bytes, { stream: true });
    const events: ServerSentEvent[] = [];
    if (text === "") return events;
    let start = this.#carriageReturn && text.startsWith("\n") ? 1 : 0;
    this.#carriageReturn = false;
    for (;;) {
      LINE_END.lastIndex = start;
      const end = LINE_END.exec(text)?.index;
      if (end === undefined) break;
      const event = this.#endLine(this.#line + text.slice(start, end));
      if (event !== undefined) events.push(event);
      this.#line = "";
      start = end + 1;
      if (text[end] === "\r") {
        if (start === text.length) this.#carriageReturn = true;
        else if (text[start] === "\n") start += 1;
      }
    }
    this.#line += text.slice(start);
    return events;
  }

  #endLine(line: string): ServerSentEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    switch (name) {
      case "data":
        this.#data.push(value);
        break;
      case "event":
        this.#event = value;
        break;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        break;
      case "retry":
        if (DIGITS.test(value)) this.retry = Number(value);
        break;
    }
    return undefined;
  }

  #dispatch(): ServerSentEvent | undefined {
    // Before the data: an id without data moves the position, too.
    if (this.#id !== undefined) this.lastEventId = this.#id;
    const data = this.#data.length > 0 ? this.#data.join("\n") : undefined;
    const event = this.#event === "" ? "message" : this.#event;
    this.#data = [];
    this.#event = "";
    return data === undefined ? undefined : { id: this.lastEventId, event, data };
  }
}
