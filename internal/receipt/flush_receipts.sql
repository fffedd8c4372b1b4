-- Writes a piece of what was pending. Parameters, each an array: message, reader, when. What is written
-- already stays as it is; what is of a message or a user that is gone drops out.
INSERT INTO read_receipts (message_id, user_id, read_at)
SELECT i.message_id, i.user_id, i.read_at
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS i (message_id, user_id, read_at)
JOIN messages m ON m.id = i.message_id AND m.deleted_at IS NULL
JOIN users u ON u.id = i.user_id AND u.deleted_at IS NULL
ON CONFLICT DO NOTHING
