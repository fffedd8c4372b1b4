-- Takes a user out of all groups, and gives those that lose their last owner an heir: the oldest admin, else the oldest member. A
-- user whose account was deleted never inherits, and does not count as an owner either. Parameter: the user. The groups are
-- locked by an earlier statement of the same transaction, so this one's snapshot is at least as new as the locks.
-- Returns a row per group: its id, and the heir as a member, or nulls.
WITH gone AS (
    DELETE FROM conversation_members m
    USING conversations c
    WHERE m.user_id = $1::uuid AND c.id = m.conversation_id AND c.type = 'group'
    RETURNING m.conversation_id AS id, m.role
),
heirs AS MATERIALIZED (
    SELECT g.id, h.user_id
    FROM gone g
    CROSS JOIN LATERAL (
        -- By two indexes: of owners and admins, and of members in the order in which they joined.
        SELECT coalesce(
            (SELECT o.user_id FROM conversation_members o JOIN users u ON u.id = o.user_id AND u.deleted_at IS NULL
             WHERE o.conversation_id = g.id AND o.role <> 'member' AND o.user_id <> $1::uuid ORDER BY o.joined_at, o.user_id LIMIT 1),
            (SELECT o.user_id FROM conversation_members o JOIN users u ON u.id = o.user_id AND u.deleted_at IS NULL
             WHERE o.conversation_id = g.id AND o.user_id <> $1::uuid ORDER BY o.joined_at, o.user_id LIMIT 1)) AS user_id
    ) h
    WHERE g.role = 'owner' AND h.user_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM conversation_members o
        JOIN users u ON u.id = o.user_id AND u.deleted_at IS NULL
        WHERE o.conversation_id = g.id AND o.role <> 'member' AND o.role = 'owner' AND o.user_id <> $1::uuid)
),
promoted AS (
    UPDATE conversation_members m
    SET role = 'owner'
    FROM heirs h
    JOIN users u ON u.id = h.user_id
    WHERE m.conversation_id = h.id AND m.user_id = h.user_id
    RETURNING m.conversation_id, u.id, u.username, u.display_name, u.avatar_url, m.role, m.joined_at
)
SELECT g.id, p.id, p.username, p.display_name, p.avatar_url, p.role, p.joined_at
FROM gone g
LEFT JOIN promoted p ON p.conversation_id = g.id
ORDER BY g.id
