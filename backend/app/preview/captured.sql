-- name: newest
SELECT coalesce(max(id), 0) FROM event_outbox

-- name: open
-- Events of this transaction, its savepoints included: what it sees and is not committed is its own. A row tells the lower
-- half of its transaction's number; the whole one is the nearest to that of this transaction.
DECLARE citycache_captured NO SCROLL CURSOR FOR
 WITH own AS (SELECT pg_current_xact_id()::text::bigint AS number)
 SELECT DISTINCT type, subject
   FROM event_outbox CROSS JOIN own
  WHERE event_outbox.id > %(after)s
    AND pg_xact_status((number + ((event_outbox.xmin::text::bigint - number %% 4294967296 + 6442450944) %% 4294967296 - 2147483648))
                       ::text::xid8) = 'in progress'
