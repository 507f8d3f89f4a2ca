// Positions in a stream: `{epoch}_{sequence number}`, both of a fixed width, so that positions of one epoch sort as
// texts. Cursors over several sources are opaque, and must never be compared.

const POSITION = /^[A-Za-z0-9]{12}_[0-9]{10}$/;

/** Whether everything up to `id` is covered by `position` already. */
export function isCovered(id: string, position: string): boolean {
  if (id === position) return true;
  const comparable = POSITION.test(id) && POSITION.test(position) && id.slice(0, 13) === position.slice(0, 13);
  return comparable && id < position;
}
