-- What the database says about tables, columns and expressions of a definition.

-- name: relation
-- By the name as it stands in the catalog, else as SQL would read it. A dot in a name may make it another's as well.
SELECT relation.oid::bigint, namespace.nspname, relation.relname, relation.relkind,
       quote_ident(namespace.nspname) || '.' || quote_ident(relation.relname)
  FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
 WHERE namespace.nspname || '.' || relation.relname = %(name)s

-- name: relation_as_written
SELECT relation.oid::bigint, namespace.nspname, relation.relname, relation.relkind,
       quote_ident(namespace.nspname) || '.' || quote_ident(relation.relname)
  FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
 WHERE relation.oid = %(name)s::regclass

-- name: foreign_part
-- A partition or child that is on another server.
WITH RECURSIVE part AS (
    SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = %(oid)s
    UNION ALL
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT oid::regclass::text FROM part JOIN pg_class USING (oid) WHERE relkind = 'f' ORDER BY 1 LIMIT 1

-- name: may_have_triggers
-- Whether this role may make triggers on a table, and on all that is below it.
WITH RECURSIVE part AS (
    SELECT %(oid)s::oid AS oid
    UNION ALL
    SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.oid
)
SELECT bool_and(relkind IN ('r', 'p') AND relnamespace <> 'pg_catalog'::regnamespace AND pg_has_role(relowner, 'USAGE'))
  FROM part JOIN pg_class USING (oid)

-- name: becomes_json
-- Whether values of this type, or of its elements, become JSON by a cast of their own, from which no value is read back.
SELECT EXISTS (SELECT FROM pg_type AS told JOIN pg_cast ON castsource IN (told.oid, told.typelem)
                WHERE told.oid = %(type)s::regtype AND casttarget = 'json'::regtype AND castsource >= 16384)

-- name: columns
-- Types of domains are those beneath them, of any length. What a virtual column is computed from stands beside it.
WITH RECURSIVE beneath AS (
    SELECT attnum, atttypid AS type FROM pg_attribute WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attnum, typbasetype FROM beneath JOIN pg_type ON pg_type.oid = type WHERE typtype = 'd'
)
SELECT attname, quote_ident(attname), format_type(type, -1), attgenerated,
       ARRAY(SELECT base.attname::text
               FROM pg_attrdef AS expression
               JOIN pg_depend AS needed
                 ON (needed.classid, needed.objid) = ('pg_attrdef'::regclass, expression.oid)
                 OR (needed.classid, needed.objid, needed.objsubid) = ('pg_class'::regclass, adrelid, adnum)
               JOIN pg_attribute AS base ON base.attrelid = needed.refobjid AND base.attnum = needed.refobjsubid
              WHERE (adrelid, adnum) = (made.attrelid, made.attnum) AND needed.refclassid = 'pg_class'::regclass
                AND needed.refobjid = made.attrelid AND base.attnum <> made.attnum AND made.attgenerated <> '')
  FROM pg_attribute AS made JOIN beneath USING (attnum) JOIN pg_type ON pg_type.oid = type
 WHERE attrelid = %(oid)s AND typtype <> 'd'
 ORDER BY attnum

-- name: is_text
SELECT typcategory IN ('S', 'E') OR oid = 'unknown'::regtype FROM pg_type WHERE oid = %(type)s::regtype

-- name: trial_uses
-- Tables and columns that the view on trial reads.
SELECT DISTINCT used.refobjid::bigint, read.attname,
       quote_ident(namespace.nspname) || '.' || quote_ident(relation.relname), relation.relkind
  FROM pg_rewrite AS rule
  JOIN pg_depend AS used ON used.classid = 'pg_rewrite'::regclass AND used.objid = rule.oid
   AND used.refclassid = 'pg_class'::regclass
  JOIN pg_class AS relation ON relation.oid = used.refobjid
  JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
  LEFT JOIN pg_attribute AS read ON read.attrelid = used.refobjid AND read.attnum = used.refobjsubid AND read.attnum > 0
 WHERE rule.ev_class = %(oid)s AND used.refobjid <> %(oid)s

-- name: trial_tree
SELECT ev_action::text FROM pg_rewrite WHERE ev_class = %(oid)s

-- name: unsteady
-- Of these functions, operators and casts through text, those whose answer may change although no row is written.
-- Some that are called stable rest on nothing that changes: names of an enum's values, and putting texts together.
WITH called AS (
    SELECT unnest(%(functions)s::oid[]) AS oid
    UNION SELECT oprcode FROM pg_operator WHERE oid = ANY(%(operators)s::oid[])
    UNION SELECT typoutput FROM pg_type WHERE oid = ANY(%(printed)s::oid[])
    UNION SELECT typinput FROM pg_type WHERE oid = ANY(%(parsed)s::oid[])
)
SELECT function.oid::regprocedure::text, provolatile
  FROM called JOIN pg_proc AS function USING (oid)
 WHERE provolatile <> 'i'
   AND NOT (pronamespace = 'pg_catalog'::regnamespace AND proname IN (
       'enum_out', 'enum_in', 'concat', 'concat_ws', 'textanycat', 'anytextcat', 'array_to_string', 'array_out', 'array_in',
       'regexp_in', 'to_json', 'to_jsonb', 'json_build_object', 'jsonb_build_object', 'json_build_array',
       'jsonb_build_array'))
 ORDER BY 1

-- name: primary_key
SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
 WHERE indrelid = %(oid)s AND indisprimary ORDER BY array_position(indkey, attnum)
