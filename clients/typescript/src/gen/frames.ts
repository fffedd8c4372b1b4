// Generated from asyncapi.yaml by `go generate ./clients`. Do not edit.

export type Id = string;

/** UTC, with microseconds. */
export type Time = string;

export type NullableTime = string | null;

/** The client's; echoed in the answer. */
export type FrameId = string;

/** The product's own: 4 KiB, 32 keys, 4 levels at most. */
export type Metadata = Record<string, unknown>;

export interface User {
  id: Id;
  username: string;
  displayName: string;
  avatarUrl: string | null;
  /** Left out for a person. */
  kind?: string;
  metadata?: Metadata;
}

export type Role = "owner" | "admin" | "member";

export interface Member {
  user: User;
  role: Role;
  joinedAt: Time;
}

export interface Reaction {
  reaction: string;
  count: number;
}

export interface Mentions {
  userIds?: Id[];
  all?: boolean;
}

export interface Attachment {
  id: Id;
  filename: string;
  contentType: string;
  /** In bytes. */
  size: number;
  width?: number;
  height?: number;
}

/** Members after `deletedAt` are left out when they have nothing to say. */
export interface Message {
  id: Id;
  conversationId: Id;
  /** 1, 2, 3 … without a gap in each conversation. */
  seq: number;
  /** The conversation's at the message's last change. */
  revision: number;
  senderId: Id;
  /** Empty once deleted. */
  content: string;
  clientMessageId: string | null;
  replyToId: string | null;
  createdAt: Time;
  editedAt: NullableTime;
  deletedAt: NullableTime;
  /** `system`; left out for text. */
  kind?: string;
  metadata?: Metadata;
  mentions?: Mentions;
  attachments?: Attachment[];
  /** In the order of first use. */
  reactions?: Reaction[];
  pinnedAt?: NullableTime;
  pinnedById?: string | null;
  /** The viewer's own reactions; in answers to one viewer only. */
  mine?: string[];
}

/** A conversation as all its members see it. */
export interface SharedConversation {
  id: Id;
  type: "direct" | "group";
  name: string | null;
  /** Both of a direct conversation; the first 20 of a group. */
  members: Member[];
  memberCount: number;
  revision: number;
  lastMessageId: string | null;
  lastMessageAt: Time;
  lastMessage: Message | null;
  lastSeq: number;
  createdAt: Time;
  description?: string | null;
  avatarUrl?: string | null;
  metadata?: Metadata;
  /** Who may send. */
  posting?: "members" | "admins";
  externalId?: string;
}

/** What one user set or did in a conversation. Nobody else sees it. */
export interface OwnState {
  lastReadSeq: number;
  unreadCount: number;
  mentionCount?: number;
  markedUnread?: boolean;
  notifications?: "all" | "mentions" | "none" | null;
  mutedUntil?: string | null;
  archivedAt?: NullableTime;
  pinnedAt?: NullableTime;
  hidden?: boolean;
}

/** A conversation as one of its members sees it. */
export type Conversation = SharedConversation & OwnState & {
  /** How far the other side of a direct conversation has read; null if either side hides receipts. */
  peerLastReadSeq?: number | null;
};

export interface Marker {
  userId: Id;
  lastReadSeq: number;
  readAt: NullableTime;
}

export interface Presence {
  userId: Id;
  status: "online" | "offline";
  lastSeenAt: NullableTime;
}

export interface SendData {
  conversationId: Id;
  /** 1–8,000 code points; may be empty with an attachment. */
  content: string;
  clientMessageId: string;
  replyToId?: string | null;
  metadata?: Metadata;
  mentions?: Mentions;
  attachments?: Id[];
}

export interface SyncData {
  /** The revision held of each conversation; 500 at most. */
  conversations: Record<string, number>;
  /** With more new messages than this the newest are sent instead, with `reset`. */
  window?: number;
  /** `unknown` stays empty. */
  only?: boolean;
  /** That of `ready`; with another than today's all copies are reset. */
  epoch?: string;
  /** The `stateRevision` held. */
  state?: number;
}

export interface SyncPart {
  /** New or changed, the oldest change first. */
  messages: Message[];
  conversation?: Conversation;
  /** Where to ask again. */
  revision: number;
  /** False: there is more. Until the last part is here no other change may be applied on top. */
  complete: boolean;
  /** Drop the copy; `messages` are the newest, by `seq`. */
  reset?: boolean;
}

export interface SyncAnswer {
  conversations: Record<string, SyncPart>;
  /** The viewer's, but not named. */
  unknown: Id[];
  /** Named, but not the viewer's any more. */
  gone: Id[];
  epoch?: string;
  state?: {
    revision: number;
    conversations: Record<string, OwnState>;
    complete: boolean;
  };
}

export type AckData = Record<string, unknown>;

export interface Ready {
  userId: Id;
  deviceId: string;
  /** Null with an external token. */
  sessionId: string | null;
  heartbeatSeconds: number;
  serverTime: Time;
  /** The identity of the history. It changes when the database may have lost a tail. */
  epoch?: string;
  /** When a socket of an external token ends, unless `auth` extends it. */
  expiresAt?: Time;
}

export interface Reacted {
  conversationId: Id;
  messageId: Id;
  revision: number;
  reactions: Reaction[];
  by: {
    userId: Id;
    reactions: string[];
  }[];
}

export interface Changed {
  conversationId: Id;
  revision: number;
}

export interface ConversationRead {
  conversationId: Id;
  lastReadSeq: number;
  unreadCount: number;
}

export interface MembersAdded {
  conversationId: Id;
  members: Member[];
  userIds?: Id[];
  memberCount: number;
  revision: number;
}

export interface MemberRemoved {
  conversationId: Id;
  userId?: Id;
  userIds?: Id[];
  memberCount: number;
  revision: number;
}

export interface MembersUpdated {
  conversationId: Id;
  members: Member[];
  revision: number;
}

export type StateUpdated = {
  conversationId: Id;
  stateRevision: number;
} & OwnState;

export interface ReceiptRead {
  conversationId: Id;
  messageId: Id;
  userId: Id;
  readAt: Time;
  count: number;
}

export interface PresenceChange {
  userId: Id;
  lastSeenAt: NullableTime;
}

export interface Typing {
  conversationId: Id;
  userId: Id;
  active: boolean;
}

/** RFC 9457. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  /** Stable, snake_case. */
  code: string;
  requestId: string;
  errors?: {
    field: string;
    message: string;
  }[];
  /** Seconds to wait; with status 429. */
  retryAfterSeconds?: number;
  /** When a ban ends; with `banned`. */
  until?: string;
  /** What a server key lacks; with `scope_missing`, which no frame has. */
  scope?: string;
}

/** The data of each frame that a client sends, by its type. */
export interface ClientFrames {
  /** Sends a message. */
  "message:send": SendData;
  /** Marks everything up to a message as read. */
  "message:read": {
    messageId: Id;
  };
  /** Reacts to a message. */
  "reaction:add": {
    messageId: Id;
    reaction: string;
  };
  /** Takes a reaction back. */
  "reaction:remove": {
    messageId: Id;
    reaction: string;
  };
  /** The user types; sent again every 3 seconds while they do. */
  "typing:start": {
    conversationId: Id;
  };
  /** The user stopped typing. */
  "typing:stop": {
    conversationId: Id;
  };
  /** Watches the presence of users, 200 at most on a socket. */
  "presence:subscribe": {
    userIds: Id[];
  };
  /** Ends watching. */
  "presence:unsubscribe": {
    userIds: Id[];
  };
  /** Asks for everything that is new. */
  "sync": SyncData;
  /** Shows a new token of the same user before the socket of an external token expires. */
  "auth": {
    token: string;
  };
  /** The app is in front; sent again every 30 seconds while it is. */
  "focus": {
    active: boolean;
    conversationId?: Id;
  };
  /** Asks whether the server is there. */
  "ping": undefined;
}

/** The data of each frame that the server sends, by its type. */
export interface ServerFrames {
  /** The first frame. What is committed after it comes live. */
  "ready": Ready;
  /** Answers a frame that had an id. */
  "ack": AckData;
  /** Refuses a frame. */
  "error": Problem;
  /** Sent when nothing else went for a heartbeat. */
  "ping": undefined;
  /** Answers a `ping`. */
  "pong": undefined;
  /** A message was sent. */
  "message:new": Message;
  /** A message was edited or pinned, or its metadata changed. */
  "message:updated": Message;
  /** A message was deleted. */
  "message:deleted": Message;
  /** Reactions of a message changed. */
  "message:reacted": Reacted;
  /** A conversation was made, or the user was added to one. */
  "conversation:created": SharedConversation;
  /** What PATCH changes was changed. */
  "conversation:updated": SharedConversation;
  /** The conversation is gone for all its members. */
  "conversation:deleted": Changed;
  /** Something changed that this frame can't say: ask `sync`. */
  "conversation:changed": Changed;
  /** One's own other sockets: how far the user has read. */
  "conversation:read": ConversationRead;
  /** How far members have read. */
  "conversation:markers": {
    conversationId: Id;
    markers: Marker[];
  };
  /** Members joined. */
  "conversation:member_added": MembersAdded;
  /** A member left or was removed. */
  "conversation:member_removed": MemberRemoved;
  /** Roles changed. */
  "conversation:member_updated": MembersUpdated;
  /** One's own state of a conversation, whole. */
  "state:updated": StateUpdated;
  /** Somebody read a message of this user's. */
  "receipt:read": ReceiptRead;
  /** A user who is watched came. */
  "presence:online": PresenceChange;
  /** A user who is watched went. */
  "presence:offline": PresenceChange;
  /** Somebody types; it ends 6 seconds after the last `typing:start`. */
  "typing": Typing;
  /** A profile changed. */
  "user:updated": {
    user: User;
  };
  /** Somebody asks to be a friend. */
  "friend:requested": {
    user: User;
  };
  /** A request was accepted. */
  "friend:accepted": {
    user: User;
  };
  /** A friendship, or a request, ended. */
  "friend:removed": {
    user: User;
  };
  /** Send `sync` for everything at a random moment within this time. */
  "resync": {
    epoch: string;
    withinSeconds: number;
  };
}
