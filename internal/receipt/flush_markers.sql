-- Moves a piece of pending markers, forward only. Parameters, each an array: reader, conversation, seq, version (-1 for any), time; and
-- the time at which the present history began, null if unknown. Members' rows are locked in the same order as by sends, with a short lock
-- timeout. A reader who moves a marker back begins a new version of it, so reads of older versions are dropped. A marker beyond the
-- conversation's last message belongs to messages that a failover lost: it moves to the last message before the present history began,
-- and messages sent since are unread.
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', '1s', true)
),
locked AS MATERIALIZED (
    SELECT k.conversation_id, k.user_id, b.seq, i.read_at
    FROM patience
    CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::int[], $5::timestamptz[]) AS i (user_id, conversation_id, seq, version, read_at)
    JOIN conversations c ON c.id = i.conversation_id
    JOIN conversation_members k ON k.conversation_id = i.conversation_id AND k.user_id = i.user_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN i.seq <= c.last_seq THEN i.seq ELSE (
            SELECT m.seq FROM messages m WHERE m.conversation_id = c.id AND m.created_at < $6::timestamptz
            ORDER BY m.created_at DESC, m.id DESC LIMIT 1
        ) END AS seq
    ) b
    WHERE k.last_read_seq < b.seq AND (i.version = k.marker_version OR i.version = -1)
    ORDER BY k.conversation_id, k.user_id
    FOR NO KEY UPDATE OF k
)
UPDATE conversation_members k
SET last_read_seq = greatest(k.last_read_seq, l.seq), last_read_at = coalesce(l.read_at, clock_timestamp()), marked_unread = false, state_xid = pg_current_xact_id()
FROM locked l
WHERE k.conversation_id = l.conversation_id AND k.user_id = l.user_id
