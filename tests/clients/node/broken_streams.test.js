// Clients that overlook an error event, or did for a long time: each must raise when a stream fails in the middle.

import assert from "node:assert/strict";
import { test } from "node:test";

import { GoogleGenerativeAI } from "@google/generative-ai";
import { ChatGoogleGenerativeAI } from "@langchain/google-genai";
import { streamText } from "ai";
import { GoogleGenAI as Genai130 } from "genai-1-30";
import { GoogleGenAI as Genai152 } from "genai-1-52";
import { createOllama } from "ollama-ai-provider-v2";

import { FAULTS, GATEWAY, KEY, tokens, UPSTREAMS } from "./shared.js";

const genai = (GoogleGenAI) => async function* (model) {
  const client = new GoogleGenAI({ apiKey: KEY, httpOptions: { baseUrl: GATEWAY, timeout: 30000 } });
  for await (const chunk of await client.models.generateContentStream({ model, contents: "count" })) {
    yield chunk.text ?? "";
  }
};

// Beside the stream this SDK makes a promise of the whole answer, which is rejected with it.
const withoutWhole = async (result) => {
  const { stream, response } = await result;
  response.catch(() => {});
  return { stream, response };
};

async function* generative(model) {
  const client = new GoogleGenerativeAI(KEY).getGenerativeModel({ model: `models/${model}` }, { baseUrl: GATEWAY });
  for await (const chunk of (await withoutWhole(client.generateContentStream("count"))).stream) yield chunk.text();
}

async function* langchain(model) {
  // It takes one `models/` off, and a name with a slash for a whole path.
  const client = new ChatGoogleGenerativeAI({ model: `models/models/${model}`, apiKey: KEY, baseUrl: GATEWAY, maxRetries: 0 });
  // It leaves the promise alone, which Node reports as a fault of the test.
  const sdk = client.client;
  const ask = sdk.generateContentStream.bind(sdk);
  sdk.generateContentStream = (...request) => withoutWhole(ask(...request));
  for await (const chunk of await client.stream("count")) yield chunk.text;
}

async function* ollama(model) {
  const provider = createOllama({ baseURL: `${GATEWAY}/api`, headers: { authorization: `Bearer ${KEY}` } });
  const { fullStream } = streamText({ model: provider(model), prompt: "count", maxRetries: 0, onError: () => {} });
  for await (const part of fullStream) {
    if (part.type === "text-delta") yield part.text;
    else if (part.type === "error") throw part.error;
  }
}

const CLIENTS = {
  "@google/genai 1.30": genai(Genai130),
  "@google/genai 1.52": genai(Genai152),
  "@google/generative-ai": generative,
  "@langchain/google-genai": langchain,
  "ollama-ai-provider-v2": ollama,
};

for (const upstream of UPSTREAMS) {
  for (const [client, stream] of Object.entries(CLIENTS)) {
    test(`${client} ${upstream}: a whole answer`, async () => {
      let text = "";
      for await (const piece of stream(`${upstream}/n20`)) text += piece;
      assert.equal(text, tokens(20));
    });

    for (const fault of FAULTS) {
      test(`${client} ${upstream}: ${fault} is an error`, async () => {
        let text = "";
        await assert.rejects(async () => {
          for await (const piece of stream(`${upstream}/n20-${fault}`)) text += piece;
        });
        assert.equal(text, tokens(5));
      });
    }
  }
}
