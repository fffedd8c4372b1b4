-- Writes several changes at once, of any number of conversations whose locks the caller holds; those of one conversation get
-- revisions in the order given. Parameters, each an array with one element a change: its place, conversation, kind, detail,
-- users (ids with commas between), by how many the members became more; then actor and key of all.
-- Returns a row a change, in the order given: revision, member count, the commit's time.
WITH input AS MATERIALIZED (
    SELECT i.*, row_number() OVER w AS n, sum(i.delta) OVER w AS so_far
    FROM unnest($1::int[], $2::text[]::uuid[], $3::text[], $4::text[], $5::text[], $6::int[]) AS i (ord, id, kind, detail, users, delta)
    WINDOW w AS (PARTITION BY i.id ORDER BY i.ord)
),
moved AS (
    UPDATE conversations c
    SET revision = c.revision + t.changes, member_count = c.member_count + t.delta, changed_at = date_trunc('second', clock_timestamp())
    FROM (SELECT id, count(*) AS changes, sum(delta) AS delta FROM input GROUP BY id) t
    WHERE c.id = t.id
    RETURNING c.id, c.revision - t.changes AS revision, c.last_seq, c.member_count - t.delta AS member_count
),
noted AS (
    INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, detail, user_ids, actor_id, key_id)
    SELECT i.id, m.revision + i.n, m.last_seq, i.kind, i.detail, string_to_array(i.users, ',')::uuid[], $7::uuid, $8::uuid
    FROM input i
    JOIN moved m ON m.id = i.id
    RETURNING conversation_id, revision, created_at
)
SELECT k.revision, m.member_count + i.so_far, k.created_at
FROM input i
JOIN moved m ON m.id = i.id
JOIN noted k ON k.conversation_id = i.id AND k.revision = m.revision + i.n
ORDER BY i.ord
