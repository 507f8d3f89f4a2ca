// Tests: each file in its own process, against a server of its own.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    // A hang is a failure, and the only use of real time.
    testTimeout: 120_000,
    restoreMocks: true,
  },
});
