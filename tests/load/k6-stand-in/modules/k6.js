// The module `k6`: `sleep` alone.
const never = new Int32Array(new SharedArrayBuffer(4));

export function sleep(seconds) {
  Atomics.wait(never, 0, 0, seconds * 1000);
}
