import { gateway } from "@/lib/gateway";

/** Cancels the chat's answer, in every tab. */
export async function POST(_request, { params }) {
  const { id } = await params;
  const { status } = await gateway(`/chats/${encodeURIComponent(id)}/stop`, { method: "POST" });
  return new Response(null, { status: status < 300 ? 204 : 502 });
}
