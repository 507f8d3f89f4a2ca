// The messages of chats, in memory. An application keeps them in its database.

const chats = (globalThis.chats ??= new Map());

export const load = (id) => chats.get(id) ?? [];
export const save = (id, messages) => chats.set(id, messages);
