-- Counts the receipts of messages, including pending ones, of readers who share receipts and have no block with the sender, and finds
-- the latest. Parameters: messages; then the pending reads, each an array: message, reader, time.
-- Returns a row for each message that has receipts, is not deleted, and whose sender shares receipts and is still a member: message,
-- conversation, sender, count, latest reader, time.
WITH readers AS (
    SELECT x.message_id, x.user_id, min(x.read_at) AS read_at
    FROM (
        SELECT r.message_id, r.user_id, r.read_at FROM read_receipts r WHERE r.message_id = ANY ($1::text[]::uuid[])
        UNION ALL
        SELECT p.message_id, p.user_id, p.read_at
        FROM unnest($2::text[]::uuid[], $3::text[]::uuid[], $4::timestamptz[]) AS p (message_id, user_id, read_at)
    ) x
    GROUP BY x.message_id, x.user_id
)
SELECT DISTINCT ON (m.id) m.id, m.conversation_id, m.sender_id, count(*) OVER (PARTITION BY m.id), r.user_id, r.read_at
FROM readers r
JOIN users u ON u.id = r.user_id AND u.read_receipts_enabled
JOIN messages m ON m.id = r.message_id AND m.deleted_at IS NULL
JOIN users s ON s.id = m.sender_id AND s.read_receipts_enabled
JOIN conversation_members k ON k.conversation_id = m.conversation_id AND k.user_id = m.sender_id
WHERE NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = m.sender_id AND b.blocked_id = r.user_id)
  AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocked_id = m.sender_id AND b.user_id = r.user_id)
ORDER BY m.id, r.read_at DESC, r.user_id DESC
