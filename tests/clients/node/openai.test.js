// openai-node, chat completions, in front of every upstream.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

import {
  alias, ALIASES, ARGUMENTS, countOf, FAULTS, GATEWAY, KEY, needsTerminator, ODD, PNG, SCHEMA, SIGNATURE, stats, tokens,
  UPSTREAMS, waitForCancel,
} from "./shared.js";

const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0, timeout: 30000 });
const ASK = [{ role: "user", content: "count" }];
const TOOLS = ["alpha", "beta"].map((name) => ({
  type: "function",
  function: { name, description: "x", parameters: SCHEMA, strict: true },
}));
const stream_options = { include_usage: true };

/** The raw iterator, as a completion of its parts. */
async function raw(model, more = {}) {
  let [text, reasoning, finish, usage] = ["", "", null, null];
  const stream = await client.chat.completions.create({
    model, messages: ASK, stream: true, stream_options, ...more,
  });
  for await (const chunk of stream) {
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? "";
      reasoning += choice.delta.reasoning_content ?? "";
      finish = choice.finish_reason ?? finish;
    }
  }
  const message = { content: text, reasoning_content: reasoning };
  return { choices: [{ message, finish_reason: finish }], usage };
}

/** The accumulating stream: its final completion, checked against its own events. */
async function accumulated(model, more = {}) {
  let text = "";
  const stream = client.chat.completions.stream({ model, messages: ASK, stream_options, ...more });
  stream.on("content", (delta) => (text += delta));
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content ?? "", text);
  return final;
}

const whole = (model, more = {}) => client.chat.completions.create({ model, messages: ASK, ...more });
const WAYS = { raw, accumulated, whole };

for (const upstream of UPSTREAMS) {
  for (const [way, ask] of Object.entries(WAYS)) {
    const name = (what) => `openai ${way} ${upstream}: ${what}`;

    test(name("text and usage"), async () => {
      const { choices, usage } = await ask(`${upstream}/n50`);
      assert.equal(choices[0].message.content, tokens(50));
      assert.equal(choices[0].finish_reason, "stop");
      assert.equal(usage.completion_tokens, 50);
      assert.ok(usage.prompt_tokens > 0);
    });

    test(name("length"), async () => {
      assert.equal((await ask(`${upstream}/n20-length`)).choices[0].finish_reason, "length");
      const cut = await ask(`${upstream}/n20`, { max_completion_tokens: 17 });
      assert.equal(cut.choices[0].message.content, tokens(17));
    });

    test(name("errors before the stream"), async () => {
      const of = { 429: OpenAI.RateLimitError };
      for (const status of [401, 429, 500, 529]) {
        const error = await ask(`${upstream}/e${status}`).catch((error) => error);
        assert.ok(error instanceof (of[status] ?? OpenAI.InternalServerError), `${status}: ${error}`);
        // The gateway's own credential is refused, not the caller's.
        const seen = { 401: [502], 500: [500, 502], 529: [529, 503] }[status] ?? [status];
        assert.ok(seen.includes(error.status), `${error.status}`);
        assert.ok(status !== 401 || error.code === "upstream_credentials", `${error.code}`);
        assert.ok(error.requestID);
      }
    });

    for (const fault of FAULTS) {
      test(name(`${fault} is an error`), async () => {
        const error = await ask(`${upstream}/n20-${fault}`).catch((error) => error);
        assert.ok(error instanceof OpenAI.APIError || error?.cause instanceof OpenAI.APIError, `${error}`);
        assert.ok(!(error instanceof OpenAI.APIConnectionError), `told in-band: ${error}`);
      });
    }

    test(name("wrong key, unknown model"), async () => {
      const wrong = await ask("nothing").catch((error) => error);
      assert.ok(wrong instanceof OpenAI.NotFoundError && wrong.code === "model_not_found", `${wrong}`);
      client.apiKey = "sg-wrong";
      try {
        await assert.rejects(ask(`${upstream}/n3`), OpenAI.AuthenticationError);
      } finally {
        client.apiKey = KEY;
      }
    });
  }

  for (const [way, ask] of Object.entries({ accumulated, whole })) {
    test(`openai ${way} ${upstream}: parallel tools and thoughts, two turns`, async () => {
      const model = `${upstream}/think4-tools2-n7`;
      const { message, finish_reason } = (await ask(model, { tools: TOOLS })).choices[0];
      assert.equal(finish_reason, "tool_calls");
      assert.deepEqual(message.tool_calls.map((call) => call.function.name), ["alpha", "beta"]);
      assert.deepEqual(message.tool_calls.map((call) => JSON.parse(call.function.arguments)), ARGUMENTS);
      assert.equal(new Set(message.tool_calls.map((call) => call.id)).size, 2);
      // This library's accumulating stream keeps only the last piece of fields that it does not know.
      assert.equal(message.reasoning_content, way === "whole" ? tokens(4, "r") : "r3 ");
      if (upstream === "sim-anthropic") {
        assert.equal(message.reasoning_details[0].signature, SIGNATURE);
        assert.equal(message.reasoning_details[0].text, tokens(4, "r"));
      }
      const results = message.tool_calls.map(({ id }) => ({ role: "tool", tool_call_id: id, content: "done" }));
      const second = await ask(model, { tools: TOOLS, messages: [...ASK, message, ...results] });
      assert.equal(second.choices[0].message.content, tokens(7));
    });
  }

  test(`openai raw ${upstream}: reasoning`, async () => {
    const { message } = (await raw(`${upstream}/think6-n4`, { reasoning_effort: "low" })).choices[0];
    assert.deepEqual(message, { content: tokens(4), reasoning_content: tokens(6, "r") });
  });

  for (const words of ODD) {
    test(`openai ${upstream}: ${words}`, async () => {
      for (const ask of [raw, accumulated]) {
        const { choices, usage } = await ask(`${upstream}/${words}`);
        assert.equal(choices[0].message.content, tokens(countOf(words)));
        assert.equal(choices[0].finish_reason, "stop");
        assert.equal(usage.completion_tokens, countOf(words));
      }
    });
  }

  // Where the finish reason has said it all, as before OpenAI's `[DONE]`, nothing is missed; else an answer is cut.
  test(`openai ${upstream}: no terminator`, async () => {
    const answer = raw(`${upstream}/n20-nodone`);
    if (!needsTerminator(upstream)) assert.equal((await answer).choices[0].message.content, tokens(20));
    else await assert.rejects(answer, OpenAI.APIError);
  });

  test(`openai ${upstream}: image, structured output`, async () => {
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } };
    const messages = [{ role: "user", content: [{ type: "text", text: "see" }, image] }];
    const response_format = { type: "json_schema", json_schema: { name: "out", schema: SCHEMA, strict: true } };
    const seen = await whole(`${upstream}/n3`, { messages, response_format });
    assert.equal(seen.choices[0].message.content, tokens(3));
  });

  test(`openai ${upstream}: abort reaches the upstream`, async () => {
    const before = await stats();
    const stream = await client.chat.completions.create({
      model: `${upstream}/n100000-i10000`, messages: ASK, stream: true,
    });
    for await (const _ of stream) break;
    await waitForCancel(before);
  });

  test(`openai ${upstream}: models and alias`, async () => {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    assert.deepEqual(listed.filter((name) => !name.includes("/")).sort(), ALIASES);
    assert.ok(listed.includes("sim-openai-chat/sim"));
    assert.equal((await raw(alias(upstream))).choices[0].message.content, tokens(20));
  });
}
