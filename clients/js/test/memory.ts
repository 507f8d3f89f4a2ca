// A stream without a network: bodies in memory that break where a test wants it, for every byte in little time.

import { block, position, type Scripted } from "./server.js";

/** A fetch whose responses follow one finished stream, and break after as many bytes as `cuts` has, one after another. */
export function memoryFetch(events: Scripted[], cuts: number[], by: "reset" | "end"): { fetch: typeof fetch; requests: string[] } {
  const requests: string[] = [];
  const perform: typeof fetch = (_, init) => {
    const headers = new Headers(init?.headers);
    const after = Number((headers.get("last-event-id") ?? position(0)).slice(13));
    requests.push(init?.method ?? "GET");
    if (init?.method === "GET" && after === events.length) return Promise.resolve(new Response(null, { status: 204 }));
    const blocks = events.slice(after).map((event, index) => block(event, position(after + index + 1)));
    const bytes = new TextEncoder().encode((init?.method === "GET" ? ": ok\n\n" : "") + blocks.join(""));
    const cut = cuts.shift() ?? Infinity;
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        if (cut > 0) controller.enqueue(bytes.subarray(0, cut));
      },
      // After what was enqueued has been read: an error would discard it.
      pull(controller) {
        if (cut < bytes.length && by === "reset") controller.error(new TypeError("terminated"));
        else controller.close();
      },
    }, { highWaterMark: 0 });
    const head = { "content-type": "text/event-stream", "streamgate-stream-id": "s", "stream-next-offset": position(after) };
    return Promise.resolve(new Response(body, { headers: head }));
  };
  return { fetch: perform, requests };
}
