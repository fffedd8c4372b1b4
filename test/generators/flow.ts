// What a product does first, by the client of each generator: two people, a conversation, a message, and the history.
import createClient from "openapi-fetch";
import { client } from "./generated/hey/client.gen";
import * as hey from "./generated/hey";
import type { paths } from "./generated/types";
import * as orval from "./generated/orval";

const baseUrl = process.env.PARLEY_URL ?? "";
const password = "correct horse battery";
const people = (of: string) => [`${of}_anna`, `${of}_ben`].map((username) => ({ username, password, displayName: username }));

// A machine under load may not hash a password in time, so a request that gets a 503 is repeated.
const tries = 60;
const fetchOnce = globalThis.fetch;
globalThis.fetch = async (input, init) => {
  for (let n = 1; ; n++) {
    const response = await fetchOnce(input instanceof Request ? input.clone() : input, init);
    if (response.status !== 503) return response;
    if (n === tries) throw new Error(`still 503 after ${tries} tries: ${await response.text()}`);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
};

function check(of: string, page: { data: { content: string | null; seq: number }[]; pagination: { hasMore: boolean } } | undefined): void {
  const [first] = page?.data ?? [];
  if (first?.content !== "Hello Ben" || first.seq !== 1 || page?.pagination.hasMore !== false) {
    throw new Error(`${of}: ${JSON.stringify(page)}`);
  }
}

async function byTypes(): Promise<void> {
  const api = createClient<paths>({ baseUrl });
  const [anna, ben] = await Promise.all(people("types").map((body) => api.POST("/api/auth/register", { body })));
  const headers = { Authorization: `Bearer ${anna?.data?.accessToken}` };
  const made = await api.POST("/api/conversations", { headers, body: { type: "direct", memberIds: [ben?.data?.user.id ?? ""] } });
  const params = { path: { id: made.data?.id ?? "" } };
  await api.POST("/api/conversations/{id}/messages", { headers, params, body: { content: "Hello Ben" } });
  check("openapi-typescript", (await api.GET("/api/conversations/{id}/messages", { headers, params })).data);
}

async function byHey(): Promise<void> {
  client.setConfig({ baseUrl });
  const [anna, ben] = await Promise.all(people("hey").map((body) => hey.register({ body, throwOnError: true })));
  client.setConfig({ baseUrl, auth: anna?.data.accessToken });
  const made = await hey.createConversation({ body: { type: "direct", memberIds: [ben?.data.user.id ?? ""] }, throwOnError: true });
  const path = { id: made.data.id };
  await hey.sendMessage({ path, body: { content: "Hello Ben" }, throwOnError: true });
  const page: hey.ListMessagesResult = (await hey.listMessages({ path, throwOnError: true })).data;
  check("hey-api", page);
}

async function byOrval(): Promise<void> {
  const own = globalThis.fetch;
  globalThis.fetch = (input, init) => own(`${baseUrl}${String(input)}`, init);
  const [anna, ben] = await Promise.all(people("orval").map((body) => orval.register(body)));
  if (anna?.status !== 201 || ben?.status !== 201) throw new Error("orval: nobody is registered");
  const headers = { Authorization: `Bearer ${anna.data.accessToken}` };
  const made = await orval.createConversation({ type: "direct", memberIds: [ben.data.user.id] }, { headers });
  if (made.status !== 201) throw new Error(`orval: ${made.status}`);
  await orval.sendMessage(made.data.id, { content: "Hello Ben" }, { headers });
  const page = await orval.listMessages(made.data.id, {}, { headers });
  if (page.status !== 200) throw new Error(`orval: ${page.status}`);
  check("orval", page.data satisfies orval.ListMessagesResult);
}

await byTypes();
await byHey();
await byOrval();
