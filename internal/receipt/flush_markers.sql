-- Moves a piece of pending markers, forward only. Parameters, each an array: reader, conversation, seq. Members' rows are
-- locked in the order in which sends lock them, and not waited for for long. No marker goes beyond the conversation's last message: one
-- that is pending may be of messages that a failover lost, and those that are sent instead are unread.
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', '1s', true)
),
locked AS MATERIALIZED (
    SELECT k.conversation_id, k.user_id, least(i.seq, c.last_seq) AS seq
    FROM patience
    CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS i (user_id, conversation_id, seq)
    JOIN conversation_members k ON k.conversation_id = i.conversation_id AND k.user_id = i.user_id
    JOIN conversations c ON c.id = i.conversation_id
    WHERE k.last_read_seq < least(i.seq, c.last_seq)
    ORDER BY k.conversation_id, k.user_id
    FOR NO KEY UPDATE OF k
)
UPDATE conversation_members k
SET last_read_seq = greatest(k.last_read_seq, l.seq)
FROM locked l
WHERE k.conversation_id = l.conversation_id AND k.user_id = l.user_id
