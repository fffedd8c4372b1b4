// A chat in React, with the hooks alone.
import { Parley, Session } from "@parley-chat/client";
import { ParleyProvider, useConversations, useMe, useMessages, useParley, useRoom, useStatus, useTyping, useUnread, useUser } from "@parley-chat/react";
import { useEffect, useState, type FormEvent, type ReactElement } from "react";

export function App({ url }: { url: string }): ReactElement {
  const [session] = useState(() => new Session({ url }));
  const [chat, setChat] = useState(() => (session.user ? new Parley({ url, token: session.token }) : null));
  const enter = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const { username, password } = Object.fromEntries(new FormData(event.currentTarget)) as Record<string, string>;
    const account = { username: username!, password: password! };
    await session.login(account).catch(() => session.register(account));
    setChat(new Parley({ url, token: session.token }));
  };
  if (!chat) return <form onSubmit={(e) => void enter(e)}><input name="username" /><input name="password" type="password" /><button>Enter</button></form>;
  return <ParleyProvider chat={chat}><Chat /></ParleyProvider>;
}

function Chat(): ReactElement {
  const chat = useParley();
  const conversations = useConversations();
  const { messages } = useUnread();
  const status = useStatus();
  const me = useMe();
  const [id, setId] = useState<string>();
  const find = async (name: string): Promise<void> => {
    const [found] = await chat.search(name);
    if (found) setId((await chat.createDirect(found.id)).id);
  };
  return (
    <>
      <p>{me?.displayName}: {status.state}, {messages} unread</p>
      <input placeholder="find people" onKeyDown={(e) => e.key === "Enter" && void find(e.currentTarget.value)} />
      {conversations.map((c) => (
        <button key={c.id} onClick={() => setId(c.id)}>{c.name ?? c.members.find((m) => m.user.id !== me?.id)?.user.displayName} {c.unreadCount || ""}</button>
      ))}
      {id && <Conversation key={id} id={id} />}
    </>
  );
}

function Conversation({ id }: { id: string }): ReactElement {
  const room = useRoom(id);
  const { messages, drafts, hasOlder, loadOlder, send } = useMessages(id);
  const typing = useTyping(id);
  const [text, setText] = useState("");
  useEffect(() => room.markRead(), [room, messages]);
  return (
    <form onSubmit={(e) => { e.preventDefault(); void send(text); setText(""); }}>
      {hasOlder && <button type="button" onClick={() => void loadOlder()}>Older</button>}
      {messages.map((m) => <p key={m.clientMessageId ?? m.id}><Name id={m.senderId} />: {m.content}</p>)}
      {drafts.map((d) => <p key={d.clientMessageId}><i>{d.content} ({d.problem?.detail ?? d.state})</i></p>)}
      {typing.map((userId) => <p key={userId}><Name id={userId} /> types …</p>)}
      <input value={text} onChange={(e) => { setText(e.target.value); room.typing(); }} /><button>Send</button>
    </form>
  );
}

const Name = ({ id }: { id: string }): ReactElement => <b>{useUser(id)?.displayName}</b>;
