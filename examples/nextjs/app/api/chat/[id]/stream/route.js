import { gateway } from "@/lib/gateway";

/** The chat's answer that is under way, from its beginning, as `useChat` reads it; 204 if there is none. */
export async function GET(request, { params }) {
  const { id } = await params;
  const { status, headers, body } = await gateway(`/chats/${encodeURIComponent(id)}/stream`, { signal: request.signal });
  const kept = ["content-type", "cache-control", "x-accel-buffering", "x-vercel-ai-ui-message-stream"];
  return new Response(body, { status, headers: kept.filter((name) => headers.has(name)).map((name) => [name, headers.get(name)]) });
}
