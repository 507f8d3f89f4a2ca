// The page by itself: key, chat, figures, keyboard, screen readers, colours, sizes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ANSWER, ask, openConsole, setUp, shows, startGateway, tokens } from "./harness.js";

const shared = setUp();

test("the link of the first run carries the key, which leaves the address at once", async () => {
  const { page, link, url, key } = shared;
  await openConsole(page, link);
  assert.equal(page.url(), `${url}/`);
  assert.equal(await page.evaluate(() => sessionStorage.getItem("key")), key);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  assert.equal(await page.evaluate(() => document.cookie), "");
  assert.equal(await page.inputValue("#model"), "sim");
  // A reload needs no key, another tab does.
  await page.reload();
  await page.locator("#key-set").waitFor();
  const other = await shared.context.newPage();
  await other.goto(url);
  await other.locator("#key-form").waitFor();
  assert.equal(await other.locator("#key-set").isVisible(), false);
});

test("a key is asked for, and a wrong one is refused", async () => {
  const { page, url, key } = shared;
  await page.goto(url);
  assert.equal(await page.evaluate(() => document.activeElement.id), "key");
  await page.fill("#key", "sg-wrong");
  await page.press("#key", "Enter");
  await shows(page, "#alert", "this key was not accepted");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.fill("#key", key);
  await page.press("#key", "Enter");
  await page.locator("#key-set").waitFor();
  assert.equal(await page.inputValue("#key"), "");
  assert.equal(await page.locator("#alert").isVisible(), false);
  await page.click("#forget");
  await page.locator("#key-form").waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("an answer arrives token by token, with its figures and its events beside it", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  await ask(page, "sim/n60-i20000");
  await shows(page, ANSWER, /^t0 (t1 )?/);
  await shows(page, "#state", "streaming");
  await shows(page, "#rate", /^≈ \d/);
  assert.ok((await page.textContent(ANSWER)).length < tokens(60).length, "the text is shown before its end");
  await shows(page, "#state", "complete");
  assert.equal(await page.textContent(ANSWER), tokens(60));
  await shows(page, "#ttft", /^\d+ ms$/);
  // The upstream's own count.
  await shows(page, "#tokens", "60");
  await shows(page, "#rate", /^\d+\.\d$/);
  const raw = await page.locator("#raw .data").allTextContents();
  assert.equal(raw.at(-1), "[DONE]");
  assert.equal(raw.map((data) => (data === "[DONE]" ? "" : (JSON.parse(data).choices[0]?.delta.content ?? ""))).join(""), tokens(60));
});

test("a conversation goes on, and begins anew", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  const bodies = [];
  page.on("request", (request) => request.method() === "POST" && bodies.push(request.postDataJSON()));
  for (const prompt of ["one", "two"]) {
    await ask(page, "sim/n3", prompt);
    await shows(page, "#state", "complete");
    await shows(page, ANSWER, tokens(3));
  }
  await page.click("#clear");
  await ask(page, "sim/n3", "three");
  await shows(page, ANSWER, tokens(3));
  const turn = (role, content) => ({ role, content });
  assert.deepEqual(bodies.map(({ messages }) => messages), [
    [turn("user", "one")],
    [turn("user", "one"), turn("assistant", tokens(3)), turn("user", "two")],
    [turn("user", "three")],
  ]);
});

test("errors before and within an answer are shown", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  await ask(page, "nobody/m");
  await shows(page, ".message:last-child .failure", /nobody/);
  await shows(page, "#state", "error");
  await ask(page, "sim/n9-err5");
  await shows(page, "#state", "error");
  assert.equal(await page.textContent(ANSWER), tokens(5));
  assert.notEqual(await page.textContent(".message:last-child .failure"), "");
});

test("text is never markup", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  const markup = '<img src="x" onerror="document.title = 1"><script>document.title = 2</script>';
  await ask(page, "sim/n1", markup);
  await shows(page, "#state", "complete");
  assert.equal(await page.textContent(".message.user p:last-child"), markup);
  assert.equal(await page.locator("#messages img, #messages script").count(), 0);
  assert.equal(await page.title(), "Streamgate");
});

test("everything can be reached and used by keyboard, with a focus that is seen", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  await page.focus("#show-chat");
  const reached = [];
  for (let count = 0; count < 40; count += 1) {
    await page.keyboard.press(count === 0 ? "Shift+Tab" : "Tab");
    const [name, outline] = await page.evaluate(() => {
      const { id, className, tagName } = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return [id || className || tagName, outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
    });
    if (name === "BODY" || name === reached[0]) break;
    assert.ok(outline, `${name} has no visible focus`);
    reached.push(name);
  }
  const fixed = [
    "skip", "show-chat", "show-channels", "forget", "clear", "messages", "model", "prompt", "send", "raw", "refresh", "scroll",
  ];
  assert.deepEqual(reached.slice(0, fixed.length), fixed);
  // The streams of the tests before.
  assert.ok(reached.slice(fixed.length).every((name) => name === "BUTTON"), String(reached));
  await page.focus("#show-channels");
  await page.keyboard.press("Space");
  assert.equal(await page.locator("#channels").isVisible(), true);
  assert.equal(await page.locator("#chat").isVisible(), false);
  assert.equal(await page.getAttribute("#show-channels", "aria-current"), "page");
  await page.focus("#show-chat");
  await page.keyboard.press("Enter");
  await page.focus("#prompt");
  await page.keyboard.type("one");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  assert.equal(await page.inputValue("#prompt"), "one\ntwo");
  // The link that skips to the content changes the address, and nothing else.
  await page.focus(".skip");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  assert.equal(await page.inputValue("#prompt"), "one\ntwo");
});

test("every field and button has a name", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  for (const view of ["Chat", "Channels"]) {
    await page.getByRole("button", { name: view, exact: true }).click();
    const names = await page.locator("input:visible, textarea:visible, button:visible, a:visible").evaluateAll((found) =>
      found.map((element) => element.labels?.[0]?.textContent.trim() || element.getAttribute("aria-label") || element.textContent.trim()),
    );
    assert.ok(names.length > 5 && names.every((name) => name !== ""), JSON.stringify(names));
  }
});

test("a screen reader hears of states and whole answers, not of tokens", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  await page.evaluate(() => {
    window.heard = [];
    const live = document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]");
    const watch = new MutationObserver((changes) => window.heard.push(changes[0].target.textContent));
    for (const region of live) watch.observe(region, { childList: true, characterData: true, subtree: true });
  });
  await ask(page, "sim/n200-i2000");
  await shows(page, "#state", "complete");
  // The announcement follows the state, and the observer hears of it a moment later.
  await page.waitForFunction(() => window.heard.filter((text) => text !== "").length > 1);
  const heard = (await page.evaluate(() => window.heard)).filter((text) => text !== "");
  assert.deepEqual(heard, ["Generating", `Answer complete: ${tokens(200)}`]);
});

/** The contrast of two colours (WCAG 2.2, 1.4.3), as `rgb(...)`. */
function contrast(first, second) {
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [dark, light] = [luminance(first), luminance(second)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

test("light and dark follow the reader, and both can be read", async () => {
  const grounds = [];
  for (const colorScheme of ["light", "dark"]) {
    const page = await (await shared.newContext({ colorScheme })).newPage();
    await openConsole(page, shared.link);
    await ask(page, "nobody/m");
    await shows(page, "#state", "error");
    await ask(page, "sim/n3");
    await shows(page, "#state", "complete");
    const pairs = await page.locator("h1, h2, h3, label, button:enabled, dt, dd, small, th, .message p, .raw span, input").evaluateAll((found) =>
      found.filter((element) => element.checkVisibility() && (element.textContent || element.value)).map((element) => {
        let ground = element;
        while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
        const name = `${element.tagName} ${element.id || element.className}`;
        return [name, getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
      }),
    );
    assert.ok(pairs.length > 20);
    for (const [name, ink, ground] of pairs) {
      assert.ok(contrast(ink, ground) >= 4.5, `${colorScheme}: ${name} has ${ink} on ${ground}, ${contrast(ink, ground)}`);
    }
    grounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
  }
  assert.ok(contrast(...grounds) > 10, String(grounds));
});

test("it fits a phone and a wide screen", async () => {
  for (const [width, height] of [[320, 640], [390, 844], [1024, 768], [1920, 1080]]) {
    const page = await (await shared.newContext({ viewport: { width, height } })).newPage();
    await openConsole(page, shared.link);
    await ask(page, "sim/n200");
    await shows(page, "#state", "complete");
    for (const list of ["#raw", "#messages"]) {
      const { height } = await page.locator(list).boundingBox();
      assert.ok(height < 600, `${width} x ${height}: ${list} grows with its content, to ${height}`);
    }
    for (const view of ["#show-channels", "#show-chat"]) {
      await page.click(view);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wider, 0, `${width} x ${height}, ${view}`);
    }
  }
});

test("its policy blocks what is not its own", async () => {
  const { page, link } = shared;
  await openConsole(page, link);
  const blocked = await page.evaluate(async () => {
    const violations = [];
    const all = new Promise((resolve) =>
      addEventListener("securitypolicyviolation", ({ effectiveDirective }) => violations.push(effectiveDirective) === 3 && resolve()),
    );
    const script = document.createElement("script");
    script.textContent = "window.inline = true";
    document.head.append(script);
    const style = document.createElement("style");
    style.textContent = "body { color: red }";
    document.head.append(style);
    await fetch("http://127.0.0.1:9/").catch(() => {});
    await all;
    return [violations.sort(), window.inline];
  });
  assert.deepEqual(blocked, [["connect-src", "script-src-elem", "style-src-elem"], undefined]);
  // These were provoked.
  shared.problems = shared.problems.filter((text) => !/Content Security Policy/.test(text));
});

test("no other page can frame it", async () => {
  const { page, url } = shared;
  const framed = await page.goto(`${url}/v1/models`);
  assert.equal(framed.status(), 401);
  await page.evaluate((url) => {
    const frame = document.createElement("iframe");
    frame.src = `${url}/`;
    document.body.append(frame);
    return new Promise((resolve) => (frame.onload = resolve));
  }, url);
  assert.equal(await page.frames()[1].locator("#chat").count(), 0);
  shared.problems = shared.problems.filter((text) => !/frame-ancestors|Framing/.test(text));
});

test("switched off, a browser gets what Ollama's clients get", async () => {
  const gateway = await startGateway(
    'server: { listen: "127.0.0.1:0", console: false }\nproviders: { a: { dialect: openai-chat, base_url: "http://127.0.0.1:9/v1", api_key: x } }\n' +
      "auth: { anonymous: { from: [127.0.0.0/8] } }\n",
  );
  try {
    await shared.page.goto(gateway.url);
    assert.equal(await shared.page.textContent("body"), "Ollama is running");
    assert.equal((await shared.page.goto(`${gateway.url}/console.js`)).status(), 404);
  } finally {
    await gateway.stop();
  }
});
