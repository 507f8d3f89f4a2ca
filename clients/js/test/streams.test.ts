// The small requests: their paths, bodies, results and errors.

import { afterEach, beforeEach, expect, test } from "vitest";

import { cancel, createTicket, listStreams, publish, ResponseError, share } from "../src/index.js";
import { ScriptedGateway, type Seen } from "./server.js";

let gateway: ScriptedGateway;
const connection = () => ({ baseUrl: gateway.url, key: "sg-test" });

beforeEach(async () => {
  gateway = await ScriptedGateway.start();
});

afterEach(() => gateway.stop());

/** Answers a path, and returns what was sent to it. */
function answer(route: string, body: unknown, status = 200): () => { headers: Seen["headers"]; body: unknown } {
  let seen: Seen | undefined;
  gateway.routes.set(route, (request) => {
    seen = request;
    return { status, body };
  });
  return () => ({ headers: seen?.headers ?? {}, body: seen?.body ? JSON.parse(seen.body) : undefined });
}

test("listStreams", async () => {
  const sent = answer("GET /v1/streams", { object: "list", data: [{ id: "s" }] });
  expect(await listStreams(connection())).toEqual([{ id: "s" }]);
  expect(sent().headers.authorization).toBe("Bearer sg-test");
});

test("cancel", async () => {
  answer("POST /v1/streams/s/cancel", { id: "s", state: "complete" });
  expect(await cancel(connection(), "s")).toEqual({ id: "s", state: "complete" });
});

test("share", async () => {
  const made = { id: "c", share: "TOKEN", url: "/v1/streams/s?share=TOKEN", expires_at: 1 };
  const sent = answer("POST /v1/streams/s/share", made, 201);
  expect(await share(connection(), "s", { rights: "read,cancel", expiresIn: 60, viewers: 2 })).toEqual(made);
  expect(sent().body).toEqual({ rights: "read,cancel", expires_in: 60, viewers: 2 });
  await share(connection(), "s");
  expect(sent().body).toEqual({});
});

test("createTicket", async () => {
  const sent = answer("POST /v1/tickets", { ticket: "TOKEN", expires_at: 1 }, 201);
  const made = await createTicket(connection(), { streams: ["s"], channels: ["a"], expiresIn: 60 });
  expect(made.ticket).toBe("TOKEN");
  expect(sent().body).toEqual({ streams: ["s"], channels: ["a"], expires_in: 60 });
});

test("publish", async () => {
  const sent = answer("POST /v1/channels/a%2Fb", { id: "1" });
  const event = { event: "price", data: { eur: 1 }, id: "mine", retry: 5000 };
  expect(await publish(connection(), "a/b", event)).toEqual(["1"]);
  expect(sent().body).toEqual(event);
  const batch = answer("POST /v1/channels/a", { ids: ["1", "2"] });
  expect(await publish(connection(), "a", [{ data: "x" }, { data: 1 }])).toEqual(["1", "2"]);
  expect(batch().body).toEqual({ events: [{ data: "x" }, { data: 1 }] });
});

test.each([
  [{ error: { message: "not yours" } }, "404: not yours"],
  [{ error: "not yours" }, "404: not yours"],
  [{ message: "not yours" }, "404: not yours"],
  [undefined, "404: Not Found"],
])("an error %o has the message %s", async (body, message) => {
  answer("POST /v1/streams/s/cancel", body, 404);
  const error: unknown = await cancel(connection(), "s").catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ResponseError);
  expect(error).toMatchObject({ status: 404, message });
});
