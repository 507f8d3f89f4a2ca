// Publishing to channels.

import { type Connection, sendJson } from "./connection.js";

/** An event to publish. */
export interface Publication {
  /** The name of the event; `message` if it has none. */
  event?: string;
  /** A text is sent as it is, anything else as JSON. */
  data: unknown;
  /** An id of the publisher's own. */
  id?: string;
  /** The reconnection time for subscribers, in milliseconds. */
  retry?: number;
}

/** Publishes events to a channel, in their order, and returns their positions. */
export async function publish(
  connection: Connection,
  channel: string,
  events: Publication | Publication[],
  signal?: AbortSignal,
): Promise<string[]> {
  const batch = Array.isArray(events);
  const body = batch ? { events } : events;
  const path = `/v1/channels/${encodeURIComponent(channel)}`;
  const response = await sendJson<{ id?: string; ids?: string[] }>(connection, "POST", path, { body, signal });
  return response.ids ?? (response.id === undefined ? [] : [response.id]);
}
