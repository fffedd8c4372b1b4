import type { Conversation, Message } from "../src/types.js";

const at = (n: number): string => `2026-11-23T10:00:00.${String(n).padStart(6, "0")}Z`;

export function message(seq: number, revision: number, senderId = "you"): Message {
  return {
    id: "m" + seq, conversationId: "c", seq, revision, senderId, content: "m" + seq, clientMessageId: null, replyToId: null, createdAt: at(seq),
    editedAt: null, deletedAt: null,
  };
}

export function conversation(patch: Partial<Conversation> = {}): Conversation {
  return {
    id: "c", type: "group", name: "Team", members: [], memberCount: 2, revision: 1, lastMessageId: null, lastMessageAt: at(0), lastMessage: null,
    lastSeq: 0, createdAt: at(0), lastReadSeq: 0, unreadCount: 0, ...patch,
  };
}
