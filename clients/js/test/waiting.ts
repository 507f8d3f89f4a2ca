// Fake time: a wait passes as soon as it begins, so that no test sleeps, and the waits can be read.

import { vi } from "vitest";

import type { ConnectionStatus } from "../src/index.js";

/** Replaces timers and the clock; sockets keep the real ones. */
export function fakeTime(): void {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date"] });
}

/** An `onStatus` that lets waits pass at once and notes them. */
export function skipWaits(delays: number[] = []): (status: ConnectionStatus) => void {
  return (status) => {
    if (status.state !== "waiting") return;
    delays.push(status.delay);
    // The timer is set after this call.
    setImmediate(() => vi.advanceTimersByTime(Math.ceil(status.delay) + 1));
  };
}

/** Lets everything happen that is ready. */
export const turn = () => new Promise<void>((resolve) => void setImmediate(resolve));

/** All values of an iteration. */
export async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}
