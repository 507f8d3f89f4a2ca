// A gateway as a first run starts it, and a browser in front of it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, afterEach } from "node:test";

import { chromium } from "playwright-core";

const { STREAMGATE, CHROMIUM } = process.env;
const KEY = "sg-browser+&=#1";

/** Starts the gateway; with a configuration, if there is one. Resolves to its standard output and its end. */
export async function startGateway(configuration) {
  const folder = mkdtempSync(join(tmpdir(), "streamgate-browser-"));
  let options = ["--listen", "127.0.0.1:0"];
  if (configuration !== undefined) {
    writeFileSync(join(folder, "config.yaml"), configuration);
    options = ["--config", join(folder, "config.yaml")];
  }
  const started = await start(options, /Streamgate on (http:[^\s,]+)/, (out) => /Streamgate on \S+\n/.test(out) || out.includes("curl"));
  const stop = async () => {
    await started.stop();
    rmSync(folder, { recursive: true });
  };
  return { ...started, stop };
}

/** Starts the simulated upstream. */
export const startSimulated = () => start(["sim", "--listen", "127.0.0.1:0"], /(http:\S+)\n/, (out) => out.includes("\n"));

/** Starts the program, and resolves to what it prints, its address, and its end. */
async function start(options, address, isReady) {
  const environment = { PATH: process.env.PATH, STREAMGATE_KEY: KEY, RUST_LOG: "warn" };
  const child = spawn(STREAMGATE, options, { env: environment, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  let out = "";
  await new Promise((resolve, reject) => {
    child.stdout.on("data", (chunk) => {
      out += chunk;
      if (isReady(out)) resolve();
    });
    ended.then((status) => reject(new Error(`the program ended with status ${status}: ${out}`)));
  });
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  return { out, url: address.exec(out)[1], stop };
}

/** A configuration in front of a simulated upstream, with the key and more YAML. */
export const configured = (simulated, more) =>
  `server: { listen: "127.0.0.1:0" }
auth:
  keys:
    - name: browser
      sha256: "${createHash("sha256").update(KEY).digest("hex")}"
      channels: { subscribe: ["*"], publish: ["*"] }
providers: { sim: { dialect: openai-chat, base_url: "${simulated.url}/v1", api_key: sim } }
${more}`;

/** The gateway and the browser of a file of tests, and a page of a new session for each of them. `more`: settings of a
 * gateway that is not a first run's. */
export function setUp(more) {
  const shared = { key: KEY };
  let browser;
  before(async () => {
    if (more !== undefined) shared.simulated = await startSimulated();
    shared.gateway = await startGateway(more === undefined ? undefined : configured(shared.simulated, more));
    shared.url = shared.gateway.url;
    shared.link = /(http:\S+#key=\S+)/.exec(shared.gateway.out)?.[1];
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  });
  after(async () => {
    await browser?.close();
    await shared.gateway?.stop();
    await shared.simulated?.stop();
  });
  beforeEach(async () => {
    shared.problems = [];
    shared.newContext = async (options) => {
      const context = await browser.newContext(options);
      // On a busy machine a page takes its time.
      context.setDefaultTimeout(60_000);
      // Errors of the page, and all that its own policy blocks.
      context.on("weberror", (error) => shared.problems.push(String(error.error())));
      context.on("console", (message) => {
        const expected = /Failed to load resource/.test(message.text());
        if (message.type() === "error" && !expected) shared.problems.push(message.text());
      });
      shared.contexts.push(context);
      return context;
    };
    shared.contexts = [];
    shared.context = await shared.newContext();
    shared.page = await shared.context.newPage();
  });
  afterEach(async () => {
    for (const context of shared.contexts) await context.close();
    assert.deepEqual(shared.problems, []);
  });
  return shared;
}

/** The text that the simulated upstream sends for `n50`. */
export const tokens = (count) => Array.from({ length: count }, (_, index) => `t${index} `).join("");

/** Waits until an element has a text. */
export async function shows(page, selector, text) {
  const matches = ([selector, source, flags]) =>
    new RegExp(source, flags).test(document.querySelector(selector)?.textContent ?? "");
  const pattern = text instanceof RegExp ? text : new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
  try {
    await page.waitForFunction(matches, [selector, pattern.source, pattern.flags]);
  } catch (error) {
    const found = await page.locator(selector).first().textContent().catch(() => "nothing");
    throw new Error(`${selector} does not become ${pattern}, but is ${JSON.stringify(found)}`, { cause: error });
  }
}

/** Opens the link of the first run. */
export async function openConsole(page, link) {
  await page.goto(link);
  await page.locator("#key-set").waitFor();
}

/** Sends a message to a model. */
export async function ask(page, model, prompt = "Hello") {
  await page.fill("#model", model);
  await page.fill("#prompt", prompt);
  await page.press("#prompt", "Enter");
}

/** The answer of the last message. */
export const ANSWER = ".message:last-child > p:nth-child(3)";
