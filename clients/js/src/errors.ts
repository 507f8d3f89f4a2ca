// Errors of the client. A message must never hold a key or a ticket.

/** A response other than success, or one that is no event stream. */
export class ResponseError extends Error {
  override readonly name: string = "ResponseError";
  readonly status: number;
  /** The error's code, if the body has one. */
  readonly code: string | undefined;
  /** The gateway's id of the request, for its operator. */
  readonly requestId: string | undefined;
  /** The time after which the server accepts the request again, in milliseconds. */
  readonly retryAfter: number | undefined;
  /** The body, parsed if it is JSON. */
  readonly body: unknown;

  constructor(response: Pick<Response, "status" | "headers">, message: string, body: unknown) {
    super(message);
    this.status = response.status;
    this.body = body;
    this.code = text(member(member(body, "error"), "code"));
    this.requestId = response.headers.get("x-request-id") ?? undefined;
    this.retryAfter = retryAfter(response.headers);
  }
}

/** A position (410) whose events are no longer kept: what is left begins at `earliest`. */
export class PositionGoneError extends Error {
  override readonly name: string = "PositionGoneError";
  /** The position that was asked for. */
  readonly position: string;
  /** The lowest position that can be read from. */
  readonly earliest: string | undefined;
  /** The position of the last event. */
  readonly tail: string | undefined;

  constructor(position: string, earliest: string | undefined, tail: string | undefined) {
    super(`the events after position ${position} are no longer kept; the earliest position is ${earliest ?? "unknown"}`);
    this.position = position;
    this.earliest = earliest;
    this.tail = tail;
  }
}

/** A connection that could not be made again, or a stream that cannot be resumed. The last failure is its `cause`. */
export class ConnectionLostError extends Error {
  override readonly name: string = "ConnectionLostError";
  /** The position of the last event that was delivered; empty if there was none. */
  readonly position: string;

  constructor(message: string, position: string, cause: unknown) {
    super(message, { cause });
    this.position = position;
  }
}

/** A generation that ended as anything but complete. */
export class StreamEndError extends Error {
  override readonly name: string = "StreamEndError";
  readonly state: "error" | "cancelled" | "lost";

  constructor(state: "error" | "cancelled" | "lost", message?: string) {
    super(message ?? (state === "error" ? "the generation failed" : `the generation was ${state}`));
    this.state = state;
  }
}

/** The error of an event that says so. */
export function gone(position: string, data: string): PositionGoneError {
  const body = json(data);
  return new PositionGoneError(position, text(member(body, "earliest")), text(member(body, "tail")));
}

/** The error of a response whose status is not success. */
export async function responseError(response: Response, position = ""): Promise<Error> {
  const body = json(await response.text().catch(() => ""));
  if (response.status === 410) {
    return new PositionGoneError(position, text(member(body, "earliest")), text(member(body, "tail")));
  }
  return new ResponseError(response, `${response.status}: ${errorMessage(body) ?? response.statusText}`, body);
}

/** The message of an error, in any vendor's shape. */
export function errorMessage(body: unknown): string | undefined {
  const error = member(body, "error");
  return text(member(error, "message")) ?? text(error) ?? text(member(body, "message")) ?? text(body);
}

/** The value of `retry-after` (seconds or a date), in milliseconds. */
export function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after");
  if (value === null) return undefined;
  const milliseconds = /^\s*\d+(\.\d+)?\s*$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(milliseconds) ? undefined : Math.max(0, milliseconds);
}

/** A member of a JSON object. */
export function member(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** A text that is not empty. */
export function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** A JSON value, or the text itself if it is none. */
export function json(source: string): unknown {
  try {
    return JSON.parse(source) as unknown;
  } catch {
    return source;
  }
}
