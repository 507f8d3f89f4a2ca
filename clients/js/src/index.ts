// The client of Streamgate: streams that resume, and channels.

export { publish, type Publication } from "./channels.js";
export { type ChatOptions, ChatStream, followStream, type FollowOptions, streamChat } from "./chat.js";
export type { Connection, Credential } from "./connection.js";
export { ConnectionLostError, PositionGoneError, ResponseError, StreamEndError } from "./errors.js";
export type { EventSourceConstructor, EventSourceLike } from "./event_source.js";
export { endOf, type Format, type StreamEnd, textOf, texts } from "./format.js";
export type { ConnectionStatus, ResumeOptions, Transport } from "./resume.js";
export { EventStreamParser, type ServerSentEvent } from "./sse.js";
export {
  cancel,
  createTicket,
  listStreams,
  share,
  type Share,
  type ShareOptions,
  type StreamObject,
  type Ticket,
  type TicketOptions,
} from "./streams.js";
export { type ChannelEvent, type Listener, subscribe, type SubscribeOptions, Subscription } from "./subscribe.js";
