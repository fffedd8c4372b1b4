import type { Conversation, Draft, Message, OwnUser, Parley, Presence, Readable, Room, RoomView, Status, Unread, User } from "@parley-chat/client";
import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useSyncExternalStore, type ReactElement, type ReactNode } from "react";

const Context = createContext<Parley | null>(null);

/** Gives the chat to the hooks below it, and keeps it connected while it is mounted. With `connect={false}` the app does that. */
export function ParleyProvider({ chat, connect = true, children }: { chat: Parley; connect?: boolean; children?: ReactNode }): ReactElement {
  useEffect(() => {
    if (!connect) return;
    chat.connect();
    return () => chat.close();
  }, [chat, connect]);
  return createElement(Context.Provider, { value: chat }, children);
}

/** The chat of the provider above. */
export function useParley(): Parley {
  const chat = useContext(Context);
  if (!chat) throw new Error("there is no ParleyProvider above this component");
  return chat;
}

/** Any value of the client; the component is drawn anew when it is another. */
export function useReadable<T>(readable: Readable<T>): T {
  const subscribe = useCallback((listener: () => void) => readable.subscribe(listener), [readable]);
  const value = useCallback(() => readable.value, [readable]);
  return useSyncExternalStore(subscribe, value, value);
}

/** A part of a value. The component is drawn anew only if the part is another, so `select` must not make objects. */
export function useSelected<T, P>(readable: Readable<T>, select: (value: T) => P): P {
  const subscribe = useCallback((listener: () => void) => readable.subscribe(listener), [readable]);
  const part = (): P => select(readable.value);
  return useSyncExternalStore(subscribe, part, part);
}

export const useStatus = (): Status => useReadable(useParley().status);
/** Whether everything that was committed before the present connection is here. */
export const useSynced = (): boolean => useReadable(useParley().synced);
export const useMe = (): OwnUser | undefined => useReadable(useParley().me);
export const useConversations = (): readonly Conversation[] => useReadable(useParley().conversations);
/** Totals over all conversations that are neither muted, archived nor hidden. */
export const useUnread = (): Unread => useReadable(useParley().unread);
export const useUser = (userId: string): User | undefined => useReadable(useParley().user(userId));
/** Whether somebody is there; live while the component is mounted. */
export const usePresence = (userId: string): Presence => useReadable(useParley().presence(userId));

/** A conversation, open while the component is mounted, and what it looks like now. */
export function useConversation(id: string): { room: Room } & RoomView {
  const room = useRoom(id);
  const view = useReadable(room);
  return useMemo(() => ({ ...view, room }), [view, room]);
}

/** A conversation without what it looks like: the component is drawn anew only for another id. */
export function useRoom(id: string): Room {
  const chat = useParley();
  useEffect(() => {
    const room = chat.open(id);
    return () => room.close();
  }, [chat, id]);
  return chat.peek(id);
}

export interface Messages {
  readonly messages: readonly Message[];
  /** What this device still sends; shown after the messages. */
  readonly drafts: readonly Draft[];
  readonly hasOlder: boolean;
  readonly loadingOlder: boolean;
  /** Stable over renders. */
  readonly loadOlder: () => Promise<void>;
  readonly send: Room["send"];
}

/** The messages of a conversation. Typing, markers and the like do not draw the component anew. */
export function useMessages(id: string): Messages {
  const room = useRoom(id);
  const messages = useSelected(room, (v) => v.messages);
  const drafts = useSelected(room, (v) => v.drafts);
  const hasOlder = useSelected(room, (v) => v.hasOlder);
  const loadingOlder = useSelected(room, (v) => v.loadingOlder);
  const actions = useMemo(() => ({ loadOlder: () => room.loadOlder(), send: room.send.bind(room) }), [room]);
  return useMemo(() => ({ messages, drafts, hasOlder, loadingOlder, ...actions }), [messages, drafts, hasOlder, loadingOlder, actions]);
}

/** Ids of the others who type now. */
export function useTyping(id: string): readonly string[] {
  return useSelected(useRoom(id), (v) => v.typing);
}

/** How many messages of one conversation are unread. */
export function useUnreadCount(id: string): number {
  const chat = useParley();
  return useSelected(chat.peek(id), (v) => v.info?.unreadCount ?? 0);
}

/** How far the others have read, by user id. */
export function useMarkers(id: string): RoomView["markers"] {
  return useSelected(useRoom(id), (v) => v.markers);
}

/** Calls the handler at each event of the chat while the component is mounted. */
export function useParleyEvent<K extends Parameters<Parley["on"]>[0]>(type: K, handler: Parameters<typeof Parley.prototype.on<K>>[1]): void {
  const chat = useParley();
  useEffect(() => chat.on(type, handler), [chat, type, handler]);
}
