-- Reads a page of a message's receipts after a position, and their total count. Stored and pending receipts are merged, each reader
-- once. Readers who hide receipts, and readers with a block to or from the viewer, don't count.
-- Parameters: message, pending readers, their times, the position's time and user or nulls, page size, the viewer.
-- Returns a row per receipt: count, user, time; one row with nulls if the page is empty.
WITH readers AS (
    SELECT x.user_id, min(x.read_at) AS read_at
    FROM (
        SELECT r.user_id, r.read_at FROM read_receipts r WHERE r.message_id = $1
        UNION ALL
        SELECT p.user_id, p.read_at FROM unnest($2::text[]::uuid[], $3::timestamptz[]) AS p (user_id, read_at)
    ) x
    GROUP BY x.user_id
),
shown AS MATERIALIZED (
    SELECT r.user_id, r.read_at FROM readers r JOIN users u ON u.id = r.user_id AND u.read_receipts_enabled
    WHERE NOT EXISTS (SELECT FROM blocks b WHERE b.user_id = $7::uuid AND b.blocked_id = r.user_id)
      AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocked_id = $7::uuid AND b.user_id = r.user_id)
)
SELECT n.count, s.user_id, s.read_at
FROM (SELECT count(*) FROM shown) n
LEFT JOIN LATERAL (
    SELECT * FROM shown
    WHERE $4::timestamptz IS NULL OR (read_at, user_id) > ($4::timestamptz, $5::uuid)
    ORDER BY read_at, user_id
    LIMIT $6
) s ON true
