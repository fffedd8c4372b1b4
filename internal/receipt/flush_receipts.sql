-- Writes a piece of pending receipts. Parameters, each an array: message, reader, time. An existing row stays unchanged unless this read
-- is earlier, which happens if Redis or Postgres was unavailable for one of the two. Receipts of messages or users that no longer exist
-- are dropped. The lock timeout is short, so that one locked row does not hold up the others.
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
