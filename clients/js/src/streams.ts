// Requests about streams: list, cancel, share, and the credentials for browsers.

import { type Connection, sendJson } from "./connection.js";

/** A stream, as the gateway lists it. Times are in seconds since the epoch. */
export interface StreamObject {
  id: string;
  object: "stream";
  state: "streaming" | "complete" | "error" | "cancelled" | "lost";
  model: string;
  dialect: string;
  chat: string | null;
  created_at: number;
  ended_at: number | null;
  expires_at: number | null;
  events: number;
  bytes: number;
  /** The lowest position that can be read from. */
  earliest: string;
  /** The position of the last event. */
  tail: string;
  viewers: number;
  error: { message: string; type: string } | null;
}

/** A capability to read a stream. */
export interface Share {
  id: string;
  /** The `share` of a connection. */
  share: string;
  url: string;
  expires_at: number;
}

/** The bounds of a capability. */
export interface ShareOptions {
  rights?: "read" | "read,cancel";
  /** Seconds. */
  expiresIn?: number;
  /** The most viewers at a time. */
  viewers?: number;
}

/** A short-lived credential for a URL. */
export interface Ticket {
  /** The `ticket` of a connection. */
  ticket: string;
  expires_at: number;
}

/** The scope of a ticket. */
export interface TicketOptions {
  streams?: string[];
  channels?: string[];
  /** Seconds. */
  expiresIn?: number;
}

/** The caller's own streams. */
export async function listStreams(connection: Connection, signal?: AbortSignal): Promise<StreamObject[]> {
  const list = await sendJson<{ data: StreamObject[] }>(connection, "GET", "/v1/streams", { signal });
  return list.data;
}

/** Cancels a generation, and returns its final state. One that has ended is left as it is. */
export function cancel(connection: Connection, id: string, signal?: AbortSignal): Promise<StreamObject> {
  return sendJson(connection, "POST", `/v1/streams/${encodeURIComponent(id)}/cancel`, { signal });
}

/** Makes a capability to read a stream, for somebody without the owner's key. */
export function share(
  connection: Connection,
  id: string,
  { rights, expiresIn, viewers }: ShareOptions = {},
  signal?: AbortSignal,
): Promise<Share> {
  const body = { rights, expires_in: expiresIn, viewers };
  return sendJson(connection, "POST", `/v1/streams/${encodeURIComponent(id)}/share`, { body, signal });
}

/** Makes a ticket for streams and channels, for URLs of EventSource, which cannot send headers. */
export function createTicket(
  connection: Connection,
  { streams, channels, expiresIn }: TicketOptions,
  signal?: AbortSignal,
): Promise<Ticket> {
  const body = { streams, channels, expires_in: expiresIn };
  return sendJson(connection, "POST", "/v1/tickets", { body, signal });
}
