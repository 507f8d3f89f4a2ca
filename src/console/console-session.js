// Requests of the console: a key in a header, the events of a body, and connections that resume. A key must never be in
// an address, and an event must never be skipped.

/** The time for which a connection that was cut stays away, so that it can be seen, in milliseconds. */
const CUT = 1500;
/** The first and the longest time between two connections, in milliseconds. */
const FIRST = 500;
const LONGEST = 30_000;
/** The failures in a row after which a session is given up. */
const RETRIES = 8;

/** The key of this tab; empty: none. */
export const credential = { key: sessionStorage.getItem("key") ?? "" };

/** A response other than success. */
export class ResponseError extends Error {
  constructor(status, message) {
    super(`${status}: ${message}`);
    this.status = status;
  }
}

/** Sends a request with the key. Throws a `ResponseError` for any status but success. */
export async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  const json = body === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(path, {
    method,
    signal,
    cache: "no-store",
    credentials: "omit",
    headers: { authorization: `Bearer ${credential.key}`, ...json, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.ok) return response;
  const text = await response.text();
  let message;
  try {
    message = JSON.parse(text).error.message;
  } catch {
    message = text;
  }
  throw new ResponseError(response.status, message || response.statusText);
}

/**
 * The events of a body, each with the id of its own block. Streamgate ends its lines with LF alone, and puts ids and
 * `retry` into blocks with data.
 */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let [rest, id, name, data, retry] = ["", "", "message", [], 0];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { id, name, data: data.join("\n"), retry };
        [id, name, data] = ["", "message", []];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const content = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
      if (field === "data") data.push(content);
      else if (field === "event") name = content;
      else if (field === "id") id = content;
      else if (field === "retry") retry = Number(content) || 0;
    }
  }
}

/** Waits, but no longer than to the abort of a signal. */
function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** A session: one connection after another, each after the position of the last event. */
export class Session {
  /** The position of the last event; empty: none. */
  position = "";
  /** The connections that were made. */
  connections = 0;
  #retry = FIRST;
  #cut = false;
  #connection = new AbortController();
  #closed = new AbortController();

  get closed() {
    return this.#closed.signal.aborted;
  }

  close() {
    this.#closed.abort();
    this.#connection.abort();
  }

  /** Breaks the connection, as a network would. */
  cut() {
    this.#cut = true;
    this.#connection.abort();
  }

  /**
   * Gives the events to `take` until it returns true, the server has no more, or the session is closed. `open` sends a
   * request, and `broken` is called for each connection that is lost.
   */
  async run({ open, take, canResume, broken }) {
    for (let failures = 0; !this.closed; failures += 1) {
      try {
        this.#connection = new AbortController();
        const response = await open({ position: this.position, signal: this.#connection.signal });
        this.connections += 1;
        if (response.status === 204) return;
        for await (const event of events(response.body)) {
          failures = 0;
          this.#retry = event.retry || this.#retry;
          this.position = event.id || this.position;
          if (take(event)) return;
        }
        if (!canResume()) throw new ResponseError(response.status, "the connection ended before the answer did");
      } catch (error) {
        if (this.closed) return;
        const passes = !(error instanceof ResponseError) || error.status === 429 || error.status >= 500;
        if (!passes || failures >= RETRIES || !canResume()) throw error;
      } finally {
        this.#connection.abort();
      }
      if (this.closed) return;
      const delay = this.#cut ? CUT : Math.min(this.#retry * 2 ** failures, LONGEST) * (0.5 + Math.random() / 2);
      broken(this.#cut, Math.round(delay));
      this.#cut = false;
      await sleep(delay, this.#closed.signal);
    }
  }
}
