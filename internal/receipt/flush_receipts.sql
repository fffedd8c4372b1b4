-- Writes a piece of what was pending. Parameters, each an array: message, reader, when. What is written already stays as it
-- is, unless this read is the earlier one: Redis or Postgres was away for one of them. What is of a message or a user that
-- is gone drops out. Who finds a row locked does not wait for long: the others are not to wait as well.
WITH patience AS MATERIALIZED (
    SELECT set_config('lock_timeout', '1s', true)
)
INSERT INTO read_receipts (message_id, user_id, read_at)
SELECT i.message_id, i.user_id, min(i.read_at)
FROM patience
CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS i (message_id, user_id, read_at)
JOIN messages m ON m.id = i.message_id AND m.deleted_at IS NULL
JOIN users u ON u.id = i.user_id AND u.deleted_at IS NULL
GROUP BY i.message_id, i.user_id
ON CONFLICT (message_id, user_id) DO UPDATE SET read_at = excluded.read_at WHERE excluded.read_at < read_receipts.read_at
