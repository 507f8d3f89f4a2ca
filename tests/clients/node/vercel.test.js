// The Vercel AI SDK with three of its providers, in front of every upstream.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

import { ARGUMENTS, FAULTS, GATEWAY, KEY, SCHEMA, stats, tokens, UPSTREAMS, waitForCancel } from "./shared.js";

const baseURL = `${GATEWAY}/v1`;
const openai = createOpenAI({ baseURL, apiKey: KEY });
const compatible = createOpenAICompatible({ baseURL, apiKey: KEY, name: "streamgate", includeUsage: true });
const anthropic = createAnthropic({ baseURL, apiKey: KEY });
const PROVIDERS = {
  openai: (model) => openai.chat(model),
  compatible: (model) => compatible(model),
  anthropic: (model) => anthropic(model),
};

/** Everything that the stream says, with what it raised on the way. */
async function said(model, more = {}) {
  const parts = { text: "", reasoning: "", calls: [], errors: [], finish: null, usage: null };
  const result = streamText({
    model, prompt: "count", maxRetries: 0, maxOutputTokens: 2048, onError: () => {}, ...more,
  });
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") parts.text += part.text;
    else if (part.type === "reasoning-delta") parts.reasoning += part.text;
    else if (part.type === "tool-call") parts.calls.push(part);
    else if (part.type === "error") parts.errors.push(part.error);
    else if (part.type === "finish") [parts.finish, parts.usage] = [part.finishReason, part.totalUsage];
  }
  return parts;
}

const tools = (execute) =>
  Object.fromEntries(
    ["alpha", "beta"].map((name) => [
      name, tool({ description: "x", inputSchema: jsonSchema(SCHEMA), ...(execute && { execute }) }),
    ]),
  );

for (const upstream of UPSTREAMS) {
  for (const [provider, of] of Object.entries(PROVIDERS)) {
    const name = (what) => `vercel ${provider} ${upstream}: ${what}`;

    test(name("text and usage"), async () => {
      const { text, finish, usage, errors } = await said(of(`${upstream}/n50`));
      assert.deepEqual(errors, []);
      assert.equal(text, tokens(50));
      assert.equal(finish, "stop");
      assert.equal(usage.outputTokens, 50);
      assert.equal((await said(of(`${upstream}/n20-length`))).finish, "length");
    });

    test(name("heartbeats between tokens"), async () => {
      assert.equal((await said(of(`${upstream}/n3-i700000`))).text, tokens(3));
    });

    test(name("generateText"), async () => {
      const { text } = await generateText({ model: of(`${upstream}/n50`), prompt: "count", maxRetries: 0 });
      assert.equal(text, tokens(50));
    });

    test(name("tools"), async () => {
      const { calls, finish, errors } = await said(of(`${upstream}/tools2`), { tools: tools() });
      assert.deepEqual(errors, []);
      assert.equal(finish, "tool-calls");
      assert.deepEqual(calls.map((call) => call.toolName), ["alpha", "beta"]);
      assert.deepEqual(calls.map((call) => call.input), ARGUMENTS);
    });

    test(name("two turns, with thoughts"), async () => {
      const { text, calls, errors } = await said(of(`${upstream}/think4-tools2-n7`), {
        tools: tools(async () => "done"), stopWhen: stepCountIs(3),
      });
      assert.deepEqual(errors, []);
      assert.equal(calls.length, 2);
      assert.equal(text, tokens(7));
    });

    // The provider for OpenAI itself does not read `reasoning_content`.
    if (provider !== "openai") {
      test(name("reasoning"), async () => {
        const { text, reasoning } = await said(of(`${upstream}/think6-n4`));
        assert.deepEqual({ text, reasoning }, { text: tokens(4), reasoning: tokens(6, "r") });
      });
    }

    for (const fault of FAULTS) {
      test(name(`${fault} is an error part`), async () => {
        const { errors, finish } = await said(of(`${upstream}/n20-i20000-${fault}`));
        assert.ok(errors.length > 0, `finished cleanly: ${finish}`);
        assert.notEqual(finish, "stop");
      });
    }

    test(name("429 before the stream"), async () => {
      const { errors } = await said(of(`${upstream}/e429`));
      assert.equal(errors[0]?.statusCode, 429);
    });

    test(name("abort reaches the upstream"), async () => {
      const before = await stats();
      const abort = new AbortController();
      const result = streamText({
        model: of(`${upstream}/n100000-i10000`), prompt: "count", maxRetries: 0, maxOutputTokens: 100000,
        abortSignal: abort.signal, onError: () => {},
      });
      for await (const part of result.fullStream) {
        if (part.type === "text-delta") abort.abort();
      }
      await waitForCancel(before);
    });
  }
}
