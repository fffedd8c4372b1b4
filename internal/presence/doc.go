// Package presence is the domain of which users are online, and when they were last seen.
//
// A pod's Heartbeat keeps the connections of its sockets in Redis. A user goes offline in one way only, whatever the
// cause (a closed tab, a killed pod, a cut cable): the deadline of the user's last connection passes, and a Watcher claims
// the user. The claim is a script that marks the user offline and publishes the event in one step.
//
//	pod             Redis                                          watcher                  Postgres
//	 │ touch.lua      │                                               │                        │
//	 ├───────────────►│ connection: deadline = now + TTL              │                        │
//	 │ schedule.lua   │                                               │                        │
//	 ├───────────────►│ hint: look at this user then                  │                        │
//	 ┊ every TTL/3    ┊                                               ┊                        ┊
//	 │ close.lua      │                                               │                        │
//	 ├───────────────►│ deadline = now + grace, new hint              │                        │
//	 │                │                       mark.lua, every 250 ms  │                        │
//	 │                │◄──────────────────────────────────────────────┤ may users be claimed?  │
//	 │                │                                    lease.lua  │                        │
//	 │                │◄──────────────────────────────────────────────┤ hints that are due     │
//	 │                │                                    claim.lua  │                        │
//	 │   offline      │◄──────────────────────────────────────────────┤                        │
//	 │◄───────────────┤ offline, and published at once                │ last_seen_at           │
//	 │                │                                               ├───────────────────────►│
//	 │                │                                   settle.lua  │                        │
//	 │                │◄──────────────────────────────────────────────┤ the lease ends         │
//
// # Keys
//
// A user has a sorted set of connections by deadline, a hash with the state that was published last (online, version, seen),
// and a key for each device, which expires with the device's last connection. One script touches the keys of one user
// only, so that it works on a cluster.
//
// The deadlines of all users are hints in 16 sorted sets (shards), because nothing else finds users whose deadline is over.
// A hint is written before the connection it stands for, or right after a deadline was shortened. It is removed only if
// it was not written since. So it is never later than the user's last deadline, and a check that comes too early finds
// the user online and moves the hint.
//
// # Leases
//
//	hint due ── lease.lua ──► leased for 1.5 s ── online ──────────────► hint at the next deadline
//	   ▲                            │        └─── offline ─► last_seen_at written ─► removed
//	   │                            │                                 └─ Postgres failed ─► hint in 10 s
//	   └── the watcher died ◄───────┘
//
// A lease is a hint whose score was moved into the future. If its watcher dies, the hint is due again and another watcher
// takes it: the user is not published twice, because the claim finds the user offline, and last_seen_at is still written.
//
// # Gaps
//
// After a time in which Redis did not respond or no watcher ran, deadlines may be over although the sockets are open. Watchers
// keep the time of the last sweep in a mark (mark.lua). If the mark is old, watchers claim nobody for settleIn. Pods read the mark
// every epochEvery, so meanwhile they renew all their connections (TestRedisRestoredFromAnOldSnapshot). Pods also renew all
// connections if Redis lost its memory, which they detect by a random value, the epoch of Redis.
//
// # Reading
//
// The Service reads the state from Redis and the permission to see it from Postgres, and keeps neither. So a read after a
// change of privacy is never older than the change.
package presence
