// Requests to a gateway: address, credential, refusals. A key must never be a part of an address.

import { responseError } from "./errors.js";

/** A credential, or a function that returns a current one: it is called before each request. */
export type Credential = string | (() => string | Promise<string>);

/** A gateway, and the credential for it. */
export interface Connection {
  /** The gateway's address without a path such as `/v1`; the page's own origin by default. */
  baseUrl?: string | URL;
  /** A caller key or a JWT, sent as `authorization: Bearer`. */
  key?: Credential;
  /** A ticket (`createTicket`), sent in the query. */
  ticket?: Credential;
  /** A capability of `share`, sent in the query. */
  share?: string;
  /** More request headers. */
  headers?: Record<string, string>;
  /** `include` sends cookies to another origin. */
  credentials?: RequestCredentials;
  /** Another implementation of fetch. */
  fetch?: typeof fetch;
}

/** The parts of a request besides its connection. */
export interface RequestParts {
  query?: [name: string, value: string][];
  headers?: Record<string, string>;
  /** Sent as JSON. */
  body?: unknown;
  signal?: AbortSignal | undefined;
}

/** The address of a gateway, without a slash at its end. */
export function baseOf(connection: Connection): string {
  const base = connection.baseUrl ?? globalThis.location?.origin;
  if (base === undefined) throw new TypeError("`baseUrl` is missing, and there is no page whose origin could be used");
  return String(base).replace(/\/+$/, "");
}

/** The address of a path, with the credentials that belong into a query. */
export async function address(
  connection: Connection,
  path: string,
  query: [string, string][] = [],
): Promise<string> {
  const pairs = [...query];
  if (connection.share !== undefined) pairs.push(["share", connection.share]);
  if (connection.ticket !== undefined) pairs.push(["ticket", await current(connection.ticket)]);
  const separator = path.includes("?") ? "&" : "?";
  const tail = pairs.length > 0 ? separator + new URLSearchParams(pairs).toString() : "";
  return baseOf(connection) + path + tail;
}

/** Sends a request. Rejects only if there is no response. */
export async function send(
  connection: Connection,
  method: string,
  path: string,
  parts: RequestParts = {},
): Promise<Response> {
  const headers: Record<string, string> = { ...connection.headers, ...parts.headers };
  if (connection.key !== undefined) headers["authorization"] = `Bearer ${await current(connection.key)}`;
  const request: RequestInit = { method, headers, cache: "no-store" };
  if (parts.body !== undefined) {
    headers["content-type"] = "application/json";
    request.body = JSON.stringify(parts.body);
  }
  if (parts.signal !== undefined) request.signal = parts.signal;
  if (connection.credentials !== undefined) request.credentials = connection.credentials;
  const url = await address(connection, path, parts.query);
  // Not as a method of the connection: browsers require the global object, or none, as `this`.
  const { fetch: perform = globalThis.fetch } = connection;
  return perform(url, request);
}

/** Sends a request whose response is JSON. */
export async function sendJson<T>(
  connection: Connection,
  method: string,
  path: string,
  parts: RequestParts = {},
): Promise<T> {
  const response = await send(connection, method, path, parts);
  if (!response.ok) throw await responseError(response);
  return (await response.json()) as T;
}

/** The current value of a credential. */
export async function current(credential: Credential): Promise<string> {
  return typeof credential === "string" ? credential : credential();
}
