// ollama-js, chat, generate and list, in front of every upstream.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Ollama } from "ollama";

import {
  ALIASES, ARGUMENTS, countOf, FAULTS, GATEWAY, KEY, ODD, PNG, SCHEMA, stats, tokens, UPSTREAMS, waitForCancel,
} from "./shared.js";

const headers = { Authorization: `Bearer ${KEY}` };
const client = new Ollama({ host: GATEWAY, headers });
const ASK = [{ role: "user", content: "count" }];
const TOOLS = ["alpha", "beta"].map((name) => ({
  type: "function", function: { name, description: "x", parameters: SCHEMA },
}));

/** The stream, as one answer. */
async function streamed(model, more = {}) {
  let [content, thinking, tool_calls, last] = ["", "", [], null];
  for await (const part of await client.chat({ model, messages: ASK, ...more, stream: true })) {
    assert.equal(last, null, "nothing follows the end");
    content += part.message.content;
    thinking += part.message.thinking ?? "";
    tool_calls.push(...(part.message.tool_calls ?? []));
    if (part.done) last = part;
  }
  return { ...last, message: { role: "assistant", content, thinking, tool_calls } };
}

const whole = (model, more = {}) => client.chat({ model, messages: ASK, ...more });

for (const upstream of UPSTREAMS) {
  for (const [way, ask] of Object.entries({ streamed, whole })) {
    const name = (what) => `ollama ${way} ${upstream}: ${what}`;

    test(name("text and usage"), async () => {
      const answer = await ask(`${upstream}/n50`);
      assert.equal(answer.message.content, tokens(50));
      assert.equal(answer.done_reason, "stop");
      assert.equal(answer.eval_count, 50);
    });

    test(name("thoughts and parallel tools, two turns"), async () => {
      const model = `${upstream}/think4-tools2-n7`;
      const options = { num_predict: 2048 };
      const first = await ask(model, { tools: TOOLS, think: true, options });
      assert.equal(first.message.thinking, tokens(4, "r"));
      const calls = first.message.tool_calls.map((call) => call.function);
      assert.deepEqual(calls.map((call) => call.name), ["alpha", "beta"]);
      assert.deepEqual(calls.map((call) => call.arguments), ARGUMENTS);
      const results = calls.map((call) => ({ role: "tool", tool_name: call.name, content: "done" }));
      const messages = [...ASK, first.message, ...results];
      const second = await ask(model, { tools: TOOLS, messages, options });
      assert.equal(second.message.content, tokens(7));
    });

    test(name("errors before the stream"), async () => {
      for (const status of [401, 404, 429, 500]) {
        const error = await ask(`${upstream}/e${status}`).catch((error) => error);
        assert.equal(error.name, "ResponseError", `${error}`);
        // The gateway's own credential is refused, not the caller's.
        const ours = status === 401;
        assert.ok(ours || status >= 500 ? error.status_code >= 500 : error.status_code === status, `${error.status_code}`);
        assert.match(error.message, ours ? /upstream_credentials/ : /simulated upstream/);
      }
    });
  }

  for (const fault of FAULTS) {
    test(`ollama ${upstream}: ${fault} is an error`, async () => {
      await assert.rejects(streamed(`${upstream}/n20-${fault}`), (error) => !/Did not receive done/.test(error.message));
    });
  }

  for (const words of ODD) {
    test(`ollama ${upstream}: ${words}`, async () => {
      assert.equal((await streamed(`${upstream}/${words}`)).message.content, tokens(countOf(words)));
    });
  }

  test(`ollama ${upstream}: generate`, async () => {
    const ask = { model: `${upstream}/n20`, prompt: "count", system: "be brief" };
    assert.equal((await client.generate(ask)).response, tokens(20));
    let said = "";
    for await (const part of await client.generate({ ...ask, stream: true })) said += part.response;
    assert.equal(said, tokens(20));
  });

  test(`ollama ${upstream}: image, structured output`, async () => {
    const messages = [{ role: "user", content: "see", images: [PNG] }];
    assert.equal((await whole(`${upstream}/n3`, { messages, format: SCHEMA })).message.content, tokens(3));
  });

  test(`ollama ${upstream}: abort reaches the upstream`, async () => {
    const before = await stats();
    const stream = await client.chat({ model: `${upstream}/n100000-i10000`, messages: ASK, stream: true });
    for await (const _ of stream) break;
    stream.abort();
    await waitForCancel(before);
  });
}

test("ollama: wrong key, unknown model, list", async () => {
  const wrong = new Ollama({ host: GATEWAY, headers: { Authorization: "Bearer sg-wrong" } });
  await assert.rejects(wrong.chat({ model: `${UPSTREAMS[0]}/n3`, messages: ASK }), { status_code: 401 });
  await assert.rejects(whole("nothing"), { status_code: 404 });
  const { models } = await client.list();
  const listed = models.map((model) => model.name);
  assert.deepEqual(listed.filter((name) => !name.includes("/")).sort(), ALIASES);
  assert.ok(listed.includes("sim-openai-chat/sim"));
});
