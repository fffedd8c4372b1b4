-- Looks up the facts of reads; returns a row for each read that the user may make. Parameters, each an array with one element per read:
-- position in the batch, message, reader.
-- Returns: position, conversation, whether it is direct, number of its members, seq, sender, whether the message is deleted, the
-- conversation's last seq, the reader's marker, its version, the highest seq it ever had, whether the reader shares receipts, whether
-- this receipt exists already, whether the sender shares receipts, whether it is a direct conversation with a block.
SELECT i.ord, c.id, c.type = 'direct', c.member_count, m.seq, m.sender_id, m.deleted_at IS NOT NULL, c.last_seq, k.last_read_seq, k.marker_version, coalesce(k.read_high_seq, 0),
       u.read_receipts_enabled,
       (SELECT true FROM read_receipts r WHERE r.message_id = i.message_id AND r.user_id = i.user_id) IS NOT NULL,
       s.read_receipts_enabled,
       c.type = 'direct' AND (
           (SELECT true FROM blocks b WHERE b.user_id = m.sender_id AND b.blocked_id = i.user_id) IS NOT NULL OR
           (SELECT true FROM blocks b WHERE b.user_id = i.user_id AND b.blocked_id = m.sender_id) IS NOT NULL)
FROM unnest($1::int[], $2::text[]::uuid[], $3::text[]::uuid[]) AS i (ord, message_id, user_id)
JOIN messages m ON m.id = i.message_id
JOIN conversations c ON c.id = m.conversation_id
JOIN conversation_members k ON k.conversation_id = m.conversation_id AND k.user_id = i.user_id
JOIN users u ON u.id = i.user_id
JOIN users s ON s.id = m.sender_id
