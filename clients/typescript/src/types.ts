/** The shapes of the socket protocol and of REST that the client works with. */

/** An RFC 9457 problem: the body of every refused request, and the data of an `error` frame. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  /** Stable, snake_case. */
  code: string;
  requestId: string;
  errors?: { field: string; message: string }[];
  /** Whole seconds to wait; set on 429. */
  retryAfterSeconds?: number;
  [member: string]: unknown;
}

export interface User {
  id: string;
  username: string;
  displayName: string;
  avatarUrl: string | null;
  metadata?: Metadata;
  kind?: string;
}

export interface OwnUser extends User {
  createdAt: string;
  privacy: { presenceSharing: "everyone" | "friends" | "nobody"; readReceiptsEnabled: boolean };
}

export type Metadata = Record<string, unknown>;

export interface Reaction {
  reaction: string;
  count: number;
}

export interface Attachment {
  id: string;
  filename: string;
  contentType: string;
  size: number;
  width?: number;
  height?: number;
}

export interface Message {
  id: string;
  conversationId: string;
  /** 1, 2, 3 … without a gap in each conversation. */
  seq: number;
  /** The conversation's revision at the last change of the message. */
  revision: number;
  senderId: string;
  content: string;
  clientMessageId: string | null;
  replyToId: string | null;
  createdAt: string;
  editedAt: string | null;
  deletedAt: string | null;
  kind?: string;
  metadata?: Metadata;
  mentions?: { userIds?: string[]; all?: boolean };
  attachments?: Attachment[];
  reactions?: Reaction[];
  pinnedAt?: string | null;
  pinnedById?: string | null;
  /** The viewer's own reactions. */
  mine?: string[];
}

export type Role = "owner" | "admin" | "member";

export interface Member {
  user: User;
  role: Role;
  joinedAt: string;
}

/** What one user set or did in a conversation; nobody else sees it. */
export interface OwnState {
  lastReadSeq: number;
  unreadCount: number;
  mentionCount?: number;
  markedUnread?: boolean;
  notifications?: "all" | "mentions" | "none" | null;
  mutedUntil?: string | null;
  archivedAt?: string | null;
  pinnedAt?: string | null;
  hidden?: boolean;
}

/** A conversation as all of its members see it. */
export interface SharedConversation {
  id: string;
  type: "direct" | "group";
  name: string | null;
  /** Both of a direct conversation; the first 20 of a group. */
  members: Member[];
  memberCount: number;
  revision: number;
  lastMessageId: string | null;
  lastMessageAt: string;
  lastMessage: Message | null;
  lastSeq: number;
  createdAt: string;
  description?: string | null;
  avatarUrl?: string | null;
  metadata?: Metadata;
  posting?: "members" | "admins";
  externalId?: string;
}

/** A conversation as the viewer sees it. */
export interface Conversation extends SharedConversation, OwnState {
  /** In a direct conversation: how far the other side has read; null if either side hides receipts. */
  peerLastReadSeq?: number | null;
}

export interface Marker {
  userId: string;
  lastReadSeq: number;
  readAt: string | null;
}

export interface Presence {
  userId: string;
  status: "online" | "offline";
  lastSeenAt: string | null;
}

export interface Unread {
  messages: number;
  mentions: number;
  conversations: number;
}

export interface Page<T> {
  data: T[];
  pagination: { nextCursor: string | null; hasMore: boolean; hasNewer?: boolean };
}

export interface SyncPart {
  messages: Message[];
  conversation?: Conversation;
  revision: number;
  complete: boolean;
  reset?: boolean;
}

export interface SyncAnswer {
  conversations: Record<string, SyncPart>;
  unknown: string[];
  gone: string[];
  epoch?: string;
  state?: { revision: number; conversations: Record<string, OwnState>; complete: boolean };
}

export interface Ready {
  userId: string;
  deviceId: string;
  sessionId: string | null;
  heartbeatSeconds: number;
  serverTime: string;
  epoch?: string;
  expiresAt?: string;
}

/** A frame as it is on the wire. */
export interface Frame {
  type: string;
  id?: string;
  data?: unknown;
}
