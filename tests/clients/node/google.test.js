// @google/genai, in front of every upstream.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError, GoogleGenAI } from "@google/genai";

import {
  alias, ARGUMENTS, countOf, countsReasoning, FAULTS, GATEWAY, KEY, ODD, PNG, SCHEMA, stats, tokens, UPSTREAMS,
  waitForCancel,
} from "./shared.js";

const connect = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: GATEWAY, timeout: 30000 } });
const client = connect(KEY);
const TOOLS = {
  tools: [{
    functionDeclarations: ["alpha", "beta"].map((name) => ({ name, description: "x", parametersJsonSchema: SCHEMA })),
  }],
};

/** Puts chunks together. */
async function gather(chunks) {
  const answer = { text: "", thoughts: "", calls: [], parts: [], finish: null, usage: null };
  for await (const chunk of chunks) {
    answer.usage = chunk.usageMetadata ?? answer.usage;
    for (const candidate of chunk.candidates ?? []) {
      assert.equal(answer.finish, null);
      answer.finish = candidate.finishReason ?? null;
      for (const part of candidate.content.parts) {
        answer.parts.push(part);
        if (part.functionCall) answer.calls.push(part.functionCall);
        else answer[part.thought ? "thoughts" : "text"] += part.text;
      }
    }
  }
  return answer;
}

const streamed = async (model, more = {}) =>
  gather(await client.models.generateContentStream({ model, contents: "count", ...more }));
const whole = async (model, more = {}) =>
  gather([await client.models.generateContent({ model, contents: "count", ...more })]);

for (const upstream of UPSTREAMS) {
  for (const [way, ask] of Object.entries({ streamed, whole })) {
    const name = (what) => `google ${way} ${upstream}: ${what}`;

    test(name("text and usage"), async () => {
      const { text, finish, usage } = await ask(`${upstream}/n50`);
      assert.deepEqual([text, finish], [tokens(50), "STOP"]);
      assert.equal(usage.candidatesTokenCount, 50);
      assert.ok(usage.promptTokenCount > 0);
    });

    test(name("thinking"), async () => {
      const config = { thinkingConfig: { includeThoughts: true } };
      const { text, thoughts, usage } = await ask(`${upstream}/think6-n4`, { config });
      assert.deepEqual([text, thoughts], [tokens(4), tokens(6, "r")]);
      assert.equal(usage.thoughtsTokenCount, countsReasoning(upstream) ? 6 : undefined);
    });

    test(name("length"), async () => {
      assert.equal((await ask(`${upstream}/n20-length`)).finish, "MAX_TOKENS");
      assert.equal((await ask(`${upstream}/n20`, { config: { maxOutputTokens: 17 } })).text, tokens(17));
    });

    test(name("parallel tools and thoughts, two turns"), async () => {
      const model = `${upstream}/think4-tools2-n7`;
      const first = await ask(model, { config: TOOLS });
      assert.deepEqual(first.calls.map((call) => call.name), ["alpha", "beta"]);
      assert.deepEqual(first.calls.map((call) => call.args), ARGUMENTS);
      const results = first.calls.map(({ id, name }) => ({
        functionResponse: { ...(id && { id }), name, response: { output: "done" } },
      }));
      const contents = [
        { role: "user", parts: [{ text: "count" }] },
        { role: "model", parts: first.parts },
        { role: "user", parts: results },
      ];
      assert.equal((await ask(model, { contents, config: TOOLS })).text, tokens(7));
    });

    test(name("errors before the stream"), async () => {
      for (const status of [400, 401, 429, 500, 503]) {
        const error = await ask(`${upstream}/e${status}`).catch((error) => error);
        assert.ok(error instanceof ApiError, `${status}: ${error}`);
        // The gateway's own credential is refused, not the caller's.
        const seen = { 401: [502], 500: [500, 502], 503: [503, 502] }[status] ?? [status];
        assert.ok(seen.includes(error.status), `${error.status}`);
      }
    });

    test(name("wrong key, unknown model"), async () => {
      const wrong = await connect("sg-wrong")
        .models.generateContent({ model: `${upstream}/n3`, contents: "count" }).catch((error) => error);
      assert.equal(wrong.status, 401);
      assert.equal((await ask("nothing").catch((error) => error)).status, 404);
    });

    test(name("image, structured output"), async () => {
      const contents = [{ text: "see" }, { inlineData: { mimeType: "image/png", data: PNG } }];
      const config = { responseMimeType: "application/json", responseJsonSchema: SCHEMA };
      assert.equal((await ask(`${upstream}/n3`, { contents, config })).text, tokens(3));
    });
  }

  for (const fault of FAULTS) {
    test(`google ${upstream}: ${fault} is an error`, async () => {
      let text = "";
      const stream = await client.models.generateContentStream({ model: `${upstream}/n20-${fault}`, contents: "count" });
      await assert.rejects(async () => {
        for await (const chunk of stream) text += chunk.text ?? "";
      }, ApiError);
      assert.equal(text, tokens(5));
    });
  }

  for (const words of ODD) {
    test(`google ${upstream}: ${words}`, async () => {
      const { text, finish } = await streamed(`${upstream}/${words}`);
      assert.deepEqual([text, finish], [tokens(countOf(words)), "STOP"]);
    });
  }

  // Silence between tokens must not cost the chat a turn: it would ask without it from then on.
  for (const words of ["n5", "n3-i700000", "n3-f1200"]) {
    test(`google ${upstream}: a chat keeps its history over ${words}`, async () => {
      const chat = client.chats.create({ model: `${upstream}/${words}` });
      for (const turn of [1, 2]) {
        let text = "";
        for await (const chunk of await chat.sendMessageStream({ message: "count" })) text += chunk.text ?? "";
        assert.equal(text, tokens(countOf(words)));
        const kept = chat.getHistory(true);
        assert.equal(kept.filter((content) => content.role === "user").length, turn);
        assert.equal(kept.at(-1).role, "model");
      }
    });
  }

  test(`google ${upstream}: abort reaches the upstream`, async () => {
    const before = await stats();
    // This library lets go of a connection only when it is told to.
    const leave = new AbortController();
    const stream = await client.models.generateContentStream({
      model: `${upstream}/n100000-i10000`, contents: "count", config: { abortSignal: leave.signal },
    });
    for await (const _ of stream) break;
    leave.abort();
    await waitForCancel(before);
  });

  test(`google ${upstream}: models and alias`, async () => {
    const listed = [];
    for await (const model of await client.models.list()) listed.push(model.name);
    assert.ok(listed.includes(`models/${alias(upstream)}`), `${listed}`);
    assert.equal((await streamed(alias(upstream))).text, tokens(20));
  });
}
