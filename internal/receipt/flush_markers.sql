-- Moves a piece of pending markers, forward only. Parameters, each an array: reader, conversation, seq. Members' rows are
-- locked in the order in which sends lock them.
WITH locked AS MATERIALIZED (
    SELECT k.conversation_id, k.user_id, i.seq
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS i (user_id, conversation_id, seq)
    JOIN conversation_members k ON k.conversation_id = i.conversation_id AND k.user_id = i.user_id
    WHERE k.last_read_seq < i.seq
    ORDER BY k.conversation_id, k.user_id
    FOR NO KEY UPDATE OF k
)
UPDATE conversation_members k
SET last_read_seq = greatest(k.last_read_seq, l.seq)
FROM locked l
WHERE k.conversation_id = l.conversation_id AND k.user_id = l.user_id
