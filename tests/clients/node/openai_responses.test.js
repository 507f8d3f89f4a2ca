// The Responses API with openai-node and with the Vercel AI SDK, whose provider for OpenAI speaks it by default.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

import {
  ARGUMENTS, countOf, FAULTS, GATEWAY, KEY, ODD, SCHEMA, stats, tokens, UPSTREAMS, waitForCancel,
} from "./shared.js";

const baseURL = `${GATEWAY}/v1`;
const client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 0, timeout: 30000 });
const vercel = createOpenAI({ baseURL, apiKey: KEY });
const TOOLS = ["alpha", "beta"].map((name) => ({
  type: "function", name, description: "x", parameters: SCHEMA, strict: true,
}));

/** The raw iterator: the terminal event's response, checked against the events before it. */
async function raw(model, more = {}) {
  let [text, number, final] = ["", 0, null];
  for await (const event of await client.responses.create({ model, input: "count", stream: true, ...more })) {
    assert.equal(event.sequence_number, number++);
    assert.equal(final, null, `${event.type} after the terminal event`);
    if (event.type === "response.output_text.delta") text += event.delta;
    else if (/^response\.(completed|incomplete)$/.test(event.type)) final = event.response;
  }
  const said = final.output.flatMap((item) => item.content ?? []).map((part) => part.text ?? "").join("");
  assert.equal(said, text);
  return { ...final, output_text: text };
}

/** The streaming helper. */
async function helper(model, more = {}) {
  let text = "";
  const stream = client.responses.stream({ model, input: "count", ...more });
  stream.on("response.output_text.delta", (event) => {
    text += event.delta;
    assert.equal(event.snapshot, text);
  });
  const final = await stream.finalResponse();
  assert.equal(final.output_text, text);
  return final;
}

const whole = (model, more = {}) => client.responses.create({ model, input: "count", ...more });
const WAYS = { raw, helper, whole };

for (const upstream of UPSTREAMS) {
  for (const [way, ask] of Object.entries(WAYS)) {
    const name = (what) => `responses ${way} ${upstream}: ${what}`;

    test(name("text and usage"), async () => {
      const { output_text, status, usage } = await ask(`${upstream}/n50`);
      assert.deepEqual([output_text, status, usage.output_tokens], [tokens(50), "completed", 50]);
    });

    test(name("length"), async () => {
      const { output_text, status, incomplete_details } = await ask(`${upstream}/n20-length`);
      assert.deepEqual([output_text, status], [tokens(20), "incomplete"]);
      assert.equal(incomplete_details.reason, "max_output_tokens");
    });

    test(name("parallel tools and thoughts, two turns"), async () => {
      const model = `${upstream}/think4-tools2-n7`;
      const { output } = await ask(model, { tools: TOOLS });
      assert.deepEqual(output.map((item) => item.type), ["reasoning", "function_call", "function_call"]);
      const calls = output.slice(1);
      assert.equal(output[0].summary[0].text, tokens(4, "r"));
      assert.deepEqual(calls.map((call) => JSON.parse(call.arguments)), ARGUMENTS);
      const results = calls.map(({ call_id }) => ({ type: "function_call_output", call_id, output: "done" }));
      const given = output.map(({ parsed_arguments: _, ...item }) => item);
      const input = [{ role: "user", content: "count" }, ...given, ...results];
      assert.equal((await ask(model, { tools: TOOLS, input })).output_text, tokens(7));
    });

    test(name("errors before the stream"), async () => {
      const of = { 429: OpenAI.RateLimitError };
      for (const status of [401, 429, 500, 529]) {
        const error = await ask(`${upstream}/e${status}`).catch((error) => error);
        assert.ok(error instanceof (of[status] ?? OpenAI.InternalServerError), `${status}: ${error}`);
        assert.ok(error.requestID);
        // The gateway's own credential is refused, not the caller's.
        assert.ok(status !== 401 || error.code === "upstream_credentials", `${error.code}`);
      }
    });

    for (const fault of FAULTS) {
      test(name(`${fault} is an error`), async () => {
        const error = await ask(`${upstream}/n20-${fault}`).catch((error) => error);
        assert.ok(error instanceof OpenAI.APIError || error?.cause instanceof OpenAI.APIError, `${error}`);
        assert.ok(!(error instanceof OpenAI.APIConnectionError), `told in-band: ${error}`);
      });
    }
  }

  for (const words of ODD) {
    test(`responses ${upstream}: ${words}`, async () => {
      for (const ask of [raw, helper]) {
        assert.equal((await ask(`${upstream}/${words}`)).output_text, tokens(countOf(words)));
      }
    });
  }

  test(`responses ${upstream}: abort reaches the upstream`, async () => {
    const before = await stats();
    const stream = await client.responses.create({
      model: `${upstream}/n100000-i10000`, input: "count", stream: true,
    });
    for await (const _ of stream) break;
    await waitForCancel(before);
  });

  /** Everything that the Vercel SDK's stream says, with what it raised on the way. */
  const said = async (words, more = {}) => {
    const parts = { text: "", reasoning: "", calls: [], errors: [], finish: null, usage: null };
    const result = streamText({
      model: vercel(`${upstream}/${words}`), prompt: "count", maxRetries: 0, onError: () => {}, ...more,
    });
    for await (const part of result.fullStream) {
      if (part.type === "text-delta") parts.text += part.text;
      else if (part.type === "reasoning-delta") parts.reasoning += part.text;
      else if (part.type === "tool-call") parts.calls.push(part);
      else if (part.type === "error") parts.errors.push(part.error);
      else if (part.type === "finish") [parts.finish, parts.usage] = [part.finishReason, part.totalUsage];
    }
    return parts;
  };
  const tools = (execute) =>
    Object.fromEntries(
      ["alpha", "beta"].map((name) => [
        name, tool({ description: "x", inputSchema: jsonSchema(SCHEMA), ...(execute && { execute }) }),
      ]),
    );
  const name = (what) => `vercel responses ${upstream}: ${what}`;

  test(name("text, reasoning and usage"), async () => {
    const { text, reasoning, finish, usage, errors } = await said("think6-n50");
    assert.deepEqual(errors, []);
    assert.deepEqual([text, reasoning, finish], [tokens(50), tokens(6, "r"), "stop"]);
    assert.equal(usage.outputTokens, 56);
    assert.equal((await said("n20-length")).finish, "length");
    assert.equal((await said("n3-i700000")).text, tokens(3));
  });

  test(name("generateText"), async () => {
    const { text, finishReason } = await generateText({
      model: vercel(`${upstream}/n50`), prompt: "count", maxRetries: 0,
    });
    assert.deepEqual([text, finishReason], [tokens(50), "stop"]);
  });

  // What it keeps at the vendor by default it must send itself here.
  test(name("tools and thoughts, two turns"), async () => {
    const { text, calls, errors } = await said("think4-tools2-n7", {
      tools: tools(async () => "done"), stopWhen: stepCountIs(3), providerOptions: { openai: { store: false } },
    });
    assert.deepEqual(errors, []);
    assert.deepEqual(calls.map((call) => [call.toolName, call.input]), [["alpha", ARGUMENTS[0]], ["beta", ARGUMENTS[1]]]);
    assert.equal(text, tokens(7));
  });

  for (const fault of FAULTS) {
    test(name(`${fault} is an error part`), async () => {
      const { errors, finish } = await said(`n20-i20000-${fault}`);
      assert.ok(errors.length > 0, `finished cleanly: ${finish}`);
      assert.notEqual(finish, "stop");
    });
  }

  test(name("429 before the stream"), async () => {
    assert.equal((await said("e429")).errors[0]?.statusCode, 429);
  });
}
