/** The shapes that the client works with: those of the socket are generated from the AsyncAPI document, those of REST from OpenAPI. */
export type * from "./gen/frames.js";
export type { Operations, OwnUser, Privacy, Session as SessionInfo } from "./gen/rest.js";

/** Totals of what is unread. */
export interface Unread {
  messages: number;
  mentions: number;
  conversations: number;
}

/** A page of a list. Pass `nextCursor` as `cursor` while `hasMore`. */
export interface Page<T> {
  data: T[];
  pagination: { nextCursor: string | null; hasMore: boolean; hasNewer?: boolean };
}

/** A frame as it is on the wire. */
export interface Frame {
  type: string;
  id?: string;
  data?: unknown;
}
