// renewal.mjs: a user with short-lived tokens of another issuer, which "@token" gets, stays connected from one to the next.
import assert from "node:assert/strict";
import { WebSocket } from "ws";
import { Parley } from "../typescript/dist/index.js";
import { done, fault, until, urls } from "./lib.mjs";

const chat = new Parley({ url: urls[0], token: () => fault("token"), WebSocket, outbox: null });
const states = [];
chat.status.subscribe(() => states.push(chat.status.value.state));
let shown = 0;
chat.on("frame", ({ direction, frame }) => { if (direction === "out" && frame.type === "auth") shown++; });
chat.connect();
await until(() => chat.synced.value, "it is in step");
await until(() => shown === 3, "three tokens are shown on one socket");
assert.deepEqual(states, ["connecting", "online"]);
const group = await chat.createGroup({ name: "Alone", memberIds: [] });
const room = chat.open(group.id);
await room.send("still here");
assert.equal(room.value.messages.length, 1);
chat.close();
done();
