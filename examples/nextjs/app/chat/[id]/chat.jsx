"use client";

import { useChat } from "@ai-sdk/react";
import { useState } from "react";

export default function Chat({ id, messages: stored }) {
  const [prompt, setPrompt] = useState("");
  // `resume` asks GET /api/chat/ID/stream when the page opens, and shows the answer that is under way.
  const { messages, sendMessage, status, error } = useChat({ id, messages: stored, resume: true });
  const isBusy = status === "submitted" || status === "streaming";
  const send = (event) => {
    event.preventDefault();
    sendMessage({ text: prompt });
    setPrompt("");
  };
  // The generation runs in the gateway, so that closing the connection does not end it.
  const stop = () => fetch(`/api/chat/${id}/stop`, { method: "POST" });
  return (
    <main>
      {messages.map((message) => (
        <p key={message.id} data-role={message.role}>
          <b>{message.role === "user" ? "You: " : "Model: "}</b>
          <span>{message.parts.map((part) => (part.type === "text" ? part.text : "")).join("")}</span>
        </p>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <form onSubmit={send}>
        <input value={prompt} onChange={(event) => setPrompt(event.target.value)} placeholder="Say something" size="50" />{" "}
        {isBusy ? <button type="button" onClick={stop}>Stop</button> : <button>Send</button>}
      </form>
      <small data-status={status}>{status}</small>
    </main>
  );
}
