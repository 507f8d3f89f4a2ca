// The web platform alone: `fetch` and a reader, as a page would do it. No library hides a byte here.

import assert from "node:assert/strict";
import { test } from "node:test";

import { GATEWAY, KEY, stats, tokens, UPSTREAMS, waitForCancel } from "./shared.js";

const post = (path, body, signal) =>
  fetch(`${GATEWAY}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ stream: true, messages: [{ role: "user", content: "count" }], ...body }),
    signal,
  });

/** The snippet of the README: yields the payloads of an event stream. */
async function* payloads(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const lines = buffer.split("\n");
    buffer = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ")) yield line.slice(6);
    }
  }
}

for (const upstream of UPSTREAMS) {
  test(`fetch ${upstream}: text, then [DONE]`, async () => {
    const response = await post("/v1/chat/completions", { model: `${upstream}/n50` });
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type"), /^text\/event-stream/);
    assert.equal(response.headers.get("x-streamgate-target"), `${upstream}/n50`);
    let [text, last] = ["", ""];
    for await (const data of payloads(response)) {
      last = data;
      if (data !== "[DONE]") text += JSON.parse(data).choices[0]?.delta.content ?? "";
    }
    assert.equal(text, tokens(50));
    assert.equal(last, "[DONE]");
  });

  test(`fetch ${upstream}: a broken answer has an error and no [DONE]`, async () => {
    const all = [];
    const response = await post("/v1/chat/completions", { model: `${upstream}/n20-close5` });
    for await (const data of payloads(response)) all.push(data);
    assert.ok(JSON.parse(all.at(-1)).error.message);
    assert.ok(!all.includes("[DONE]"));
  });

  test(`fetch ${upstream}: heartbeats are on the wire`, async () => {
    const chat = await (await post("/v1/chat/completions", { model: `${upstream}/n2-i700000` })).text();
    assert.ok(chat.includes("\n: ping\n"), chat);
    const messages = await post("/v1/messages", { model: `${upstream}/n2-i700000`, max_tokens: 64 });
    assert.ok((await messages.text()).includes('event: ping\ndata: {"type":"ping"}\n\n'));
  });

  test(`fetch ${upstream}: abort reaches the upstream`, async () => {
    const before = await stats();
    const abort = new AbortController();
    const response = await post("/v1/chat/completions", { model: `${upstream}/n100000-i10000` }, abort.signal);
    await response.body.getReader().read();
    abort.abort();
    await waitForCancel(before);
  });
}
