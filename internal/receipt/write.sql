-- Writes reads: moves markers, forward only, and inserts receipts. Parameters, each an array with one element per read: position in the
-- batch, conversation, message, reader, seq, whether it makes a receipt, the marker's version (-1 for any).
-- Returns a row per read: position, the time of the receipt if it is new (else null), the new marker if it moved (else null).
--
-- Members' rows are locked in the same order as by sends, so that batches of two pods don't deadlock.
WITH input AS MATERIALIZED (
    SELECT *
    FROM unnest($1::int[], $2::text[]::uuid[], $3::text[]::uuid[], $4::text[]::uuid[], $5::bigint[], $6::boolean[], $7::int[])
      AS i (ord, conversation_id, message_id, user_id, seq, receipt, version)
),
locked AS MATERIALIZED (
    SELECT k.conversation_id, k.user_id, n.seq
    FROM (SELECT conversation_id, user_id, version, max(seq) AS seq FROM input GROUP BY 1, 2, 3) n
    JOIN conversation_members k ON k.conversation_id = n.conversation_id AND k.user_id = n.user_id
    JOIN conversations c ON c.id = n.conversation_id
    WHERE k.last_read_seq < n.seq AND n.seq <= c.last_seq -- a pod may remember a message that a failover lost
      AND (n.version = k.marker_version OR n.version = -1)
    ORDER BY k.conversation_id, k.user_id
    FOR NO KEY UPDATE OF k
),
moved AS (
    UPDATE conversation_members k
    SET last_read_seq = greatest(k.last_read_seq, l.seq), last_read_at = clock_timestamp(), marked_unread = false, state_xid = pg_current_xact_id()
    FROM locked l
    WHERE k.conversation_id = l.conversation_id AND k.user_id = l.user_id
    RETURNING k.conversation_id, k.user_id, k.last_read_seq
),
clock AS MATERIALIZED (
    SELECT clock_timestamp() AS at
),
written AS (
    INSERT INTO read_receipts (message_id, user_id, read_at)
    SELECT DISTINCT m.id, u.id, clock.at
    FROM input i
    JOIN messages m ON m.id = i.message_id AND m.deleted_at IS NULL
    JOIN users u ON u.id = i.user_id AND u.deleted_at IS NULL
    CROSS JOIN clock
    WHERE i.receipt
    ORDER BY m.id, u.id
    ON CONFLICT DO NOTHING
    RETURNING message_id, user_id, read_at
)
SELECT i.ord, w.read_at, k.last_read_seq
FROM input i
LEFT JOIN written w ON w.message_id = i.message_id AND w.user_id = i.user_id
LEFT JOIN moved k ON k.conversation_id = i.conversation_id AND k.user_id = i.user_id
