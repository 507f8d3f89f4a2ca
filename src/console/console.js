// Console: chat, streams and channels. No text of a model, a caller or a publisher must become markup.

import { ResponseError, Session, credential, send } from "./console-session.js";

const $ = (id) => document.getElementById(id);

/** The time between two changes of what is shown, in milliseconds. */
const FRAME = 50;
/** The most rows of a list of events. */
const ROWS = 400;

// --- what is shown ---

/** An element with a class and a text. */
function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Tells readers of the screen, who do not see the page change: states and whole answers, never single tokens. */
const announce = (text) => ($("status").textContent = text);

function fail(error) {
  $("alert").hidden = error === undefined;
  $("alert").textContent = error === undefined ? "" : String(error?.message ?? error);
}

/** A list of events that follows its end, unless its reader has scrolled up. */
function row(list, ...parts) {
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  const item = element("li");
  for (const [className, text] of parts) item.append(element("span", className, text));
  list.append(item);
  while (list.children.length > ROWS) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

const mark = (list, text) => row(list, ["mark", text]);
const showEvent = (list, { id, name, data }) =>
  row(list, ["id", id ? `${id} ` : ""], ["name", name === "message" ? "" : `${name} `], ["data", data]);

function show(view) {
  for (const name of ["chat", "channels"]) {
    $(name).hidden = name !== view;
    if (name === view) $(`show-${name}`).setAttribute("aria-current", "page");
    else $(`show-${name}`).removeAttribute("aria-current");
  }
}

// --- one stream ---

/** The parts of an answer that an event brings: of OpenAI's chat stream, or of Streamgate's own events. */
function read({ name, data }) {
  if (data === "[DONE]") return { end: { state: "complete" } };
  let body;
  try {
    body = JSON.parse(data);
  } catch {
    return {};
  }
  if (name === "end") return { end: { state: body.state, message: body.error?.message } };
  if (body.error) return { end: { state: "error", message: body.error.message ?? String(body.error) } };
  if (name === "text" || name === "reasoning") return { [name]: body.text };
  if (name === "usage") return { tokens: body.output_tokens };
  const delta = body.choices?.[0]?.delta ?? {};
  const reasoning = delta.reasoning_content ?? delta.reasoning;
  return { text: delta.content, reasoning, tokens: body.usage?.completion_tokens };
}

/** A message of the conversation. */
class Message {
  text = "";
  reasoning = "";
  #article = element("article", "message");
  #reasoning = element("p", "reasoning");
  #text = element("p");

  constructor(role, author, text = "") {
    this.text = text;
    this.#article.classList.add(role);
    this.#article.append(element("p", "author", author), this.#reasoning, this.#text);
    $("messages").append(this.#article);
    this.show();
  }

  show() {
    this.#reasoning.textContent = this.reasoning;
    this.#text.textContent = this.text;
    $("messages").scrollTop = $("messages").scrollHeight;
  }

  fail(message) {
    this.#article.append(element("p", "failure", message));
    this.show();
  }
}

/** The stream that the page shows: its figures, its events, its end. */
class Stream {
  session = new Session();
  id = "";
  over = false;
  state = "connecting";
  #message;
  #began = performance.now();
  #first = 0;
  #last = 0;
  #tokens = 0;
  /** The count is the upstream's, and no longer that of the events. */
  #counted = false;
  #events = [];
  #timer = 0;

  constructor(message) {
    this.#message = message;
  }

  found(id) {
    this.id = id ?? "";
    this.#show();
  }

  /** Follows it to its end. `open` sends the first request, and those that resume. */
  async run(open) {
    this.#show();
    announce("Generating");
    try {
      await this.session.run({
        open,
        take: (event) => this.#take(event),
        canResume: () => this.id !== "",
        broken: (cut, delay) => this.#broken(cut, delay),
      });
      if (this.session.closed) this.state = "left";
      // The server had no more: without an event for it, that is the end.
      else if (["connecting", "streaming", "reconnecting"].includes(this.state)) this.state = "complete";
    } catch (error) {
      this.state = "error";
      this.#message.fail(error.message);
    }
    this.over = true;
    this.#show();
    if (current !== this) return;
    // A vendor's format shows a cancelled generation as an error: the list has the state.
    const ended = (await list()).find(({ id, state }) => id === this.id && state !== "streaming");
    this.state = ended?.state ?? this.state;
    this.#show();
    announce(this.state === "complete" ? `Answer complete: ${this.#message.text}` : `Answer ended: ${this.state}`);
  }

  #take(event) {
    const { text, reasoning, tokens, end } = read(event);
    this.#events.push(event);
    this.state = end?.state ?? "streaming";
    this.#message.text += text ?? "";
    this.#message.reasoning += reasoning ?? "";
    if (text || reasoning) {
      this.#last = performance.now();
      this.#first ||= this.#last;
      if (!this.#counted) this.#tokens += 1;
    }
    if (Number.isInteger(tokens)) [this.#tokens, this.#counted] = [tokens, true];
    if (end?.message) this.#message.fail(end.message);
    this.#timer ||= setTimeout(() => this.#show(), FRAME);
    return end !== undefined;
  }

  #broken(cut, delay) {
    this.state = "reconnecting";
    this.#show();
    const after = this.session.position || "no event";
    if (current === this) mark($("raw"), `connection ${cut ? "cut" : "lost"} after ${after}; resuming in ${delay} ms`);
    announce(cut ? "Connection cut, resuming" : "Connection lost, resuming");
  }

  #show() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#message.show();
    if (current !== this) return;
    for (const event of this.#events.splice(0)) showEvent($("raw"), event);
    const seconds = (this.#last - this.#first) / 1000;
    const about = this.#counted ? "" : "≈ ";
    $("state").textContent = this.state;
    $("ttft").textContent = this.#first ? `${Math.round(this.#first - this.#began)} ms` : "–";
    $("tokens").textContent = this.#tokens ? `${about}${this.#tokens}` : "–";
    $("rate").textContent = seconds > 0 ? `${about}${(this.#tokens / seconds).toFixed(1)}` : "–";
    $("connections").textContent = String(this.session.connections || "–");
    $("stream-id").textContent = this.id || "not resumable";
    $("position").textContent = this.session.position || "–";
    $("cut").disabled = this.over || this.id === "";
    $("cancel").disabled = this.over;
    $("second").hidden = this.id === "";
    $("second").href = `#stream=${encodeURIComponent(this.id)}`;
  }
}

/** The stream that is shown. */
let current;

/** Shows another stream, and leaves the one before: it goes on at the server. */
function change(message) {
  current?.session.close();
  $("raw").replaceChildren();
  current = new Stream(message);
  return current;
}

const streamPath = (id) => `/v1/streams/${encodeURIComponent(id)}`;

/** Headers of a request for what follows a position. */
const after = (position) => ({ accept: "text/event-stream", ...(position && { "last-event-id": position }) });

function followStream(id) {
  show("chat");
  const stream = change(new Message("assistant", `stream ${id}`));
  stream.found(id);
  return stream.run(({ position, signal }) =>
    send(`${streamPath(id)}?format=events`, { signal, headers: after(position) }),
  );
}

// --- chat ---

let conversation = [];

async function chat(prompt) {
  const model = $("model").value;
  const turns = conversation;
  new Message("user", "you", prompt);
  turns.push({ role: "user", content: prompt });
  const body = { model, stream: true, stream_options: { include_usage: true }, messages: turns };
  const key = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("-");
  const message = new Message("assistant", model);
  const stream = change(message);
  await stream.run(async ({ position, signal }) => {
    if (stream.id !== "") return send(streamPath(stream.id), { signal, headers: after(position) });
    const headers = { "streamgate-stream": "resumable", "idempotency-key": key };
    const response = await send("/v1/chat/completions", { method: "POST", headers, body, signal });
    stream.found(response.headers.get("streamgate-stream-id"));
    return response;
  });
  if (message.text !== "") turns.push({ role: "assistant", content: message.text });
  else turns.pop();
}

async function models() {
  const { data } = await (await send("/v1/models")).json();
  const options = data.map(({ id }) => Object.assign(element("option"), { value: id }));
  $("models").replaceChildren(...options);
  $("model").value ||= data[0]?.id ?? "";
}

// --- the caller's streams ---

const cancelStream = (id) => send(`${streamPath(id)}/cancel`, { method: "POST" });

function button(text, id, act) {
  const made = element("button", "", text);
  made.type = "button";
  made.setAttribute("aria-label", `${text} stream ${id}`);
  made.addEventListener("click", guarded(act));
  return made;
}

/** Lists the streams, and returns them. */
async function list() {
  let data = [];
  try {
    ({ data } = await (await send("/v1/streams")).json());
  } catch (error) {
    if (error.status !== 404) throw error;
    $("streams-empty").textContent = "This gateway keeps no streams.";
  }
  $("streams-empty").hidden = data.length > 0;
  // The newest first.
  const rows = data.toReversed().map(({ id, model, state, events, viewers }) => {
    const actions = element("td", "row");
    actions.append(button("Follow", id, () => followStream(id)));
    if (state === "streaming") actions.append(button("Cancel", id, () => cancelStream(id).then(list)));
    const line = element("tr");
    const cells = [model, state, events, viewers].map((text) => element("td", "", String(text ?? "")));
    line.append(element("td", "code", id), ...cells, actions);
    return line;
  });
  $("streams").replaceChildren(...rows);
  return data;
}

// --- channels ---

let subscription;

async function subscribe() {
  subscription?.close();
  const session = new Session();
  subscription = session;
  const names = (id) => $(id).value.split(",").map((name) => name.trim()).filter((name) => name !== "");
  const query = new URLSearchParams([["format", "events"], ...names("patterns").map((name) => ["channel", name])]);
  if (names("types").length > 0) query.set("types", names("types").join(","));
  const rewind = Number($("rewind").value) > 0 ? `&rewind=${Number($("rewind").value)}` : "";
  const state = (text) => {
    if (subscription !== session) return;
    $("subscription").textContent = text;
    $("unsubscribe").disabled = session.closed;
    announce(`Channels: ${text}`);
  };
  state("connecting");
  try {
    await session.run({
      open: async ({ position, signal }) => {
        const path = `/v1/events?${query}${position ? "" : rewind}`;
        const response = await send(path, { signal, headers: after(position) });
        // If nothing arrives before the next connection, that one begins here. A rewind is repeated then.
        if (rewind === "") session.position ||= response.headers.get("stream-next-offset") ?? "";
        state("subscribed");
        return response;
      },
      take: (event) => {
        const lost = "events were gone before they could be read; the list goes on after them";
        if (event.name === "reset") mark($("received"), lost);
        else if (event.name !== "control") showEvent($("received"), event);
        return false;
      },
      canResume: () => true,
      broken: (_, delay) => {
        mark($("received"), `connection lost after ${session.position || "no event"}; resuming in ${delay} ms`);
        state("reconnecting");
      },
    });
  } finally {
    session.close();
    state("not subscribed");
  }
}

const channelPath = (channel) => `/v1/channels/${encodeURIComponent(channel.trim())}`;

async function publish() {
  const name = $("event").value.trim();
  const body = { data: $("data").value, ...(name && { event: name }) };
  const { id } = await (await send(channelPath($("channel").value), { method: "POST", body })).json();
  $("published").textContent = `published as ${id}`;
  announce("Published");
}

async function presence() {
  const found = await (await send(channelPath($("presence-channel").value))).json();
  $("presence").textContent = JSON.stringify(found, null, 2);
  $("presence").hidden = false;
}

// --- key, address, events of the page ---

/** A handler whose errors are shown. */
const guarded = (act) => async (event) => {
  event?.preventDefault();
  fail();
  try {
    await act(event);
  } catch (error) {
    fail(error);
  }
};

async function useKey(key) {
  credential.key = key;
  try {
    await models();
  } catch (error) {
    if (error.status !== 401) throw error;
    forget();
    throw new Error("this key was not accepted");
  }
  sessionStorage.setItem("key", key);
  $("key").value = "";
  $("key-form").hidden = true;
  $("key-set").hidden = false;
  $("prompt").focus();
  const { stream } = fragment();
  await (stream ? followStream(stream) : list());
}

function forget() {
  credential.key = "";
  sessionStorage.removeItem("key");
  current?.session.close();
  subscription?.close();
  $("key-form").hidden = false;
  $("key-set").hidden = true;
  $("key").focus();
}

/** `#key=KEY&stream=ID`, each of them optional. */
const fragment = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B")));

/** Takes a key out of the address: it stays neither there nor in the tab's history. */
async function start() {
  const { key, stream } = fragment();
  if (key !== undefined) {
    const rest = stream === undefined ? "" : `#stream=${encodeURIComponent(stream)}`;
    history.replaceState(null, "", location.pathname + location.search + rest);
  }
  const known = key || credential.key;
  if (known) await useKey(known);
  else $("key").focus();
}

const on = (id, event, act) => $(id).addEventListener(event, guarded(act));
on("show-chat", "click", () => show("chat"));
on("show-channels", "click", () => show("channels"));
on("key-form", "submit", () => useKey($("key").value.trim()));
on("forget", "click", forget);
on("refresh", "click", list);
on("subscribe-form", "submit", subscribe);
on("unsubscribe", "click", () => subscription?.close());
on("publish-form", "submit", publish);
on("presence-form", "submit", presence);
on("cut", "click", () => current?.session.cut());
on("cancel", "click", () => (current.id === "" ? current.session.close() : cancelStream(current.id)));
on("clear", "click", () => {
  conversation = [];
  $("messages").replaceChildren();
  $("prompt").focus();
});
on("chat-form", "submit", async () => {
  if (current !== undefined && !current.over) throw new Error("an answer is in progress: cancel it, or wait for its end");
  const prompt = $("prompt").value;
  $("prompt").value = "";
  await chat(prompt);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("chat-form").requestSubmit();
});
// Not for the link that skips to the content.
addEventListener("hashchange", () => "key" in fragment() || "stream" in fragment() ? guarded(start)() : undefined);
void guarded(start)();
