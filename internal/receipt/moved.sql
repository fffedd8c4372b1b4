-- Reads moved markers of members who share receipts, in conversations with at most a number of members.
-- Parameters: that number; then for each moved marker, each an array: conversation, member, and the pending marker: seq (0 for none),
-- version (-1 for any), time (null if unknown).
-- Returns a row per marker: conversation, member, seq, time (null if unknown), and the members who may not see it, sorted and joined by
-- commas: members who hide their own receipts, and members with a block.
WITH moved AS MATERIALIZED (
    SELECT k.conversation_id, k.user_id, m.seq, m.at
    FROM unnest($2::text[]::uuid[], $3::text[]::uuid[], $4::bigint[], $5::int[], $6::timestamptz[]) AS p (conversation_id, user_id, seq, version, at)
    JOIN conversations c ON c.id = p.conversation_id AND c.member_count <= $1
    JOIN conversation_members k ON k.conversation_id = p.conversation_id AND k.user_id = p.user_id
    JOIN users u ON u.id = k.user_id AND u.read_receipts_enabled AND u.deleted_at IS NULL
    CROSS JOIN LATERAL (SELECT CASE WHEN p.version IN (k.marker_version, -1) THEN p.seq ELSE 0 END AS seq) q
    CROSS JOIN LATERAL (
        SELECT least(greatest(k.last_read_seq, k.read_high_seq, q.seq), c.last_seq) AS seq,
               CASE WHEN q.seq > greatest(k.last_read_seq, k.read_high_seq) THEN p.at ELSE k.last_read_at END AS at) m
),
hiding AS (
    SELECT k.conversation_id, k.user_id
    FROM (SELECT DISTINCT conversation_id FROM moved) c
    JOIN conversation_members k ON k.conversation_id = c.conversation_id
    JOIN users u ON u.id = k.user_id AND NOT u.read_receipts_enabled
),
excepted AS (
    SELECT m.conversation_id, m.user_id, h.user_id AS viewer_id FROM moved m JOIN hiding h ON h.conversation_id = m.conversation_id
    UNION
    SELECT m.conversation_id, m.user_id, k.user_id
    FROM moved m
    JOIN blocks b ON b.user_id = m.user_id
    JOIN conversation_members k ON k.conversation_id = m.conversation_id AND k.user_id = b.blocked_id
    UNION
    SELECT m.conversation_id, m.user_id, k.user_id
    FROM moved m
    JOIN blocks b ON b.blocked_id = m.user_id
    JOIN conversation_members k ON k.conversation_id = m.conversation_id AND k.user_id = b.user_id
)
SELECT m.conversation_id, m.user_id, m.seq, m.at, coalesce(x.viewers, '')
FROM moved m
LEFT JOIN (
    SELECT conversation_id, user_id, string_agg(viewer_id::text, ',' ORDER BY viewer_id) AS viewers FROM excepted GROUP BY 1, 2
) x ON x.conversation_id = m.conversation_id AND x.user_id = m.user_id
ORDER BY m.conversation_id, m.user_id
