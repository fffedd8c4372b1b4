/** A Parley in memory, for tests of whole clients: REST by `fetch`, sockets by `WebSocket`, one conversation of `me` and `you`. */
import type { Conversation, Frame, Message } from "../typescript/src/types.js";

const at = (n: number): string => `2026-11-23T10:00:00.${String(n).padStart(6, "0")}Z`;
const user = (id: string) => ({ id, username: id, displayName: id, avatarUrl: null });

/** A token that claims to live for so many seconds. */
export function token(name: string, seconds = 3600, sub = "me"): string {
  const part = (v: unknown): string => btoa(JSON.stringify(v)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return `${part({ alg: "none" })}.${part({ sub, sid: "s", exp: Math.floor(Date.now() / 1000) + seconds, name })}.x`;
}

export class FakeSocket {
  readyState = 0;
  onopen: ((e: unknown) => void) | null = null;
  onmessage: ((e: unknown) => void) | null = null;
  onclose: ((e: unknown) => void) | null = null;
  onerror: ((e: unknown) => void) | null = null;
  readonly sent: Frame[] = [];

  constructor(readonly server: FakeParley, readonly url: string, readonly protocols: string[]) {
    server.sockets.push(this);
    queueMicrotask(() => server.accept(this));
  }

  get token(): string {
    return this.protocols[1]!.slice("bearer.".length);
  }

  send(data: string): void {
    const frame = JSON.parse(data) as Frame;
    this.sent.push(frame);
    if (!this.server.silent) queueMicrotask(() => this.readyState === 1 && this.server.answer(this, frame));
  }

  /** The server sends. */
  push(type: string, data?: unknown, id?: string): void {
    if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify({ type, ...(id !== undefined && { id }), ...(data !== undefined && { data }) }) });
  }

  close(code = 1000): void {
    this.end(code);
  }

  end(code: number, reason = ""): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

export class FakeParley {
  readonly sockets: FakeSocket[] = [];
  readonly requests: { method: string; path: string; body: any; token: string }[] = [];
  readonly messages: Message[] = [];
  revision = 1;
  lastRead = 0;
  heartbeatSeconds = 25;
  ready: Record<string, unknown> = { epoch: "e1" };
  /** Tokens that are not accepted. */
  readonly refused = new Set<string>();
  /** While set, sockets answer nothing. */
  silent = false;
  /** While set, sockets are closed with this code instead of being accepted. */
  closeWith = 0;
  /** The answer to the next request of a path, instead of the usual. */
  readonly next = new Map<string, { status: number; body: unknown; headers?: Record<string, string> }>();
  /** Frames that get no answer, by type; how many of each. */
  readonly swallow = new Map<string, number>();
  /** Errors for the next frames of a type. */
  readonly errors = new Map<string, object[]>();

  readonly WebSocket = ((server: FakeParley) =>
    class extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(server, url, protocols);
      }
    })(this);

  readonly fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const { pathname, search } = new URL(url);
    const path = pathname.replace(/^\/api/, "");
    const bearer = new Headers(init.headers).get("Authorization")?.slice("Bearer ".length) ?? "";
    this.requests.push({ method: init.method ?? "GET", path: path + search, body: init.body ? JSON.parse(String(init.body)) : undefined, token: bearer });
    await Promise.resolve();
    const special = this.next.get(path);
    if (special) {
      this.next.delete(path);
      return new Response(JSON.stringify(special.body), { status: special.status, headers: special.headers ?? {} });
    }
    if (this.refused.has(bearer)) return Response.json({ code: "unauthorized", status: 401, detail: "no" }, { status: 401 });
    const body = this.rest(path, new URLSearchParams(search));
    return body === undefined ? Response.json({ code: "not_found", status: 404, detail: "no" }, { status: 404 }) : Response.json(body);
  };

  rest(path: string, q: URLSearchParams): unknown {
    if (path === "/auth/login") return { user: user("me"), accessToken: token("t"), refreshToken: "r", expiresIn: 900 };
    if (path === "/users/me") return { ...user("me"), createdAt: at(0), privacy: { presenceSharing: "everyone", readReceiptsEnabled: true } };
    if (path === "/users") return { data: q.get("ids")!.split(",").map(user) };
    if (path === "/conversations") return { data: [this.conversation()], pagination: { nextCursor: null, hasMore: false } };
    if (path === "/conversations/c") return this.conversation();
    if (path === "/conversations/c/messages") {
      const from = Number(q.get("afterSeq"));
      return { data: this.messages.slice(from, from + Number(q.get("limit"))), pagination: { nextCursor: null, hasMore: false } };
    }
    if (path === "/conversations/c/markers") return { data: [] };
    return undefined;
  }

  conversation(): Conversation {
    const last = this.messages[this.messages.length - 1] ?? null;
    return {
      id: "c", type: "group", name: "Team", members: ["me", "you"].map((id) => ({ user: user(id), role: "member" as const, joinedAt: at(0) })), memberCount: 2,
      revision: this.revision, lastMessageId: last?.id ?? null, lastMessageAt: last?.createdAt ?? at(0), lastMessage: last, lastSeq: this.messages.length,
      createdAt: at(0), lastReadSeq: this.lastRead, unreadCount: this.messages.length - this.lastRead,
    };
  }

  accept(socket: FakeSocket): void {
    if (this.closeWith) return socket.end(this.closeWith);
    if (this.refused.has(socket.token)) return socket.end(1006);
    socket.readyState = 1;
    socket.onopen?.({});
    socket.push("ready", { userId: "me", deviceId: "d", sessionId: "s", heartbeatSeconds: this.heartbeatSeconds, serverTime: at(0), ...this.ready });
  }

  /** Somebody sends. With `deliver: false` the frame is lost. */
  say(content: string, options: { sender?: string; clientMessageId?: string | null; deliver?: boolean } = {}): Message {
    const seq = this.messages.length + 1;
    const m: Message = {
      id: "m" + seq, conversationId: "c", seq, revision: ++this.revision, senderId: options.sender ?? "you", content,
      clientMessageId: options.clientMessageId ?? null, replyToId: null, createdAt: at(seq), editedAt: null, deletedAt: null,
    };
    this.messages.push(m);
    if (m.senderId === "me") this.lastRead = seq;
    if (options.deliver !== false) this.broadcast("message:new", m);
    return m;
  }

  broadcast(type: string, data: unknown): void {
    for (const s of this.sockets) s.push(type, data);
  }

  answer(socket: FakeSocket, frame: Frame): void {
    const { type, id } = frame;
    const d = frame.data as any;
    const error = this.errors.get(type)?.shift();
    if (error) return socket.push("error", error, id);
    const swallowed = this.swallow.get(type) ?? 0;
    if (swallowed > 0) this.swallow.set(type, swallowed - 1);
    const ack = (data: unknown): void => {
      if (id !== undefined && swallowed === 0) socket.push("ack", data, id);
    };
    switch (type) {
      case "ping":
        return socket.push("pong", undefined, id);
      case "message:send": {
        const known = this.messages.find((m) => m.senderId === "me" && m.clientMessageId === d.clientMessageId);
        return ack(known ?? this.say(d.content, { sender: "me", clientMessageId: d.clientMessageId }));
      }
      case "message:read":
        this.lastRead = Math.max(this.lastRead, Number(d.messageId.slice(1))); // ids are "m1", "m2", …
        return ack({});
      case "presence:subscribe":
        return ack({ presence: d.userIds.map((userId: string) => ({ userId, status: "online", lastSeenAt: null })) });
      case "sync": {
        const held = d.conversations.c as number | undefined;
        const part = { messages: this.messages.filter((m) => m.revision > held!), revision: this.revision, complete: true, ...(this.revision > held! && { conversation: this.conversation() }) };
        return ack({ conversations: held === undefined ? {} : { c: part }, unknown: held === undefined && !d.only ? ["c"] : [], gone: [], epoch: this.ready.epoch });
      }
      default:
        ack({});
    }
  }
}
