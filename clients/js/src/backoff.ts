// Reconnection times: exponential back-off with jitter. They must never be shorter than the server asks for.

/** The first time without a `retry` of the server, in milliseconds. */
const FIRST = 500;

/** The longest time that doubling leads to, in milliseconds. */
const LONGEST = 30_000;

/** The reconnection times of one stream. */
export class Backoff {
  /** The failures since the last success. */
  failures = 0;
  /** The reconnection time that the server has set, in milliseconds. */
  retry: number | undefined;

  /** Starts again from the first time. */
  reset(): void {
    this.failures = 0;
  }

  /** The time to wait after one more failure, in milliseconds. `retryAfter`: what its response asked for. */
  next(retryAfter?: number): number {
    const least = this.retry ?? 0;
    const step = Math.min((this.retry ?? FIRST) * 2 ** this.failures, Math.max(LONGEST, least));
    this.failures += 1;
    // The server's times are the same for many clients that it rejects at once: a quarter more spreads them.
    if (retryAfter !== undefined) return retryAfter * (1 + Math.random() / 4);
    return Math.max(least, step * (0.5 + Math.random() / 2));
  }
}

/** Waits, unless `signal` is aborted: then it rejects with the signal's reason. */
export function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
  });
}
