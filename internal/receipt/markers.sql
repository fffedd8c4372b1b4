-- Reads the markers of members who share receipts. Parameters: the conversation, the viewer; pending markers of its members,
-- each an array: member, seq, version (-1 for any), time (null if unknown).
-- Returns a row per member: member, seq, time (null if unknown). Members with a block to or from the viewer are left out.
SELECT k.user_id, m.seq, m.at
FROM conversation_members k
JOIN conversations c ON c.id = k.conversation_id
JOIN users u ON u.id = k.user_id AND u.read_receipts_enabled AND u.deleted_at IS NULL
LEFT JOIN unnest($3::text[]::uuid[], $4::bigint[], $5::int[], $6::timestamptz[]) AS p (user_id, seq, version, at)
       ON p.user_id = k.user_id AND (p.version = k.marker_version OR p.version = -1)
CROSS JOIN LATERAL (
    SELECT least(greatest(k.last_read_seq, k.read_high_seq, p.seq), c.last_seq) AS seq,
           CASE WHEN p.seq > greatest(k.last_read_seq, k.read_high_seq) THEN p.at ELSE k.last_read_at END AS at) m
WHERE k.conversation_id = $1
  AND NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = $2::uuid AND b.blocked_id = k.user_id)
  AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocked_id = $2::uuid AND b.user_id = k.user_id)
ORDER BY k.joined_at, k.user_id
