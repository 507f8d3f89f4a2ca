// The AI SDK's `useChat({ resume: true })`: a page that is opened while an answer is generated shows all of it. The
// application's own server, which begins the generation, is the test itself. Answers take seconds, so that they are not over
// when a busy machine opens the page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { createElement, Fragment, useEffect } from "react";
import { create } from "react-test-renderer";

import { GATEWAY, KEY, stats, tokens } from "./shared.js";

const authorization = `Bearer ${KEY}`;
const headers = { authorization, "content-type": "application/json" };

/** Begins an answer in a chat, as an application's server does, and leaves it to the gateway. */
async function begin(chat, program) {
  const body = { model: `sim-openai-chat/${program}`, stream: true, messages: [{ role: "user", content: "x" }] };
  const response = await fetch(`${GATEWAY}/v1/chat/completions`, {
    method: "POST",
    headers: { ...headers, "streamgate-stream": "resumable", "streamgate-chat": chat },
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 200);
  await response.body.cancel();
}

/** A page with the hook. Its requests of the gateway are counted by status. */
function open(chat) {
  const page = { statuses: [], hook: undefined };
  const transport = new DefaultChatTransport({
    prepareReconnectToStreamRequest: ({ id }) => ({
      api: `${GATEWAY}/v1/chats/${id}/stream`,
      headers: { authorization },
    }),
    fetch: async (url, options) => {
      const response = await fetch(url, options);
      page.statuses.push(response.status);
      page.look?.();
      return response;
    },
  });
  function Chat() {
    const hook = useChat({ id: chat, resume: true, transport, onError: (error) => (page.error = error) });
    useEffect(() => {
      page.hook = hook;
      page.look?.();
    });
    return null;
  }
  const root = create(createElement(Fragment, null, createElement(Chat)));
  page.text = () => page.hook?.messages.flatMap(({ parts }) => parts.map((part) => part.text ?? "")).join("") ?? "";
  page.close = () => root.unmount();
  /** Waits until it shows something, or until nothing more can come. */
  page.until = (holds) =>
    new Promise((resolve) => {
      const isOver = () => page.error !== undefined || page.statuses.includes(204);
      page.look = () => (isOver() || holds(page)) && resolve();
      page.look();
    });
  return page;
}

const isDone = ({ statuses, hook }) =>
  statuses.length > 0 && hook?.status === "ready" && hook.messages.length > 0;

test("useChat: a page that is opened in the middle of an answer shows all of it", async () => {
  const before = await stats();
  await begin("middle", "n300-i25000");
  const page = open("middle");
  await page.until(({ text }) => text().includes("t5 "));
  assert.deepEqual([page.statuses, page.error, page.hook.status], [[200], undefined, "streaming"]);
  // A reload: the first page goes, another one comes.
  page.close();
  const again = open("middle");
  await again.until(isDone);
  assert.deepEqual([again.statuses, again.error], [[200], undefined]);
  assert.equal(again.text(), tokens(300));
  assert.equal(again.hook.messages.length, 1);
  assert.equal(again.hook.messages[0].role, "assistant");
  again.close();
  assert.equal((await stats()).requests, before.requests + 1);
});

test("useChat: two pages show the same answer, and its reasoning and calls", async () => {
  await begin("two", "think100-tools2-i40000");
  const pages = [open("two"), open("two")];
  for (const page of pages) {
    await page.until(isDone);
    assert.deepEqual([page.statuses, page.error], [[200], undefined]);
  }
  const [one, other] = pages.map((page) => page.hook.messages[0].parts);
  assert.deepEqual(one, other);
  const kinds = one.map(({ type }) => type);
  assert.ok(kinds.includes("reasoning") && kinds.filter((kind) => /tool/.test(kind)).length === 2, kinds.join());
  for (const page of pages) page.close();
});

test("useChat: without an answer under way there is nothing to resume", async () => {
  await begin("over", "n3");
  const path = `${GATEWAY}/v1/chats/over/stream`;
  while ((await fetch(path, { headers }).then((response) => response.text().then(() => response.status))) !== 204);
  for (const chat of ["over", "never"]) {
    const page = open(chat);
    await page.until(({ statuses, hook }) => statuses.length > 0 && hook?.status === "ready");
    assert.deepEqual(page.statuses, [204]);
    assert.deepEqual([page.error, page.text()], [undefined, ""]);
    page.close();
  }
});

test("useChat: an answer that fails is an error, with the text before it", async () => {
  await begin("fails", "n300-i20000-err250");
  const page = open("fails");
  await page.until(() => false);
  assert.equal(page.hook.status, "error");
  assert.ok(page.text().startsWith("t0 t1 "), page.text());
  page.close();
});
