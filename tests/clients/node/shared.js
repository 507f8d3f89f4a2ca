// What the Node suites share. The gateway and the simulated upstream are started by ../suites.py.

import { readFileSync } from "node:fs";

export const { GATEWAY, SIM, KEY } = process.env;
const upstreams = JSON.parse(readFileSync(new URL("../upstreams.json", import.meta.url)));
/** The providers of ../suites.py, one for each upstream. */
export const UPSTREAMS = upstreams.map(({ dialect }) => `sim-${dialect}`);
export const alias = (upstream) => upstream.replace("sim", "alias");
export const ALIASES = UPSTREAMS.map(alias).sort();
const facts = (upstream) => upstreams.find(({ dialect }) => upstream === `sim-${dialect}`);
/** Whether an answer of it is cut without its terminator, although it has said why it stopped. */
export const needsTerminator = (upstream) => facts(upstream).terminator;
/** Whether its usage tells reasoning apart. */
export const countsReasoning = (upstream) => facts(upstream).reasoning_tokens;
export const FAULTS = ["err5", "close5", "reset5", "junk5", "stall5"];
export const ODD = ["n3-i700000", "n3-f1200", "n20-crlf", "n5-split", "n20-comment"];
export const ARGUMENTS = [0, 1].map((call) => ({ call, note: "simulated" }));
export const SIGNATURE = "c2ltdWxhdGVkLXNpZ25hdHVyZQ==";
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const SCHEMA = {
  type: "object",
  properties: { call: { type: "integer" }, note: { type: "string" } },
  required: ["call", "note"],
  additionalProperties: false,
};

/** What the simulated upstream says: each token once, in order. */
export const tokens = (count, letter = "t") =>
  Array.from({ length: count }, (_, i) => `${letter}${i} `).join("");

/** How many tokens an odd stream has. */
export const countOf = (words) => Number(/^n(\d+)/.exec(words)[1]);

export const stats = async () => (await fetch(`${SIM}/_sim/stats`)).json();

/** Each look is a request of its own, so the number of looks bounds the time. */
export async function waitForCancel(before) {
  for (let look = 0; look < 5000; look++) {
    const now = await stats();
    const gone = now.cancelled_streams > before.cancelled_streams;
    if (gone && now.open_streams <= before.open_streams) return;
  }
  throw new Error(`the upstream was not cancelled: ${JSON.stringify(await stats())}`);
}
