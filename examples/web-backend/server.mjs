// A web backend that gives its users short tokens for the gateway, and serves the pages of ../html. Node only, no packages.
//
//     STREAMGATE_KEY=KEY STREAMGATE_JWT_SECRET=SECRET node server.mjs

import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";

const gateway = process.env.STREAMGATE_URL ?? "http://127.0.0.1:8080";
const secret = process.env.STREAMGATE_JWT_SECRET;
const model = process.env.STREAMGATE_MODEL ?? "sim";
const port = process.env.PORT ?? 3000;
if (!secret) throw new Error("set STREAMGATE_JWT_SECRET to the `secret` of the issuer `web-backend`");

/** A JWT of five minutes: who the user is, and what this user may do. */
function token(user) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "web-backend", aud: "streamgate", sub: user, exp: now + 300, limits: { concurrent_streams: 4 } };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** Your session goes here: a cookie that says who is logged in. */
const userOf = (_request) => "alice";

/** Calls the gateway as a user. */
async function asUser(user, path, body, headers = {}) {
  const options = { method: "POST", body: JSON.stringify(body) };
  options.headers = { authorization: `Bearer ${token(user)}`, "content-type": "application/json", ...headers };
  const response = await fetch(gateway + path, options);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response;
}

/** Begins an answer as a durable stream, and returns an address of it for the browser's EventSource, which cannot send a
 * token: a ticket in the query, for this stream only, for five minutes. */
async function ask(user, prompt) {
  const body = { model, stream: true, messages: [{ role: "user", content: prompt }] };
  const headers = { "streamgate-stream": "resumable", "streamgate-on-disconnect": "grace(30s)" };
  const response = await asUser(user, "/v1/chat/completions", body, headers);
  const stream = response.headers.get("streamgate-stream-id");
  await response.body.cancel(); // The browser reads it, not this server.
  const { ticket } = await (await asUser(user, "/v1/tickets", { streams: [stream], expires_in: 300 })).json();
  return `${gateway}/v1/streams/${stream}?format=text&live=sse&es=1&ticket=${encodeURIComponent(ticket)}`;
}

const json = (value) => ["application/json", JSON.stringify(value)];
const routes = {
  "GET /": async () => ["text/html", await readFile(new URL("../html/fetch.html", import.meta.url))],
  "GET /eventsource.html": async () => ["text/html", await readFile(new URL("../html/eventsource.html", import.meta.url))],
  "POST /token": async (request) => json({ token: token(userOf(request)), gateway, model }),
  "POST /ask": async (request) => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) {
      if ((body += chunk).length > 65_536) throw new Error("the prompt is too long");
    }
    return json({ url: await ask(userOf(request), JSON.parse(body).prompt) });
  },
};

const server = createServer(async (request, response) => {
  const route = routes[`${request.method} ${new URL(request.url, "http://localhost").pathname}`];
  try {
    const [type, body] = route ? await route(request) : ["text/plain", "not found\n"];
    response.writeHead(route ? 200 : 404, { "content-type": type, "cache-control": "no-store" }).end(body);
  } catch (error) {
    console.error(error);
    response.writeHead(502, { "content-type": "application/json" }).end(JSON.stringify({ error: "the gateway refused" }));
  }
});
server.listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
