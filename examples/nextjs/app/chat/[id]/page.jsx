import { load } from "@/lib/chats";
import Chat from "./chat";

export const dynamic = "force-dynamic";

export default async function Page({ params }) {
  const { id } = await params;
  return <Chat id={id} messages={load(id)} />;
}
