// @anthropic-ai/sdk, messages, in front of every upstream.

import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";

import {
  alias, ALIASES, ARGUMENTS, countOf, FAULTS, GATEWAY, KEY, needsTerminator, ODD, PNG, SCHEMA, SIGNATURE, stats, tokens,
  UPSTREAMS, waitForCancel,
} from "./shared.js";

const client = new Anthropic({ baseURL: GATEWAY, apiKey: KEY, maxRetries: 0, timeout: 30000 });
const ASK = [{ role: "user", content: "count" }];
const TOOLS = ["alpha", "beta"].map((name) => ({ name, description: "x", input_schema: SCHEMA }));
const thinking = { type: "enabled", budget_tokens: 1024 };
const body = (model, more) => ({ model, messages: ASK, max_tokens: 2048, ...more });

/** The raw iterator, as a message of its parts; checks the grammar of events. */
async function raw(model, more = {}) {
  let [text, stop_reason, usage, open, index] = ["", null, null, null, 0];
  const kinds = [];
  for await (const event of await client.messages.create({ ...body(model, more), stream: true })) {
    kinds.push(event.type);
    if (event.type === "content_block_start") {
      assert.equal(open, null);
      assert.equal(event.index, index++);
      open = event.index;
    } else if (event.type === "content_block_stop") {
      assert.equal(event.index, open);
      open = null;
    } else if (event.type === "content_block_delta") {
      assert.equal(event.index, open);
      text += event.delta.text ?? "";
    } else if (event.type === "message_delta") {
      ({ usage, delta: { stop_reason } } = event);
    }
  }
  assert.equal(kinds[0], "message_start");
  assert.deepEqual(kinds.slice(-2), ["message_delta", "message_stop"]);
  return { content: [{ type: "text", text }], stop_reason, usage };
}

/** The accumulating stream: its final message, checked against its own events. */
async function accumulated(model, more = {}) {
  let text = "";
  const stream = client.messages.stream(body(model, more));
  stream.on("text", (delta) => (text += delta));
  const final = await stream.finalMessage();
  assert.equal(textOf(final), text);
  return final;
}

const whole = (model, more = {}) => client.messages.create(body(model, more));
const WAYS = { raw, accumulated, whole };
const textOf = (message) => message.content.map((block) => block.text ?? "").join("");

for (const upstream of UPSTREAMS) {
  for (const [way, ask] of Object.entries(WAYS)) {
    const name = (what) => `anthropic ${way} ${upstream}: ${what}`;

    test(name("text and usage"), async () => {
      const message = await ask(`${upstream}/n50`);
      assert.equal(textOf(message), tokens(50));
      assert.equal(message.stop_reason, "end_turn");
      assert.equal(message.usage.output_tokens, 50);
    });

    test(name("length"), async () => {
      assert.equal((await ask(`${upstream}/n20-length`)).stop_reason, "max_tokens");
      const cut = await ask(`${upstream}/n20`, { max_tokens: 17 });
      assert.equal(textOf(cut), tokens(17));
    });

    test(name("errors before the stream"), async () => {
      const of = { 429: Anthropic.RateLimitError };
      for (const status of [401, 429, 500, 529]) {
        const error = await ask(`${upstream}/e${status}`).catch((error) => error);
        assert.ok(error instanceof (of[status] ?? Anthropic.InternalServerError), `${status}: ${error}`);
        // The gateway's own credential is refused, not the caller's.
        assert.equal(error.status, status === 401 ? 502 : status);
      }
    });

    for (const fault of FAULTS) {
      test(name(`${fault} is an error`), async () => {
        const error = await ask(`${upstream}/n20-${fault}`).catch((error) => error);
        assert.ok(error instanceof Anthropic.APIError, `${error}`);
        assert.ok(!(error instanceof Anthropic.APIConnectionError), `told in-band: ${error}`);
      });
    }

    test(name("wrong key, unknown model"), async () => {
      await assert.rejects(ask("nothing"), Anthropic.NotFoundError);
      client.apiKey = "sg-wrong";
      try {
        await assert.rejects(ask(`${upstream}/n3`), Anthropic.AuthenticationError);
      } finally {
        client.apiKey = KEY;
      }
    });
  }

  for (const [way, ask] of Object.entries({ accumulated, whole })) {
    test(`anthropic ${way} ${upstream}: parallel tools and thoughts, two turns`, async () => {
      const model = `${upstream}/think4-tools2-n7`;
      const first = await ask(model, { tools: TOOLS, thinking });
      assert.equal(first.stop_reason, "tool_use");
      const [thought, ...calls] = first.content;
      assert.equal(thought.thinking, tokens(4, "r"));
      if (upstream === "sim-anthropic") assert.equal(thought.signature, SIGNATURE);
      assert.deepEqual(calls.map((call) => call.name), ["alpha", "beta"]);
      assert.deepEqual(calls.map((call) => call.input), ARGUMENTS);
      assert.equal(new Set(calls.map((call) => call.id)).size, 2);
      const content = calls.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "done" }));
      const messages = [...ASK, { role: "assistant", content: first.content }, { role: "user", content }];
      const second = await ask(model, { tools: TOOLS, thinking, messages });
      assert.equal(textOf(second), tokens(7));
    });
  }

  for (const words of ODD) {
    test(`anthropic ${upstream}: ${words}`, async () => {
      for (const ask of [raw, accumulated]) {
        const message = await ask(`${upstream}/${words}`);
        assert.equal(textOf(message), tokens(countOf(words)));
        assert.equal(message.stop_reason, "end_turn");
        assert.equal(message.usage.output_tokens, countOf(words));
      }
    });
  }

  // Where the finish reason has said it all, as before OpenAI's `[DONE]`, nothing is missed; else an answer is cut.
  test(`anthropic ${upstream}: no terminator`, async () => {
    const answer = raw(`${upstream}/n20-nodone`);
    if (!needsTerminator(upstream)) assert.equal(textOf(await answer), tokens(20));
    else await assert.rejects(answer, Anthropic.APIError);
  });

  test(`anthropic ${upstream}: image, structured output`, async () => {
    const source = { type: "base64", media_type: "image/png", data: PNG };
    const messages = [{ role: "user", content: [{ type: "text", text: "see" }, { type: "image", source }] }];
    const output_config = { format: { type: "json_schema", schema: SCHEMA } };
    assert.equal(textOf(await whole(`${upstream}/n3`, { messages, output_config })), tokens(3));
  });

  test(`anthropic ${upstream}: abort reaches the upstream`, async () => {
    const before = await stats();
    const stream = client.messages.stream(body(`${upstream}/n100000-i10000`, { max_tokens: 100000 }));
    for await (const event of stream) {
      if (event.type === "content_block_delta") break;
    }
    await waitForCancel(before);
  });

  test(`anthropic ${upstream}: models and alias`, async () => {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    assert.deepEqual(listed.filter((name) => !name.includes("/")).sort(), ALIASES);
    assert.ok(listed.includes("sim-openai-chat/sim"));
    assert.equal(textOf(await raw(alias(upstream))), tokens(20));
  });
}
