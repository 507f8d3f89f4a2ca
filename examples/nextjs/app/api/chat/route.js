import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { consumeStream, convertToModelMessages, streamText } from "ai";

import { save } from "@/lib/chats";
import { apiKey, baseURL, MODEL } from "@/lib/gateway";

const streamgate = createOpenAICompatible({ name: "streamgate", baseURL, apiKey, includeUsage: true });

/** Begins an answer: a durable stream of the gateway, found again by the id of its chat. */
export async function POST(request) {
  const { id, messages } = await request.json();
  save(id, messages);
  const result = streamText({
    model: streamgate(MODEL),
    messages: await convertToModelMessages(messages),
    headers: { "streamgate-stream": "resumable", "streamgate-chat": id, "streamgate-on-disconnect": "continue" },
    maxRetries: 0,
  });
  return result.toUIMessageStreamResponse({
    originalMessages: messages,
    // Read to its end here too, so that the answer is saved if the browser has gone.
    consumeSseStream: consumeStream,
    onFinish: ({ messages }) => save(id, messages),
    onError: (error) => error?.message ?? "the answer failed",
  });
}
