// Generated from openapi.yaml by `go generate ./clients`. Do not edit.

export interface ServerConversation {
  id: Id;
  type: "direct" | "group";
  name: string | null;
  /** Both of a direct conversation; of a group the first 20 by joinedAt. */
  members: Member[];
  memberCount: number;
  revision: number;
  lastMessageId: Id | null;
  /** The creation until the first message. */
  lastMessageAt: Time;
  lastMessage: Message | null;
  lastSeq: number;
  createdAt: Time;
  description?: string;
  avatarUrl?: string;
  metadata?: Metadata;
  /** Only owners and admins may send; absent if every member may. */
  posting?: "admins";
  /** The application's own id. */
  externalId?: string;
  /** When its properties or members last changed; messages don't count. */
  updatedAt: Time;
}

export interface ServerUser {
  id: Id;
  username: string;
  displayName: string;
  avatarUrl: string | null;
  externalId: string | null;
  kind: "person" | "bot";
  metadata: Record<string, unknown>;
  createdAt: Time;
  updatedAt: Time;
  lastSeenAt: Time | null;
  deactivatedAt?: Time;
  ban: null | {
    reason: string | null;
    at: Time;
    until: Time | null;
  };
}

export interface UpsertedUser {
  externalId: string;
  id: Id | null;
  result: "created" | "updated" | "unchanged" | "error";
  problem?: Problem;
}

export interface UploadTicket {
  id: Id;
  url: string;
  method: "PUT";
  headers: Record<string, string>;
  expiresAt: Time;
}

export interface CompletedUpload {
  id: Id;
  state: "ready";
  contentType: string;
  size: number;
  /** Of a picture, if its header has it. */
  width?: number;
  height?: number;
}

export interface AttachmentLinks {
  data: {
    id: Id;
    url: string;
    expiresAt: Time;
  }[];
}

/** What a server key may do; with `:read` behind it, only reading. */
export type Scope = string;

export interface ServerKey {
  id: Id;
  name: string;
  scopes: Scope[];
  createdAt: Time;
  expiresAt: Time | null;
  /** To the hour. */
  lastUsedAt: Time | null;
}

export interface NewServerKey {
  id: Id;
  name: string;
  scopes: Scope[];
  createdAt: Time;
  expiresAt: Time | null;
  lastUsedAt: null;
  /** The whole key, shown this once. */
  key: string;
}

export interface AuditEntry {
  id: Id;
  at: Time;
  /** Both are null for the operator at the command line. A key that acted for a user has both. */
  actor: {
    userId: string | null;
    keyId: string | null;
  };
  action: string;
  target: {
    type: string;
    id: string;
  };
  requestId: string;
  ip: string;
  /** What else there is to know: no content, no secrets. */
  detail: Record<string, unknown>;
}

/** UUIDv7, lower case. */
export type Id = string;

/** RFC 3339 in UTC with microseconds. */
export type Time = string;

export interface Fault {
  field: string;
  message: string;
}

/** What went wrong (RFC 9457). Go by `code`; a code that is new to a client is handled by its `status`. Frames of type `error` carry the same, and there `unknown_type` too. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  /** Stable, for programs. */
  code: string;
  requestId: string;
  /** All that is wrong with the input, field by field. */
  errors?: Fault[];
  /** Of `rate_limited` alone: seconds to wait before the next try, as in `Retry-After`. */
  retryAfterSeconds?: number;
  /** Of `banned` alone: when the ban ends. */
  until?: string;
  /** Of `scope_missing` alone: the scope that the server key lacks. */
  scope?: string;
}

export interface MessagePagination {
  nextCursor: string | null;
  hasMore: boolean;
  /** With `around` alone: newer messages follow the first item. */
  hasNewer?: boolean;
}

export interface Pagination {
  /** What to ask for as `cursor`; opaque. */
  nextCursor: string | null;
  hasMore: boolean;
}

export interface User {
  id: Id;
  username: string;
  displayName: string;
  avatarUrl: string | null;
}

export interface Privacy {
  presenceSharing: "everyone" | "friends" | "nobody";
  readReceiptsEnabled: boolean;
}

export interface PushConfig {
  webPush: {
    publicKey: string;
  } | null;
  fcm: boolean;
}

/** With `webpush` a `subscription`, what a PushSubscription's toJSON returns; with `fcm` a `token`. */
export interface PushRegistration {
  provider: "webpush" | "fcm";
  subscription?: {
    endpoint: string;
    expirationTime?: number | null;
    keys: {
      p256dh: string;
      auth: string;
    };
  };
  token?: string;
}

export interface PushPreferences {
  level: "all" | "mentions" | "none";
  preview: boolean;
}

export interface OwnUser {
  id: Id;
  username: string;
  displayName: string;
  avatarUrl: string | null;
  createdAt: Time;
  privacy: Privacy;
}

export interface TokenPair {
  user: OwnUser;
  /** A JWT, for `Authorization: Bearer`. */
  accessToken: string;
  /** Opaque; spent by the next refresh. */
  refreshToken: string;
  /** Seconds until the access token expires. */
  expiresIn: number;
}

export interface Session {
  id: Id;
  userAgent: string;
  createdAt: Time;
  lastUsedAt: Time;
  expiresAt: Time;
  /** Set on the session that asks. */
  current: boolean;
}

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
  replyToId: Id | null;
  createdAt: Time;
  editedAt: Time | null;
  deletedAt: Time | null;
  /** Absent for a text. */
  kind?: "system";
  metadata?: Metadata;
  mentions?: Mentions;
  attachments?: Attachment[];
  /** In the order of their first use. */
  reactions?: Reaction[];
  pinnedAt?: Time;
  pinnedById?: Id;
  /** The viewer's own reactions; never in a frame that several sockets get. */
  mine?: string[];
}

/** The application's own: 4 KiB encoded at most, 32 keys over all levels, 4 levels. Keys are 1 to 64 of `A-Z a-z 0-9 _ . -`. */
export type Metadata = Record<string, unknown>;

export interface Mentions {
  userIds: Id[];
  /** Every member is mentioned. */
  all: boolean;
}

/** Members of the conversation. Nothing is parsed from the text. */
export interface MentionInput {
  userIds?: Id[];
  /** In a group of more than 100 members for owners and admins alone. */
  all?: boolean;
}

export interface Attachment {
  id: Id;
  filename: string;
  contentType: string;
  /** In bytes. */
  size: number;
  /** In pixels; of images. */
  width?: number;
  /** In pixels; of images. */
  height?: number;
}

export interface Reaction {
  reaction: string;
  count: number;
}

export interface ReactionResult {
  reactions: Reaction[];
  /** The user's own reactions. */
  mine: string[];
  /** The message's. */
  revision: number;
}

export interface UserReaction {
  user: User;
  reaction: string;
  createdAt: Time;
}

export type Role = "owner" | "admin" | "member";

export interface Member {
  user: User;
  role: Role;
  joinedAt: Time;
}

export interface Conversation {
  id: Id;
  type: "direct" | "group";
  name: string | null;
  /** Both of a direct conversation; of a group the first 20 by joinedAt. */
  members: Member[];
  memberCount: number;
  revision: number;
  lastMessageId: Id | null;
  /** The creation until the first message. */
  lastMessageAt: Time;
  lastMessage: Message | null;
  lastSeq: number;
  createdAt: Time;
  description?: string;
  avatarUrl?: string;
  metadata?: Metadata;
  /** Only owners and admins may send; absent if every member may. */
  posting?: "admins";
  /** The application's own id. */
  externalId?: string;
  lastReadSeq: number;
  /** lastSeq − lastReadSeq */
  unreadCount: number;
  /** Unread messages of others that mention the viewer. */
  mentionCount: number;
  /** Marked unread, until the marker moves forward again. */
  markedUnread: boolean;
  /** `null` is the default. */
  notifications: "all" | "mentions" | "none" | null;
  /** A time or `forever`; `null` if it is not muted now. */
  mutedUntil: string | null;
  archivedAt: Time | null;
  pinnedAt: Time | null;
  /** Hidden, until the next message. */
  hidden: boolean;
  /** Of direct conversations: how far the other person has read; `null` if either hides receipts or blocks the other. It never goes back. */
  peerLastReadSeq?: number | null;
}

export interface Unread {
  messages: number;
  mentions: number;
  /** Those with something unread, or marked unread. */
  conversations: number;
  asOf: Time;
}

export type WebhookType = "*" | "message.created" | "message.updated" | "message.deleted" | "message.reacted" | "conversation.created" | "conversation.updated" | "conversation.deleted" | "conversation.members_added" | "conversation.members_removed" | "conversation.members_updated" | "user.created" | "user.updated" | "user.deactivated" | "user.reactivated" | "user.banned" | "user.unbanned" | "user.deleted" | "friend.added" | "friend.removed" | "push.requested";

export interface Webhook {
  id: Id;
  name: string;
  url: string;
  types: WebhookType[];
  state: "active" | "failing" | "disabled";
  disabledReason: string | null;
  createdAt: Time;
  lag: {
    conversations: number;
    oldestAt: Time | null;
  };
  dead: number;
}

export interface WebhookWithSecret {
  id: Id;
  name: string;
  url: string;
  types: WebhookType[];
  state: "active" | "failing" | "disabled";
  disabledReason: string | null;
  createdAt: Time;
  lag: {
    conversations: number;
    oldestAt: Time | null;
  };
  dead: number;
  /** `whsec_` and base64 of 32 bytes. */
  secret: string;
}

export interface WebhookTrial {
  status: number | null;
  durationMs: number;
  error: string | null;
}

export interface WebhookReplay {
  id: Id;
  from: Time;
  until: Time;
  conversation: Id | null;
  createdAt: Time;
}

export interface WebhookAttempt {
  /** The `webhook-id`. */
  event: string;
  type: string;
  at: Time;
  status: number | null;
  error: string;
  /** The first KiB of the answer. */
  body: string;
}

export interface DeadEvent {
  /** The `webhook-id`. */
  event: string;
  type: string;
  at: Time;
  error: string;
}

export interface Presence {
  userId: Id;
  status: "online" | "offline";
  lastSeenAt: Time | null;
}

export interface ReadMarker {
  userId: Id;
  /** The last message that the member has read, 0 for none. */
  lastReadSeq: number;
  /** When the member last read on; `null` if that is not known. */
  readAt: string | null;
}

export interface Receipt {
  userId: Id;
  readAt: Time;
}

export interface Relation {
  user: User;
  createdAt: Time;
}

/** What came of asking or accepting. */
export interface FriendState {
  status: "pending" | "accepted";
  user: User;
}

export interface Readiness {
  status: "ok" | "degraded" | "unavailable";
  checks: {
    postgres: "up" | "down";
    redis: "up" | "down";
    schema: "current" | "outdated";
    /** Left out if there is no storage for files. */
    storage?: "up" | "down";
    /** Whether external tokens can be verified; left out where none are taken. */
    identity?: "up" | "down";
  };
}

/** Each operation by its id. */
export interface Operations {
  /** Liveness; touches no dependency */
  health: {
    method: "GET";
    path: "/api/health";
    response: {
      status: "ok";
    };
  };
  /** Readiness */
  ready: {
    method: "GET";
    path: "/api/health/ready";
    response: Readiness;
  };
  /** Prometheus exposition */
  metrics: {
    method: "GET";
    path: "/api/metrics";
    response: undefined;
  };
  /** Swagger UI */
  docs: {
    method: "GET";
    path: "/api/docs";
    response: undefined;
  };
  /** This document */
  openapi: {
    method: "GET";
    path: "/api/docs/openapi.json";
    response: Record<string, unknown>;
  };
  /** The socket's document */
  asyncapi: {
    method: "GET";
    path: "/api/docs/asyncapi.json";
    response: Record<string, unknown>;
  };
  /** The socket's frames */
  docsFrames: {
    method: "GET";
    path: "/api/docs/frames";
    response: undefined;
  };
  /** The style of the page of frames */
  docsFramesStyle: {
    method: "GET";
    path: "/api/docs/frames.css";
    response: undefined;
  };
  /** Swagger UI's files */
  docsAsset: {
    method: "GET";
    path: "/api/docs/{asset}";
    response: undefined;
  };
  /** Make an account and its first session */
  register: {
    method: "POST";
    path: "/api/auth/register";
    body: {
      /** Folded to lower case. */
      username: string;
      password: string;
      displayName?: string;
    };
    response: TokenPair;
  };
  /** Open a session */
  login: {
    method: "POST";
    path: "/api/auth/login";
    body: {
      username: string;
      password: string;
    };
    response: TokenPair;
  };
  /** Spend a refresh token for a new pair */
  refresh: {
    method: "POST";
    path: "/api/auth/refresh";
    body: {
      refreshToken: string;
    };
    response: TokenPair;
  };
  /** End the session of a refresh token */
  logout: {
    method: "POST";
    path: "/api/auth/logout";
    body: {
      refreshToken: string;
    };
    response: undefined;
  };
  /** One's own sessions */
  listSessions: {
    method: "GET";
    path: "/api/auth/sessions";
    response: {
      data: Session[];
      pagination: Pagination;
    };
  };
  /** End one of the user's sessions */
  endSession: {
    method: "DELETE";
    path: "/api/auth/sessions/{id}";
    response: undefined;
  };
  /** Change the password */
  changePassword: {
    method: "POST";
    path: "/api/auth/password";
    body: {
      current: string;
      new: string;
    };
    response: undefined;
  };
  /** One's own profile */
  getMe: {
    method: "GET";
    path: "/api/users/me";
    response: OwnUser;
  };
  /** Change the profile */
  updateMe: {
    method: "PATCH";
    path: "/api/users/me";
    body: {
      displayName?: string;
      /** An absolute http or https URL; null clears it. */
      avatarUrl?: string | null;
    };
    response: OwnUser;
  };
  /** Delete the account */
  deleteMe: {
    method: "DELETE";
    path: "/api/users/me";
    body: {
      password: string;
    };
    response: undefined;
  };
  /** The privacy settings */
  getPrivacy: {
    method: "GET";
    path: "/api/users/me/privacy";
    response: Privacy;
  };
  /** Change privacy settings */
  updatePrivacy: {
    method: "PATCH";
    path: "/api/users/me/privacy";
    body: {
      presenceSharing?: "everyone" | "friends" | "nobody";
      readReceiptsEnabled?: boolean;
    };
    response: Privacy;
  };
  /** Profiles of several users */
  listProfiles: {
    method: "GET";
    path: "/api/users";
    query: { ids: Id[] };
    response: {
      data: User[];
    };
  };
  /** Search users */
  searchUsers: {
    method: "GET";
    path: "/api/users/search";
    query: { q: string; limit?: number };
    response: {
      data: User[];
    };
  };
  /** A profile */
  getUser: {
    method: "GET";
    path: "/api/users/{id}";
    response: User;
  };
  /** Friends, the newest first */
  listFriends: {
    method: "GET";
    path: "/api/friends";
    query: { cursor?: string; limit?: number };
    response: {
      data: Relation[];
      pagination: Pagination;
    };
  };
  /** End a friendship */
  unfriend: {
    method: "DELETE";
    path: "/api/friends/{userId}";
    response: undefined;
  };
  /** Open requests */
  listFriendRequests: {
    method: "GET";
    path: "/api/friends/requests";
    query: { cursor?: string; limit?: number };
    response: {
      incoming: Relation[];
      /** All of them, with the first page; 100 at most. */
      outgoing: Relation[];
      /** Of the incoming ones. */
      pagination: Pagination;
    };
  };
  /** Ask for a friendship */
  requestFriend: {
    method: "POST";
    path: "/api/friends/requests";
    body: {
      userId: Id;
    };
    response: FriendState;
  };
  /** Accept a request */
  acceptFriend: {
    method: "POST";
    path: "/api/friends/requests/{userId}/accept";
    response: FriendState;
  };
  /** Decline or cancel a request */
  dropFriendRequest: {
    method: "DELETE";
    path: "/api/friends/requests/{userId}";
    response: undefined;
  };
  /** Whom one blocks, the newest first */
  listBlocks: {
    method: "GET";
    path: "/api/blocks";
    query: { cursor?: string; limit?: number };
    response: {
      data: Relation[];
      pagination: Pagination;
    };
  };
  /** Block a user */
  block: {
    method: "PUT";
    path: "/api/blocks/{userId}";
    response: undefined;
  };
  /** Unblock a user */
  unblock: {
    method: "DELETE";
    path: "/api/blocks/{userId}";
    response: undefined;
  };
  /** Make a conversation */
  createConversation: {
    method: "POST";
    path: "/api/conversations";
    body: {
      type: "direct" | "group";
      memberIds?: Id[];
      name?: string;
      /** Makes a repeated creation of a group the same group. */
      clientId?: string;
    };
    response: Conversation;
  };
  /** One's conversations, the newest activity first */
  listConversations: {
    method: "GET";
    path: "/api/conversations";
    query: { cursor?: string; limit?: number; filter?: "default" | "unread" | "mentions" | "archived" | "pinned" | "muted" | "all"; type?: "direct" | "group"; q?: string };
    response: {
      data: Conversation[];
      pagination: Pagination;
    };
  };
  /** A conversation */
  getConversation: {
    method: "GET";
    path: "/api/conversations/{id}";
    response: Conversation;
  };
  /** Change a group */
  updateConversation: {
    method: "PATCH";
    path: "/api/conversations/{id}";
    body: {
      name?: string;
      description?: string | null;
      avatarUrl?: string | null;
      metadata?: Metadata | null;
      /** Who may send. */
      posting?: "members" | "admins";
      /** 412 if an earlier change of these properties is newer. */
      ifRevision?: number | null;
    };
    response: Conversation;
  };
  /** Delete a group */
  deleteConversation: {
    method: "DELETE";
    path: "/api/conversations/{id}";
    response: undefined;
  };
  /** Members in the order in which they joined */
  listMembers: {
    method: "GET";
    path: "/api/conversations/{id}/members";
    query: { cursor?: string; limit?: number };
    response: {
      data: Member[];
      pagination: Pagination;
    };
  };
  /** Add members to a group */
  addMembers: {
    method: "POST";
    path: "/api/conversations/{id}/members";
    body: {
      userIds: Id[];
    };
    response: {
      data: Member[];
    };
  };
  /** Promote or demote a member */
  setRole: {
    method: "PATCH";
    path: "/api/conversations/{id}/members/{userId}";
    body: {
      role: Role;
    };
    response: Member;
  };
  /** Remove a member, or leave */
  removeMember: {
    method: "DELETE";
    path: "/api/conversations/{id}/members/{userId}";
    response: undefined;
  };
  /** Mark several conversations read */
  readMany: {
    method: "POST";
    path: "/api/conversations/read";
    body: {
      /** Message ids by conversation id. */
      conversations?: Record<string, Id>;
      /** Instead of `conversations`. */
      all?: boolean;
    };
    response: undefined;
  };
  /** What is unread in all */
  unread: {
    method: "GET";
    path: "/api/unread";
    query: { muted?: boolean };
    response: Unread;
  };
  /** Change the user's own state of a conversation */
  updateState: {
    method: "PATCH";
    path: "/api/conversations/{id}/me";
    body: {
      notifications?: "all" | "mentions" | "none" | null;
      /** A time, `forever` or `null`. */
      mutedUntil?: string | null;
      /** Stays archived when messages come. */
      archived?: boolean;
      /** 20 conversations at most. */
      pinned?: boolean;
      /** Until the next message. */
      hidden?: boolean;
      /** A message that is to be unread, with all after it. Receipts stay given. */
      unreadFrom?: Id;
    };
    response: Conversation;
  };
  /** History, or what follows a seq */
  listMessages: {
    method: "GET";
    path: "/api/conversations/{id}/messages";
    query: { cursor?: string; limit?: number; afterSeq?: number; around?: Id };
    response: {
      data: Message[];
      pagination: MessagePagination;
    };
  };
  /** Send a message */
  sendMessage: {
    method: "POST";
    path: "/api/conversations/{id}/messages";
    body: {
      /** At most 32 KiB, not only white space. May be empty with an attachment. */
      content: string;
      clientMessageId?: string | null;
      replyToId?: Id | null;
      metadata?: Metadata | null;
      mentions?: MentionInput | null;
      /** Files that you uploaded, completed and did not send yet. */
      attachments?: Id[] | null;
    };
    response: Message;
  };
  /** Pinned messages */
  listPins: {
    method: "GET";
    path: "/api/conversations/{id}/pins";
    query: { cursor?: string; limit?: number };
    response: {
      data: Message[];
      pagination: Pagination;
    };
  };
  /** One message */
  getMessage: {
    method: "GET";
    path: "/api/messages/{id}";
    response: Message;
  };
  /** Edit the user's own message */
  editMessage: {
    method: "PATCH";
    path: "/api/messages/{id}";
    body: {
      /** At most 32 KiB, not only white space. Empty only if the message has attachments. */
      content?: string;
      metadata?: Metadata | null;
      mentions?: MentionInput | null;
      /** 412 if the last edit of content, metadata or mentions is newer. */
      ifRevision?: number | null;
    };
    response: Message;
  };
  /** Delete a message */
  deleteMessage: {
    method: "DELETE";
    path: "/api/messages/{id}";
    response: undefined;
  };
  /** Pin a message */
  pinMessage: {
    method: "PUT";
    path: "/api/messages/{id}/pin";
    response: Message;
  };
  /** Take a pin off */
  unpinMessage: {
    method: "DELETE";
    path: "/api/messages/{id}/pin";
    response: Message;
  };
  /** Who reacted */
  listReactions: {
    method: "GET";
    path: "/api/messages/{id}/reactions";
    query: { reaction?: string; cursor?: string; limit?: number };
    response: {
      data: UserReaction[];
      pagination: Pagination;
    };
  };
  /** React to a message */
  addReaction: {
    method: "PUT";
    path: "/api/messages/{id}/reactions/{reaction}";
    response: ReactionResult;
  };
  /** Take a reaction back */
  removeReaction: {
    method: "DELETE";
    path: "/api/messages/{id}/reactions/{reaction}";
    response: ReactionResult;
  };
  /** Announce a file */
  createUpload: {
    method: "POST";
    path: "/api/uploads";
    body: {
      filename: string;
      contentType: string;
      /** In bytes. */
      size: number;
    };
    response: UploadTicket;
  };
  /** Check an uploaded file */
  completeUpload: {
    method: "POST";
    path: "/api/uploads/{id}/complete";
    response: CompletedUpload;
  };
  /** Links to files */
  listAttachmentUrls: {
    method: "POST";
    path: "/api/attachments/urls";
    body: {
      ids: Id[];
    };
    response: AttachmentLinks;
  };
  /** Download a file */
  fetchAttachment: {
    method: "GET";
    path: "/api/attachments/{id}";
    response: never;
  };
  /** Mark read up to a message */
  readMessage: {
    method: "POST";
    path: "/api/messages/{id}/read";
    response: undefined;
  };
  /** How far the members have read */
  listMarkers: {
    method: "GET";
    path: "/api/conversations/{id}/markers";
    response: {
      data: ReadMarker[];
    };
  };
  /** Mark all read up to a message */
  readConversation: {
    method: "POST";
    path: "/api/conversations/{id}/read";
    body: {
      upToMessageId: Id;
    };
    response: undefined;
  };
  /** Who has read a message */
  listReceipts: {
    method: "GET";
    path: "/api/messages/{id}/receipts";
    query: { cursor?: string; limit?: number };
    response: {
      data: Receipt[];
      count: number;
      pagination: Pagination;
    };
  };
  /** A user's presence */
  getPresence: {
    method: "GET";
    path: "/api/presence/{userId}";
    response: Presence;
  };
  /** How to register a device */
  getPushConfig: {
    method: "GET";
    path: "/api/push/config";
    response: PushConfig;
  };
  /** Register a device for pushes */
  putPushDevice: {
    method: "PUT";
    path: "/api/push/devices/{deviceId}";
    body: PushRegistration;
    response: undefined;
  };
  /** Remove a device */
  deletePushDevice: {
    method: "DELETE";
    path: "/api/push/devices/{deviceId}";
    response: undefined;
  };
  /** The preferences of pushes */
  getPushPreferences: {
    method: "GET";
    path: "/api/push/preferences";
    response: PushPreferences;
  };
  /** Change the preferences of pushes */
  updatePushPreferences: {
    method: "PATCH";
    path: "/api/push/preferences";
    body: {
      level?: "all" | "mentions" | "none";
      preview?: boolean;
    };
    response: PushPreferences;
  };
  /** Presence of several users */
  listPresence: {
    method: "GET";
    path: "/api/presence";
    query: { userIds: Id[] };
    response: {
      data: Presence[];
    };
  };
  /** Open a socket */
  socket: {
    method: "GET";
    path: "/api/ws";
    query: { deviceId?: string };
    response: never;
  };
  /** The webhooks */
  listWebhooks: {
    method: "GET";
    path: "/api/server/webhooks";
    response: {
      data: Webhook[];
      pagination: Pagination;
    };
  };
  /** Make a webhook */
  createWebhook: {
    method: "POST";
    path: "/api/server/webhooks";
    body: {
      name: string;
      /** https, or http to a Service of the cluster. */
      url: string;
      types: WebhookType[];
      from?: "now" | "beginning";
    };
    response: WebhookWithSecret;
  };
  /** One webhook */
  getWebhook: {
    method: "GET";
    path: "/api/server/webhooks/{id}";
    response: Webhook;
  };
  /** Change a webhook */
  updateWebhook: {
    method: "PATCH";
    path: "/api/server/webhooks/{id}";
    body: {
      url?: string;
      types?: WebhookType[];
      state?: "active" | "disabled";
    };
    response: Webhook;
  };
  /** Delete a webhook */
  deleteWebhook: {
    method: "DELETE";
    path: "/api/server/webhooks/{id}";
    response: undefined;
  };
  /** Give a webhook a new secret */
  rotateWebhook: {
    method: "POST";
    path: "/api/server/webhooks/{id}/rotate";
    response: {
      secret: string;
    };
  };
  /** Send parley.test now */
  testWebhook: {
    method: "POST";
    path: "/api/server/webhooks/{id}/test";
    response: WebhookTrial;
  };
  /** Deliver a period once more */
  replayWebhook: {
    method: "POST";
    path: "/api/server/webhooks/{id}/replay";
    body: {
      from: string;
      until?: string | null;
      /** An id, or `ext:` and an external id. */
      conversation?: string | null;
    };
    response: WebhookReplay;
  };
  /** Failed deliveries */
  listWebhookAttempts: {
    method: "GET";
    path: "/api/server/webhooks/{id}/attempts";
    query: { cursor?: string; limit?: number };
    response: {
      data: WebhookAttempt[];
      pagination: Pagination;
    };
  };
  /** Events that were given up */
  listDeadEvents: {
    method: "GET";
    path: "/api/server/webhooks/{id}/dead";
    query: { cursor?: string; limit?: number };
    response: {
      data: DeadEvent[];
      pagination: Pagination;
    };
  };
  /** Deliver a dead event once more */
  retryDeadEvent: {
    method: "POST";
    path: "/api/server/webhooks/{id}/dead/{event}/retry";
    response: undefined;
  };
  /** Drop a dead event */
  forgetDeadEvent: {
    method: "DELETE";
    path: "/api/server/webhooks/{id}/dead/{event}";
    response: undefined;
  };
  /** The server keys that live */
  listKeys: {
    method: "GET";
    path: "/api/server/keys";
    response: {
      data: ServerKey[];
      pagination: Pagination;
    };
  };
  /** Make a server key */
  createKey: {
    method: "POST";
    path: "/api/server/keys";
    body: {
      name: string;
      scopes: Scope[];
      expiresAt?: string | null;
    };
    response: NewServerKey;
  };
  /** End a server key */
  endKey: {
    method: "DELETE";
    path: "/api/server/keys/{id}";
    response: undefined;
  };
  /** The audit log */
  listAudit: {
    method: "GET";
    path: "/api/server/audit";
    query: { actor?: Id; action?: string; target?: string; from?: string; to?: string; cursor?: string; limit?: number };
    response: {
      data: AuditEntry[];
      pagination: Pagination;
    };
  };
  /** Create and change users in bulk */
  upsertUsers: {
    method: "PUT";
    path: "/api/server/users";
    body: {
      users: Record<string, unknown>[];
    };
    response: {
      data: UpsertedUser[];
    };
  };
  /** All users */
  listUsers: {
    method: "GET";
    path: "/api/server/users";
    query: { q?: string; state?: "active" | "banned" | "deactivated"; updatedAfter?: string; cursor?: string; limit?: number };
    response: {
      data: ServerUser[];
      pagination: Pagination;
    };
  };
  /** A user */
  getUserByKey: {
    method: "GET";
    path: "/api/server/users/{user}";
    response: ServerUser;
  };
  /** Change a user */
  patchUser: {
    method: "PATCH";
    path: "/api/server/users/{user}";
    body: {
      username?: string;
      displayName?: string;
      avatarUrl?: string | null;
      metadata?: Record<string, unknown> | null;
      kind?: "person" | "bot";
    };
    response: ServerUser;
  };
  /** Deactivate a user */
  deactivateUser: {
    method: "POST";
    path: "/api/server/users/{user}/deactivate";
    response: ServerUser;
  };
  /** Reactivate a user */
  reactivateUser: {
    method: "POST";
    path: "/api/server/users/{user}/reactivate";
    response: ServerUser;
  };
  /** Open a session for a user */
  mintTokens: {
    method: "POST";
    path: "/api/server/users/{user}/tokens";
    body: {
      ttl?: string;
    };
    response: TokenPair;
  };
  /** End all sessions of a user */
  endSessions: {
    method: "DELETE";
    path: "/api/server/users/{user}/sessions";
    response: undefined;
  };
  /** Ban a user */
  banUser: {
    method: "PUT";
    path: "/api/server/users/{user}/ban";
    body: {
      reason?: string | null;
      until?: string | null;
    };
    response: ServerUser;
  };
  /** Lift a ban */
  unbanUser: {
    method: "DELETE";
    path: "/api/server/users/{user}/ban";
    response: undefined;
  };
  /** All conversations */
  listServerConversations: {
    method: "GET";
    path: "/api/server/conversations";
    query: { member?: string; updatedAfter?: string; cursor?: string; limit?: number };
    response: {
      data: ServerConversation[];
      pagination: Pagination;
    };
  };
  /** Make or change the group of an `externalId` */
  putConversation: {
    method: "PUT";
    path: "/api/server/conversations/{conversation}";
    query: { members?: "exact" };
    body: {
      name: string;
      description?: string | null;
      avatarUrl?: string | null;
      metadata?: Metadata | null;
      posting?: "members" | "admins";
      members?: ({
        /** An id, or `ext:` and the `externalId`. */
        user: string;
        role?: "owner" | "admin" | "member";
      })[];
    };
    response: ServerConversation;
  };
  /** A conversation */
  getServerConversation: {
    method: "GET";
    path: "/api/server/conversations/{conversation}";
    response: ServerConversation;
  };
  /** Change a group */
  patchServerConversation: {
    method: "PATCH";
    path: "/api/server/conversations/{conversation}";
    body: {
      name?: string;
      description?: string | null;
      avatarUrl?: string | null;
      metadata?: Metadata | null;
      posting?: "members" | "admins";
      ifRevision?: number | null;
    };
    response: ServerConversation;
  };
  /** Delete a group */
  deleteServerConversation: {
    method: "DELETE";
    path: "/api/server/conversations/{conversation}";
    response: undefined;
  };
  /** Add members, or change roles */
  addServerMembers: {
    method: "POST";
    path: "/api/server/conversations/{conversation}/members";
    body: {
      users: ({
        /** An id, or `ext:` and the `externalId`. */
        user: string;
        role?: "owner" | "admin" | "member";
      })[];
    };
    response: ServerConversation;
  };
  /** Remove members */
  removeServerMembers: {
    method: "DELETE";
    path: "/api/server/conversations/{conversation}/members";
    body: {
      users: string[];
    };
    response: ServerConversation;
  };
  /** History */
  listServerMessages: {
    method: "GET";
    path: "/api/server/conversations/{conversation}/messages";
    query: { cursor?: string; afterSeq?: number; limit?: number };
    response: {
      data: Message[];
      pagination: Pagination;
    };
  };
  /** Send as any user */
  sendServerMessage: {
    method: "POST";
    path: "/api/server/conversations/{conversation}/messages";
    body: {
      /** An id, or `ext:` and the `externalId`. */
      sender: string;
      kind?: "text" | "system";
      content: string;
      clientMessageId: string;
      replyToId?: string | null;
      metadata?: Metadata | null;
      mentions?: Record<string, unknown> | null;
      attachments?: Id[] | null;
    };
    response: Message;
  };
  /** A message */
  getServerMessage: {
    method: "GET";
    path: "/api/server/messages/{id}";
    response: Message;
  };
  /** Edit a message */
  editServerMessage: {
    method: "PATCH";
    path: "/api/server/messages/{id}";
    body: {
      content?: string;
      metadata?: Metadata | null;
      mentions?: Record<string, unknown> | null;
      ifRevision?: number | null;
    };
    response: Message;
  };
  /** Delete a message */
  deleteServerMessage: {
    method: "DELETE";
    path: "/api/server/messages/{id}";
    response: undefined;
  };
}
