// The OpenAI SDK: a stream, and an error that the SDK throws.
//
//     STREAMGATE_KEY=KEY node openai_stream.mjs "Hello"

import OpenAI from "openai";

const { STREAMGATE_URL = "http://127.0.0.1:8080", STREAMGATE_KEY, STREAMGATE_MODEL = "sim" } = process.env;
const client = new OpenAI({ baseURL: `${STREAMGATE_URL}/v1`, apiKey: STREAMGATE_KEY });
const content = process.argv.slice(2).join(" ") || "Hello";
try {
  const stream = await client.chat.completions.create({
    model: STREAMGATE_MODEL,
    messages: [{ role: "user", content }],
    stream: true,
  });
  for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
  process.stdout.write("\n");
} catch (error) {
  // A stream that breaks ends here, never as if the answer were complete.
  console.error(`\nthe answer is not complete: ${error.message}`);
  process.exitCode = 1;
}
