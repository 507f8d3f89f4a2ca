// The pages of the examples in Chromium. Prints a line for each check; `suite.py` counts them.
//
//     node browser.mjs html|nextjs ADDRESS

import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../browser/", import.meta.url))("playwright-core");
const [, , part, address] = process.argv;
const tokens = (count) => Array.from({ length: count }, (_, index) => `t${index} `).join("");
const trimmed = (text) => text.replace(/\s+/g, " ").trim();

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
const context = await browser.newContext();
context.setDefaultTimeout(60_000);
const page = await context.newPage();
const problems = [];
page.on("pageerror", (error) => problems.push(String(error)));

function check(name, good, seen = "") {
  console.log(`${good ? "ok     " : "FAILED "} ${name}`);
  if (!good) console.error(name, seen, problems);
}
const text = (selector) => page.locator(selector).last().innerText();
const until = (selector, words) => page.locator(selector, { hasText: words }).last().waitFor();

const parts = {
  async html() {
    await page.goto(address);
    await page.click("button:not(#stop)");
    await until("#state", "complete");
    check("fetch: every token", trimmed(await text("#answer")) === trimmed(tokens(300)), await text("#answer"));
    await page.click("button:not(#stop)");
    await until("#answer", "t9 ");
    await page.click("#stop");
    await until("#state", "stopped");
    check("fetch: a stop ends it in the middle", !(await text("#answer")).includes("t299"));
    await page.goto(`${address}/eventsource.html`);
    await page.click("button");
    await until("#answer", "t9 ");
    await page.reload();
    await until("#state", "complete");
    check("EventSource: a reload in mid-answer shows all of it", trimmed(await text("#answer")) === trimmed(tokens(300)), await text("#answer"));
  },
  async nextjs() {
    const answer = "[data-role=assistant] span";
    await page.goto(address);
    const ask = async (prompt) => {
      await page.fill("input", prompt);
      await page.click("text=Send");
    };
    await ask("Hello");
    await until(answer, "t9 ");
    const chat = page.url();
    await page.reload();
    await until(answer, "t299");
    await until("[data-status]", "ready");
    check("a reload in mid-answer resumes it", trimmed(await text(answer)) === trimmed(tokens(300)), await text(answer));
    check("once", (await page.locator(answer).count()) === 1);
    const other = await context.newPage();
    await other.goto(chat);
    await other.locator(answer, { hasText: "t299" }).waitFor();
    check("a page that is opened later has both messages", (await other.locator("[data-role]").count()) === 2);
    await ask("And again");
    await page.locator(answer).nth(1).filter({ hasText: "t9 " }).waitFor();
    // Not `click`: it waits until the button does not move, and text above it grows.
    const [stopped] = await Promise.all([page.waitForResponse(/\/stop$/), page.getByRole("button", { name: "Stop" }).dispatchEvent("click")]);
    await page.locator("text=Send").waitFor();
    check("the stop button is answered", stopped.status() === 204, stopped.status());
    check("the stop button cancels it in the gateway", !(await text(answer)).includes("t299"), await text(answer));
  },
};
try {
  await parts[part]();
  check("no error of the page", problems.length === 0);
} finally {
  await browser.close();
}
