import { redirect } from "next/navigation";

export const dynamic = "force-dynamic";

/** A new chat. Its id is a secret: it is all that a reader of the chat needs. */
export default function Page() {
  redirect(`/chat/${crypto.randomUUID()}`);
}
