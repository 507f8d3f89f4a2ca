// Streams that last, as a reader sees them: a cut connection, a second tab, a reload, a cancelled generation.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ANSWER, ask, openConsole, setUp, shows, tokens } from "./harness.js";

const shared = setUp();

/** The positions of the events that are shown; events of the connection itself have none. */
const positions = async (page) => {
  const texts = await page.locator("#raw .id").allTextContents();
  return texts.map((text) => text.trim()).filter((text) => text !== "");
};

/** A list of positions of one epoch, each after the one before: nothing was skipped, and nothing came twice. */
function assertConsecutive(list) {
  const [epoch] = list[0].split("_");
  const numbers = list.map((position) => {
    assert.equal(position.split("_")[0], epoch);
    return Number(position.split("_")[1]);
  });
  assert.deepEqual(numbers, numbers.map((_, index) => numbers[0] + index));
}

test("a connection that is cut is seen to resume at its position, and nothing is lost", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  await ask(page, "sim/n120-i50000");
  await shows(page, "#position", /^[A-Za-z0-9]{12}_\d{10}$/);
  for (let cut = 1; cut <= 2; cut += 1) {
    await shows(page, "#state", "streaming");
    await page.click("#cut");
    await shows(page, "#state", "reconnecting");
    await shows(page, "#connections", String(cut + 1));
  }
  await shows(page, "#state", "complete");
  assert.equal(await page.textContent(ANSWER), tokens(120));
  const marks = await page.locator("#raw .mark").allTextContents();
  assert.equal(marks.length, 2);
  for (const mark of marks) assert.match(mark, /cut after [A-Za-z0-9]{12}_\d{10}; resuming in 1500 ms/);
  assertConsecutive(await positions(page));
});

test("a second tab shows the same stream, from its start to its end", async () => {
  const { page, link, context } = shared;
  await openConsole(page, link);
  await ask(page, "sim/n100-i40000");
  await shows(page, ANSWER, /t20 /);
  const opened = context.waitForEvent("page");
  await page.click("#second");
  const second = await opened;
  await second.locator("#key-set").waitFor();
  const id = await page.textContent("#stream-id");
  assert.equal(new URL(second.url()).hash, `#stream=${id}`);
  await shows(second, ANSWER, /t20 /);
  for (const tab of [page, second]) {
    await shows(tab, "#state", "complete");
    assert.equal(await tab.textContent(ANSWER), tokens(100));
  }
  assertConsecutive(await positions(second));
});

test("a reload in the middle of an answer follows it again", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  await ask(page, "sim/n80-i40000");
  await shows(page, ANSWER, /t10 /);
  const id = await page.textContent("#stream-id");
  await page.goto(`${shared.url}/#stream=${id}`);
  await page.reload();
  await shows(page, "#state", "complete");
  assert.equal(await page.textContent(ANSWER), tokens(80));
});

test("a stream is listed, followed from the list, and cancelled for everybody", async () => {
  const { page, link, newContext } = shared;
  await openConsole(page, link);
  await ask(page, "sim/n10000-i50000");
  await shows(page, ANSWER, /t5 /);
  const id = await page.textContent("#stream-id");
  const other = await (await newContext()).newPage();
  await openConsole(other, link);
  const row = other.locator("#streams tr", { hasText: id });
  await row.getByRole("button", { name: `Follow stream ${id}` }).click();
  await shows(other, ANSWER, /t5 /);
  await page.click("#cancel");
  for (const tab of [page, other]) await shows(tab, "#state", "cancelled");
  await other.click("#refresh");
  await other.locator("#streams tr", { hasText: id }).getByText("cancelled").waitFor();
  assert.equal(await row.getByRole("button", { name: `Cancel stream ${id}` }).count(), 0);
});

test("a stream that is not there is an error, and shows nothing of it", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  await page.goto(`${shared.url}/#stream=AAAAAAAAAAAAAAAAAAAAAAAA`);
  await shows(page, ".message:last-child .failure", /^404/);
  await shows(page, "#state", "error");
});
