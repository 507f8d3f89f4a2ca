// Starts a gateway, runs the suite against it, and compares the result with `expected.json`: the number of tests, and
// the names of those that do not pass. It must never let a test that is gone, or new, pass unnoticed.

import { spawn } from "node:child_process"
import { openSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const [streamgate, work] = process.argv.slice(2)
const expected = JSON.parse(readFileSync(new URL("expected.json", import.meta.url)))

// Groups of tests that sleep, for 1.5 s of a time to live of 2 s: a machine that pauses for half a second fails them. They
// have a second chance, on their own; all others have one.
const TIMED = ["TTL Expiration Behavior", "Fork - TTL and Expiry"]

// JSON, which is YAML. Callers have no key: the suite sends none. Its long polls wait for two seconds at most, and its
// page has this origin.
const configuration = JSON.stringify({
  server: { listen: "127.0.0.1:0", cors: { origins: ["https://example.com"] } },
  auth: { anonymous: { limits: "none" } },
  providers: { none: { dialect: "openai-chat", base_url: "http://127.0.0.1:1/v1" } },
  durable: { streams: 10000, long_poll: "2s" },
})

/** The gateway's address, once it has said it. */
function started(gateway) {
  return new Promise((resolve, reject) => {
    let said = ""
    gateway.stdout.on("data", (bytes) => {
      said += bytes
      const address = said.match(/http:\/\/127\.0\.0\.1:\d+/)
      if (address) resolve(address[0])
    })
    gateway.on("exit", () => reject(new Error(`the gateway did not start: ${logged()}`)))
  })
}

/** Runs the suite, or some of it: all tests with names and statuses. */
async function run(address, options) {
  const report = join(work, "report.json")
  // Some tests compare a hundred thousand bytes one by one: five seconds are too few for a busy machine.
  const vitest = ["node_modules/vitest/vitest.mjs", "run", "conformance.test.mjs", "--testTimeout=120000"]
  const suite = spawn(process.execPath, [...vitest, "--reporter=json", `--outputFile=${report}`, ...options], {
    cwd: fileURLToPath(new URL(".", import.meta.url)),
    env: { ...process.env, CONFORMANCE_TEST_URL: address, NO_PROXY: "127.0.0.1" },
    stdio: ["ignore", "ignore", "inherit"],
  })
  children.add(suite)
  await new Promise((resolve) => suite.on("exit", resolve))
  children.delete(suite)
  const files = JSON.parse(readFileSync(report)).testResults
  return files.flatMap((file) => file.assertionResults)
}

/** The differences between a report and what is expected of it. */
function differences(tests) {
  const found = []
  if (tests.length !== expected.tests) found.push(`${tests.length} tests, and not ${expected.tests}`)
  const groups = Object.entries(expected.skipped)
  for (const [group, { tests: count }] of groups) {
    const own = tests.filter((test) => test.ancestorTitles[0] === group && test.status === "skipped")
    if (own.length !== count) found.push(`${own.length} tests of "${group}" were skipped, and not ${count}`)
  }
  const failed = new Set(Object.keys(expected.failed))
  for (const { fullName, ancestorTitles, status, failureMessages } of tests) {
    const isExpected = failed.delete(fullName)
    const isSkipped = status === "skipped" && ancestorTitles[0] in expected.skipped
    if (isExpected && status === "passed") found.push(`${fullName}: passes now; take it out of expected.json`)
    if (!isExpected && status !== "passed" && !isSkipped)
      found.push(`${fullName}: ${status}\n${failureMessages.join("\n")}`)
  }
  for (const name of failed) found.push(`${name}: there is no such test`)
  return found
}

const file = join(work, "streamgate.yaml")
writeFileSync(file, configuration)
const log = join(work, "streamgate.log")
const logged = () => readFileSync(log, "utf8")
const gateway = spawn(streamgate, ["--config", file], { stdio: ["ignore", "pipe", openSync(log, "w")] })
const ended = new Promise((resolve) => gateway.on("exit", resolve))
// The time is up, or somebody has had enough: nothing stays behind.
const children = new Set([gateway])
for (const signal of ["SIGTERM", "SIGINT"])
  process.on(signal, () => {
    for (const child of children) child.kill("SIGKILL")
    process.exit(1)
  })
let status = 1
try {
  const address = await started(gateway)
  let tests = await run(address, [])
  const late = (test) => test.status === "failed" && TIMED.includes(test.ancestorTitles[0])
  if (tests.some(late)) {
    console.log("repeating the tests that measure time")
    const again = await run(address, ["-t", TIMED.join("|")])
    tests = tests.map((test) => (late(test) ? again.find(({ fullName }) => fullName === test.fullName) : test))
  }
  const found = differences(tests)
  if (gateway.exitCode !== null || logged().includes("panicked"))
    found.push(`the gateway died or panicked:\n${logged().slice(-4000)}`)
  for (const difference of found) console.error(difference)
  const passed = tests.filter((test) => test.status === "passed").length
  console.log(`${passed} of ${tests.length} tests passed, ${found.length} differ from expected.json`)
  status = found.length === 0 ? 0 : 1
} finally {
  gateway.kill("SIGTERM")
  await ended
}
process.exit(status)
