-- A user's own state of their conversations. Parameters: user; pending markers, each an array: conversation, seq, version (-1 for any).
-- What follows is added by own.go: which conversations, in which order, how many.
--
-- Unread messages and mentions are counted from the marker, pending or written: there is no counter that could drift. A page
-- counts mentions for its own rows alone, since they stand in the select list and the page is cut off before.
WITH pending AS MATERIALIZED (
    SELECT * FROM unnest((SELECT $2::text[])::uuid[], $3::bigint[], $4::int[]) AS p (conversation_id, seq, version)
),
me AS MATERIALIZED (
    SELECT read_receipts_enabled AS shows FROM users WHERE id = $1
)
SELECT c.id, r.seq, c.last_seq - r.seq,
       CASE WHEN c.last_seq > r.seq THEN
           (SELECT count(*) FROM message_mentions x
            WHERE x.user_id = m.user_id AND x.conversation_id = c.id AND x.seq > r.seq AND x.sender_id <> m.user_id)
           + (SELECT count(*) FROM message_mentions x
              WHERE x.user_id IS NULL AND x.conversation_id = c.id AND x.seq > r.seq AND x.sender_id <> m.user_id)
       ELSE 0 END,
       m.marked_unread AND r.seq <= m.last_read_seq, m.notifications,
       CASE WHEN m.muted_until = 'infinity' THEN 'forever' WHEN m.muted_until > clock_timestamp()
            THEN to_char(m.muted_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END,
       m.archived_at, m.pinned_at, coalesce(m.hidden_seq >= c.last_seq, false),
       c.type = 'direct',
       CASE WHEN c.type = 'direct' THEN (
           SELECT least(greatest(o.last_read_seq, coalesce(o.read_high_seq, 0)), c.last_seq)
           FROM conversation_members o
           JOIN users u ON u.id = o.user_id AND u.read_receipts_enabled AND u.deleted_at IS NULL
           CROSS JOIN me
           WHERE o.conversation_id = c.id AND o.user_id <> m.user_id AND me.shows AND NOT EXISTS (
               SELECT FROM blocks b
               WHERE (b.user_id = o.user_id AND b.blocked_id = m.user_id) OR (b.user_id = m.user_id AND b.blocked_id = o.user_id))) END,
       coalesce(m.state_xid, '0')::text::bigint,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint
FROM conversation_members m
JOIN conversations c ON c.id = m.conversation_id
LEFT JOIN pending p ON p.conversation_id = m.conversation_id AND p.seq <= c.last_seq -- else of messages that a failover lost
    AND (p.version = m.marker_version OR p.version = -1)
CROSS JOIN LATERAL (SELECT least(greatest(m.last_read_seq, p.seq), c.last_seq) AS seq) r
WHERE m.user_id = $1
