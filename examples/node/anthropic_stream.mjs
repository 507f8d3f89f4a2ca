// The Anthropic SDK: the same gateway, the same model, another API.
//
//     STREAMGATE_KEY=KEY node anthropic_stream.mjs "Hello"

import Anthropic from "@anthropic-ai/sdk";

const { STREAMGATE_URL = "http://127.0.0.1:8080", STREAMGATE_KEY, STREAMGATE_MODEL = "sim" } = process.env;
const client = new Anthropic({ baseURL: STREAMGATE_URL, apiKey: STREAMGATE_KEY });
const content = process.argv.slice(2).join(" ") || "Hello";
try {
  const stream = client.messages.stream({ model: STREAMGATE_MODEL, max_tokens: 1000, messages: [{ role: "user", content }] });
  stream.on("text", (text) => process.stdout.write(text));
  await stream.finalMessage();
  process.stdout.write("\n");
} catch (error) {
  console.error(`\nthe answer is not complete: ${error.message}`);
  process.exitCode = 1;
}
