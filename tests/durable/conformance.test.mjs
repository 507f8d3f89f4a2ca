// The published conformance suite of the Durable Streams protocol, against the server at `CONFORMANCE_TEST_URL`.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

runConformanceTests({ baseUrl: process.env.CONFORMANCE_TEST_URL, longPollTimeoutMs: 2000 })
