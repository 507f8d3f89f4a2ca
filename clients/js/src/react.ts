// React hooks over streams and channels. A component that is unmounted must leave no connection behind.

import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { type ChatOptions, type ChatStream, type FollowOptions, followStream, streamChat } from "./chat.js";
import type { Connection } from "./connection.js";
import { StreamEndError } from "./errors.js";
import type { ConnectionStatus, ResumeOptions } from "./resume.js";
import { type ChannelEvent, subscribe, type SubscribeOptions } from "./subscribe.js";

/** The state of a hook. */
export type HookStatus = "idle" | "connecting" | "streaming" | "reconnecting" | "done" | "cancelled" | "error";

/** Options of `useStream`. */
export interface UseStreamOptions extends Connection, Omit<ResumeOptions, "signal"> {
  /** A stream to follow from the moment that the component is mounted, such as one of before a page was reloaded. */
  id?: string | undefined;
}

/** A request for `start`. */
export type StartOptions = Omit<ChatOptions, keyof Connection | keyof ResumeOptions>;

/** A stream of `useStream`. */
export interface UseStreamResult {
  /** The text so far. */
  text: string;
  status: HookStatus;
  error: unknown;
  /** The stream's id, once it is known. */
  id: string | undefined;
  /** Starts a generation; the one before is left. */
  start(request: StartOptions): void;
  /** Follows a stream from its start; the one before is left. */
  follow(id: string): void;
  /** Cancels the generation. */
  cancel(): Promise<void>;
}

interface StreamState {
  text: string;
  status: HookStatus;
  error: unknown;
  id: string | undefined;
}

const IDLE: StreamState = { text: "", status: "idle", error: undefined, id: undefined };

/** A generation: started by the component, or followed. */
export function useStream(options: UseStreamOptions): UseStreamResult {
  const [state, setState] = useState(IDLE);
  const latest = useLatest(options);
  const active = useRef<ChatStream | undefined>(undefined);

  const run = useCallback((open: (resume: ResumeOptions) => ChatStream) => {
    active.current?.close();
    // A stream that is not the active one any more changes nothing.
    const update = (change: (state: StreamState) => StreamState) => {
      if (active.current === stream) setState(change);
    };
    const onStatus = (status: ConnectionStatus) => {
      latest.current.onStatus?.(status);
      update((state) => ({ ...state, id: stream.id, status: hookStatus(status, state.status) }));
    };
    const stream: ChatStream = open({ ...latest.current, onStatus });
    active.current = stream;
    setState({ ...IDLE, status: "connecting", id: stream.id });
    void consume(stream, update);
  }, [latest]);

  const start = useCallback((request: StartOptions) => {
    run((resume) => streamChat({ ...latest.current, ...resume, ...request }));
  }, [latest, run]);
  const follow = useCallback((id: string) => {
    run((resume) => followStream({ ...(latest.current as Connection), ...resume, id } satisfies FollowOptions));
  }, [latest, run]);
  const cancel = useCallback(async () => void (await active.current?.cancel()), []);

  const { id } = options;
  useEffect(() => {
    if (id !== undefined) follow(id);
    return () => {
      active.current?.close();
      active.current = undefined;
    };
  }, [id, follow]);
  return { ...state, start, follow, cancel };
}

async function consume(
  stream: ChatStream,
  update: (change: (state: StreamState) => StreamState) => void,
): Promise<void> {
  try {
    for await (const added of stream.text()) {
      update((state) => ({ ...state, text: state.text + added, status: "streaming", id: stream.id }));
    }
    update((state) => ({ ...state, status: "done" }));
  } catch (error) {
    const cancelled = error instanceof StreamEndError && error.state === "cancelled";
    update((state) => ({ ...state, status: cancelled ? "cancelled" : "error", error: cancelled ? undefined : error }));
  }
}

/** Options of `useChannel`. */
export interface UseChannelOptions extends Omit<SubscribeOptions, "signal"> {
  /** The most events that are kept; 100 by default. */
  keep?: number;
  /** Called for each event. */
  onEvent?: (event: ChannelEvent) => void;
}

/** A subscription of `useChannel`. */
export interface UseChannelResult {
  /** The last events, the newest at the end. */
  events: ChannelEvent[];
  last: ChannelEvent | undefined;
  status: HookStatus;
  error: unknown;
}

/** A subscription to channels and streams, over one connection. It is made again when one of these names changes. */
export function useChannel(options: UseChannelOptions): UseChannelResult {
  const [state, setState] = useState<Omit<UseChannelResult, "last">>({ events: [], status: "idle", error: undefined });
  const latest = useLatest(options);
  const { baseUrl, channels, streams, types, transport } = options;
  const sources = JSON.stringify([String(baseUrl), channels, streams, types, transport]);
  useEffect(() => {
    let active = true;
    const update = (change: (state: Omit<UseChannelResult, "last">) => Omit<UseChannelResult, "last">) => {
      if (active) setState(change);
    };
    const onStatus = (status: ConnectionStatus) => {
      latest.current.onStatus?.(status);
      const next = status.state === "open" ? "streaming" : undefined;
      update((state) => ({ ...state, status: next ?? hookStatus(status, state.status) }));
    };
    setState({ events: [], status: "connecting", error: undefined });
    const subscription = subscribe({ ...latest.current, onStatus });
    subscription.on("*", (event) => {
      if (!active) return;
      latest.current.onEvent?.(event);
      const { keep = 100 } = latest.current;
      update((state) => ({ ...state, events: [...state.events, event].slice(-keep) }));
    });
    void subscription.ended.then((error) => update((state) => ({ ...state, status: error ? "error" : "done", error })));
    return () => {
      active = false;
      subscription.close();
    };
  }, [sources, latest]);
  return useMemo(() => ({ ...state, last: state.events.at(-1) }), [state]);
}

function hookStatus(status: ConnectionStatus, before: HookStatus): HookStatus {
  if (status.state === "waiting") return "reconnecting";
  return status.state === "connecting" && before === "idle" ? "connecting" : before;
}

/** The value of the last render, for callbacks that do not change with it. */
function useLatest<T>(value: T): { readonly current: T } {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}
