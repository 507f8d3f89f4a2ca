// Channels, as a reader sees them: subscribing by pattern, publishing, presence.

import assert from "node:assert/strict";
import { test } from "node:test";

import { openConsole, setUp, shows } from "./harness.js";

const shared = setUp();

async function openChannels(page) {
  await openConsole(page, shared.link);
  await page.click("#show-channels");
}

async function subscribe(page, patterns) {
  await page.fill("#patterns", patterns);
  await page.press("#patterns", "Enter");
  await shows(page, "#subscription", "subscribed");
}

async function publish(page, channel, event, data) {
  await page.fill("#channel", channel);
  await page.fill("#event", event);
  await page.fill("#data", data);
  await page.getByRole("button", { name: "Publish" }).click();
  await shows(page, "#published", /^published as ./);
}

/** The events that are shown: channel, name and data of each. */
const received = async (page) =>
  (await page.locator("#received .data").allTextContents()).map((text) => {
    const { channel, event, data } = JSON.parse(text);
    return [channel, event, data];
  });

test("what one page publishes another receives, by pattern", async () => {
  const { page, newContext } = shared;
  await openChannels(page);
  await subscribe(page, "orders.*, prices");
  const publisher = await (await newContext()).newPage();
  await openChannels(publisher);
  await publish(publisher, "orders.eu", "created", "one\ntwo <b>&");
  await publish(publisher, "elsewhere", "created", "not for it");
  await publish(publisher, "prices", "changed", "1.5");
  await page.locator("#received li").nth(1).waitFor();
  assert.deepEqual(await received(page), [
    ["orders.eu", "created", "one\ntwo <b>&"],
    ["prices", "changed", "1.5"],
  ]);
  await page.click("#unsubscribe");
  await shows(page, "#subscription", "not subscribed");
});

test("who is on a channel can be looked up", async () => {
  const { page } = shared;
  await openChannels(page);
  await subscribe(page, "room");
  await page.fill("#presence-channel", "room");
  await page.press("#presence-channel", "Enter");
  await page.locator("#presence").waitFor();
  const found = JSON.parse(await page.textContent("#presence"));
  assert.equal(found.channel, "room");
  await page.click("#unsubscribe");
});

test("a subscription that is refused says so", async () => {
  const { page } = shared;
  await openChannels(page);
  await page.fill("#patterns", "a\u0000b");
  await page.press("#patterns", "Enter");
  await page.locator("#alert").waitFor();
  await shows(page, "#subscription", "not subscribed");
});
