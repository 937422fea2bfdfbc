CREATE FUNCTION public.capture_canary() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, after)
    VALUES ('citycache.canary.updated', 'canary/' OPERATOR(pg_catalog.||) NEW.id, pg_catalog.row_to_json(NEW));
    RETURN NULL;
END $$;
CREATE FUNCTION public.capture_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, before)
    SELECT 'catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||) '.deleted',
           TG_ARGV[0] OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) stale.id,
           pg_catalog.row_to_json(stale)
      FROM old_rows AS stale;
    RETURN NULL;
END $$;
CREATE FUNCTION public.capture_inserted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, after)
    SELECT 'catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||) '.created',
           TG_ARGV[0] OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) fresh.id,
           pg_catalog.row_to_json(fresh)
      FROM new_rows AS fresh;
    RETURN NULL;
END $$;
CREATE FUNCTION public.capture_truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject)
    VALUES ('catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||) '.truncated', TG_ARGV[0]);
    RETURN NULL;
END $$;
CREATE FUNCTION public.capture_updated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
BEGIN
    INSERT INTO public.event_outbox (type, subject, before, after)
    SELECT 'catalog.' OPERATOR(pg_catalog.||) TG_ARGV[0] OPERATOR(pg_catalog.||)
               CASE WHEN stale.id IS NULL THEN '.created' WHEN fresh.id IS NULL THEN '.deleted' ELSE '.updated' END,
           TG_ARGV[0] OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) coalesce(fresh.id, stale.id),
           CASE WHEN stale.id IS NOT NULL THEN pg_catalog.row_to_json(stale) END,
           CASE WHEN fresh.id IS NOT NULL THEN pg_catalog.row_to_json(fresh) END
      FROM old_rows AS stale
      FULL JOIN new_rows AS fresh ON fresh.id OPERATOR(pg_catalog.=) stale.id
     WHERE fresh.id IS NULL OR stale.id IS NULL OR fresh OPERATOR(pg_catalog.*<>) stale;
    RETURN NULL;
END $$;
CREATE FUNCTION public.catalog_tables() RETURNS TABLE(role text, table_name text)
    LANGUAGE sql STABLE
    AS $$
VALUES ('city', 'public.cities'), ('company', 'public.companies'), ('product', 'public.products')
$$;
CREATE FUNCTION public.city_rows() RETURNS TABLE(id bigint, external_id text, name text, latitude double precision, longitude double precision, version xid)
    LANGUAGE sql STABLE
    AS $$
SELECT id, external_id, name, latitude, longitude, xmin
  FROM public.cities
$$;
CREATE FUNCTION public.company_rows() RETURNS TABLE(id bigint, external_id text, name text, city_id bigint, is_active boolean, created_at timestamp with time zone, updated_at timestamp with time zone, version xid)
    LANGUAGE sql STABLE
    AS $$
SELECT id, external_id, name, city_id, is_active, created_at, updated_at, xmin
  FROM public.companies
$$;
CREATE FUNCTION public.product_rows() RETURNS TABLE(id bigint, external_id text, company_id bigint, name text, kind text, is_active boolean, created_at timestamp with time zone, updated_at timestamp with time zone, version xid)
    LANGUAGE sql STABLE
    AS $$
SELECT id, external_id, company_id, name, kind, is_active, created_at, updated_at, xmin
  FROM public.products
$$;
CREATE FUNCTION public.watches() RETURNS TABLE(number integer, table_name text, noun text)
    LANGUAGE sql STABLE
    AS $$
SELECT NULL::integer, NULL::text, NULL::text WHERE false
$$;
CREATE TABLE public.active_cities_cache (
    cache_type text NOT NULL,
    active_city_ids bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    total_cities bigint DEFAULT 0 NOT NULL,
    total_companies bigint DEFAULT 0 NOT NULL,
    total_products bigint DEFAULT 0 NOT NULL,
    last_updated timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT active_cities_cache_type_check CHECK ((cache_type = ANY (ARRAY['products'::text, 'companies'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='1000');
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.audit_findings (
    id bigint NOT NULL,
    found_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cache text NOT NULL,
    key text NOT NULL,
    side text NOT NULL,
    cached jsonb,
    wanted jsonb,
    last_patch bigint,
    repaired_at timestamp with time zone
);
ALTER TABLE public.audit_findings ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_findings_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.audit_log (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    name text,
    role text,
    address text,
    method text NOT NULL,
    path text NOT NULL,
    status integer NOT NULL,
    detail text
);
ALTER TABLE public.audit_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.audit_minutes (
    minute timestamp with time zone NOT NULL,
    cache text NOT NULL,
    checked bigint DEFAULT 0 NOT NULL,
    wrong bigint DEFAULT 0 NOT NULL,
    round_seconds double precision,
    round_rows bigint
);
CREATE TABLE public.canaries (
    id smallint NOT NULL,
    number bigint NOT NULL,
    sent_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.canary_cache (
    id smallint NOT NULL,
    number bigint NOT NULL,
    arrived_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE VIEW public.catalog_cities AS
 SELECT id,
    external_id,
    name,
    latitude,
    longitude,
    version
   FROM public.city_rows() city_rows(id, external_id, name, latitude, longitude, version);
CREATE VIEW public.catalog_companies AS
 SELECT id,
    external_id,
    name,
    city_id,
    is_active,
    created_at,
    updated_at,
    version
   FROM public.company_rows() company_rows(id, external_id, name, city_id, is_active, created_at, updated_at, version);
CREATE VIEW public.catalog_products AS
 SELECT id,
    external_id,
    company_id,
    name,
    kind,
    is_active,
    created_at,
    updated_at,
    version
   FROM public.product_rows() product_rows(id, external_id, company_id, name, kind, is_active, created_at, updated_at, version);
CREATE TABLE public.cities (
    id bigint NOT NULL,
    external_id text,
    name text NOT NULL,
    latitude double precision,
    longitude double precision
);
ALTER TABLE public.cities ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.cities_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.city_counts (
    city_id bigint NOT NULL,
    products_count bigint DEFAULT 0 NOT NULL,
    services_count bigint DEFAULT 0 NOT NULL,
    companies_count bigint DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    patch_ids bigint[] DEFAULT '{}'::bigint[] NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000');
CREATE TABLE public.companies (
    id bigint NOT NULL,
    external_id text,
    name text NOT NULL,
    city_id bigint,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE public.companies ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.companies_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.company_city_mapping (
    company_id bigint NOT NULL,
    city_id bigint NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    patch_id bigint
);
CREATE VIEW public.company_city_truth AS
 SELECT company.id AS company_id,
    company.city_id
   FROM (public.catalog_companies company
     JOIN public.catalog_cities city ON ((city.id = company.city_id)))
  WHERE company.is_active;
CREATE TABLE public.dead_letters (
    id bigint NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    subject text,
    event_id text,
    event_type text,
    content_type text,
    headers jsonb,
    payload text,
    payload_encoding text DEFAULT 'utf-8'::text NOT NULL,
    attempts integer DEFAULT 1 NOT NULL,
    task_id uuid,
    buried_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    requeued_at timestamp with time zone,
    closed_at timestamp with time zone,
    closed_because text,
    closed_by uuid,
    CONSTRAINT dead_letters_kind_check CHECK ((kind = ANY (ARRAY['unreadable'::text, 'unknown_type'::text, 'failed'::text, 'undeliverable'::text])))
);
ALTER TABLE public.dead_letters ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dead_letters_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.event_outbox (
    id bigint NOT NULL,
    event_id uuid DEFAULT gen_random_uuid() NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    occurred_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    before json,
    after json,
    traceparent text DEFAULT NULLIF(current_setting('citycache.traceparent'::text, true), ''::text)
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_insert_threshold='-1', autovacuum_vacuum_cost_delay='0', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='1000000000');
ALTER TABLE public.event_outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.event_outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.incidents (
    id bigint NOT NULL,
    kind text NOT NULL,
    subject text DEFAULT ''::text NOT NULL,
    began_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    "values" jsonb DEFAULT '{}'::jsonb NOT NULL
);
ALTER TABLE public.incidents ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.incidents_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.observations (
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seconds double precision NOT NULL,
    captured bigint NOT NULL,
    published bigint NOT NULL,
    applied bigint NOT NULL,
    patched bigint NOT NULL,
    outbox_rows bigint,
    outbox_seconds double precision,
    queue_ready bigint,
    queue_held bigint,
    latency bigint[] NOT NULL,
    canary_ms double precision
);
CREATE TABLE public.patches (
    id bigint NOT NULL,
    patched_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    task text NOT NULL,
    task_id uuid,
    subjects text[] DEFAULT '{}'::text[] NOT NULL,
    event_ids text[] DEFAULT '{}'::text[] NOT NULL,
    traceparents text[],
    previous_ids bigint[] DEFAULT '{}'::bigint[] NOT NULL
);
ALTER TABLE public.patches ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.patches_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.product_city_mapping (
    product_id bigint NOT NULL,
    city_id bigint NOT NULL,
    company_id bigint NOT NULL,
    kind text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    patch_id bigint
);
CREATE VIEW public.product_city_truth AS
 SELECT product.id AS product_id,
    company.city_id,
    product.company_id,
    product.kind
   FROM (public.catalog_products product
     JOIN public.company_city_truth company USING (company_id))
  WHERE (product.is_active AND (product.kind = ANY (ARRAY['product'::text, 'service'::text])));
CREATE TABLE public.products (
    id bigint NOT NULL,
    external_id text,
    company_id bigint NOT NULL,
    name text NOT NULL,
    kind text DEFAULT 'product'::text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT products_kind_check CHECK ((kind = ANY (ARRAY['product'::text, 'service'::text])))
);
ALTER TABLE public.products ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.products_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.removed_keys (
    noun text NOT NULL,
    id bigint NOT NULL,
    patch_id bigint NOT NULL,
    earlier_ids bigint[] DEFAULT '{}'::bigint[] NOT NULL
);
CREATE TABLE public.replay_keys (
    task_id uuid NOT NULL,
    noun text NOT NULL,
    id bigint NOT NULL
);
CREATE TABLE public.replays (
    task_id uuid NOT NULL,
    marker text NOT NULL,
    next_offset bigint,
    first_offset bigint,
    last_offset bigint,
    events bigint DEFAULT 0 NOT NULL,
    keys bigint DEFAULT 0 NOT NULL,
    rows_changed bigint DEFAULT 0 NOT NULL,
    products bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    companies bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    cities bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    truncated boolean DEFAULT false NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.task_runs (
    task_id uuid NOT NULL,
    task text NOT NULL,
    trigger text NOT NULL,
    state text NOT NULL,
    arguments jsonb,
    progress jsonb,
    result jsonb,
    error text,
    queued_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    expires_at timestamp with time zone,
    scheduled_for timestamp with time zone,
    CONSTRAINT task_runs_state_check CHECK ((state = ANY (ARRAY['PENDING'::text, 'STARTED'::text, 'RETRY'::text, 'SUCCESS'::text, 'FAILURE'::text, 'REVOKED'::text, 'EXPIRED'::text, 'SKIPPED'::text]))),
    CONSTRAINT task_runs_trigger_check CHECK ((trigger = ANY (ARRAY['api'::text, 'beat'::text, 'event'::text, 'replay'::text, 'cli'::text])))
);
CREATE TABLE public.wide_patches (
    company_id bigint NOT NULL,
    generation bigint DEFAULT 1 NOT NULL,
    after_product_id bigint DEFAULT '-9223372036854775808'::bigint NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    event_id text
);
INSERT INTO public.active_cities_cache VALUES ('companies', '{}', 0, 0, 0, '2026-11-26 02:30:53.624478+00');
INSERT INTO public.active_cities_cache VALUES ('products', '{}', 0, 0, 0, '2026-11-26 02:30:53.624478+00');
INSERT INTO public.alembic_version VALUES ('0018');
INSERT INTO public.audit_findings OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-26 02:30:55.582796+00', 'x', 'x', 'x', NULL, NULL, NULL, NULL);
INSERT INTO public.audit_log OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-26 02:30:55.598128+00', NULL, NULL, NULL, 'x', 'x', 7, NULL);
INSERT INTO public.audit_minutes VALUES ('2026-11-01 00:00:00+00', 'x', 0, 0, NULL, NULL);
INSERT INTO public.canaries VALUES (1, 7, '2026-11-26 02:30:55.632131+00');
INSERT INTO public.canary_cache VALUES (1, 7, '2026-11-26 02:30:55.650358+00');
INSERT INTO public.cities VALUES (1, NULL, 'A', 1, 2);
INSERT INTO public.cities VALUES (2, NULL, 'B', NULL, NULL);
INSERT INTO public.cities VALUES (-3, NULL, 'C', NULL, NULL);
INSERT INTO public.city_counts VALUES (7, 0, 0, 0, '2026-11-26 02:30:55.66977+00', '{}');
INSERT INTO public.companies VALUES (1, NULL, 'one', 1, true, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.companies VALUES (2, NULL, 'two', 2, false, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.companies VALUES (3, NULL, 'three', NULL, true, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.companies VALUES (4, NULL, 'four', 2, true, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.company_city_mapping VALUES (7, 7, '2026-11-26 02:30:55.684235+00', NULL);
INSERT INTO public.dead_letters OVERRIDING SYSTEM VALUE VALUES (1, 'unreadable', 'x', NULL, NULL, NULL, NULL, NULL, NULL, 'utf-8', 1, NULL, '2026-11-26 02:30:55.706553+00', NULL, NULL, NULL, NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (1, '680155e5-734a-4416-88ba-70fa8cc47943', 'catalog.city.created', 'city/1', '2026-11-26 02:30:55.534064+00', NULL, '{"id":1,"external_id":null,"name":"A","latitude":1,"longitude":2}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (2, '29e7125b-609a-4303-9d8a-739c979f9ad7', 'catalog.city.created', 'city/2', '2026-11-26 02:30:55.535693+00', NULL, '{"id":2,"external_id":null,"name":"B","latitude":null,"longitude":null}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (3, '84243b6e-fb50-4730-9a75-e15e92e2920f', 'catalog.city.created', 'city/-3', '2026-11-26 02:30:55.535728+00', NULL, '{"id":-3,"external_id":null,"name":"C","latitude":null,"longitude":null}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (4, 'b0bb267e-652a-4c9f-8ffb-228d4a98a4d8', 'catalog.company.created', 'company/1', '2026-11-26 02:30:55.537934+00', NULL, '{"id":1,"external_id":null,"name":"one","city_id":1,"is_active":true,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (5, '3a87dcf6-425c-463a-b053-1a36849da594', 'catalog.company.created', 'company/2', '2026-11-26 02:30:55.537983+00', NULL, '{"id":2,"external_id":null,"name":"two","city_id":2,"is_active":false,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (6, 'eb727039-6f7d-4aa3-94c7-23ac9b501fd8', 'catalog.company.created', 'company/3', '2026-11-26 02:30:55.537995+00', NULL, '{"id":3,"external_id":null,"name":"three","city_id":null,"is_active":true,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (7, '21c1070e-f0fa-44f9-9620-27ef0cfe043b', 'catalog.company.created', 'company/4', '2026-11-26 02:30:55.538006+00', NULL, '{"id":4,"external_id":null,"name":"four","city_id":2,"is_active":true,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (8, '4c1d17e5-7646-40be-aab1-f5ef1a7f1b05', 'catalog.product.created', 'product/1', '2026-11-26 02:30:55.544127+00', NULL, '{"id":1,"external_id":null,"company_id":1,"name":"a","kind":"product","is_active":true,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (9, 'ee550b08-653c-48ae-b591-9dd027f95571', 'catalog.product.created', 'product/2', '2026-11-26 02:30:55.544177+00', NULL, '{"id":2,"external_id":null,"company_id":1,"name":"b","kind":"service","is_active":true,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (10, '10bde6bb-a86b-4bb5-b7ae-6d4a9b57e8c4', 'catalog.product.created', 'product/3', '2026-11-26 02:30:55.54419+00', NULL, '{"id":3,"external_id":null,"company_id":2,"name":"c","kind":"product","is_active":true,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (11, 'e8befbf6-1b65-4b7c-bd10-dcdcaec946af', 'catalog.product.created', 'product/4', '2026-11-26 02:30:55.544202+00', NULL, '{"id":4,"external_id":null,"company_id":4,"name":"d","kind":"product","is_active":false,"created_at":"2026-11-26T02:30:55.527847+00:00","updated_at":"2026-11-26T02:30:55.527847+00:00"}', NULL);
INSERT INTO public.event_outbox OVERRIDING SYSTEM VALUE VALUES (12, 'f4a9bc30-e6a0-4c63-a1df-4904daee8c94', 'citycache.canary.updated', 'canary/1', '2026-11-26 02:30:55.63286+00', NULL, '{"id":1,"number":7,"sent_at":"2026-11-26T02:30:55.632131+00:00"}', NULL);
INSERT INTO public.incidents OVERRIDING SYSTEM VALUE VALUES (1, 'x', '', '2026-11-01 00:00:00+00', NULL, '{}');
INSERT INTO public.observations VALUES ('2026-11-26 02:30:55.739021+00', 0.5, 7, 7, 7, 7, NULL, NULL, NULL, NULL, '{}', NULL);
INSERT INTO public.patches OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-26 02:30:55.749812+00', 'x', NULL, '{}', '{}', NULL, '{}');
INSERT INTO public.product_city_mapping VALUES (7, 7, 7, 'x', '2026-11-26 02:30:55.768997+00', NULL);
INSERT INTO public.products VALUES (1, NULL, 1, 'a', 'product', true, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.products VALUES (2, NULL, 1, 'b', 'service', true, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.products VALUES (3, NULL, 2, 'c', 'product', true, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.products VALUES (4, NULL, 4, 'd', 'product', false, '2026-11-26 02:30:55.527847+00', '2026-11-26 02:30:55.527847+00');
INSERT INTO public.removed_keys VALUES ('x', 7, 7, '{}');
INSERT INTO public.replays VALUES ('bc441af3-6a0d-4340-a3bb-62a3b172f685', 'x', NULL, NULL, NULL, 0, 0, 0, '{}', '{}', '{}', false, '2026-11-26 02:30:55.78381+00');
INSERT INTO public.replay_keys SELECT task_id, 'company', 1 FROM public.replays;
INSERT INTO public.task_runs VALUES ('94807d6d-4093-4ced-baaf-a68809f5e803', 'x', 'api', 'SUCCESS', NULL, NULL, NULL, NULL, '2026-11-26 02:30:55.798904+00', NULL, NULL, NULL, NULL);
INSERT INTO public.wide_patches VALUES (7, 1, -9223372036854775808, '2026-11-26 02:30:55.812685+00', NULL);
SELECT pg_catalog.setval('public.audit_findings_id_seq', 1, true);
SELECT pg_catalog.setval('public.audit_log_id_seq', 1, true);
SELECT pg_catalog.setval('public.cities_id_seq', 1, false);
SELECT pg_catalog.setval('public.companies_id_seq', 1, false);
SELECT pg_catalog.setval('public.dead_letters_id_seq', 1, true);
SELECT pg_catalog.setval('public.event_outbox_id_seq', 12, true);
SELECT pg_catalog.setval('public.incidents_id_seq', 1, true);
SELECT pg_catalog.setval('public.patches_id_seq', 1, true);
SELECT pg_catalog.setval('public.products_id_seq', 1, false);
ALTER TABLE ONLY public.active_cities_cache
    ADD CONSTRAINT active_cities_cache_pkey PRIMARY KEY (cache_type);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.audit_findings
    ADD CONSTRAINT audit_findings_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.audit_minutes
    ADD CONSTRAINT audit_minutes_pkey PRIMARY KEY (minute, cache);
ALTER TABLE ONLY public.canaries
    ADD CONSTRAINT canaries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.canary_cache
    ADD CONSTRAINT canary_cache_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.cities
    ADD CONSTRAINT cities_external_id_key UNIQUE (external_id);
ALTER TABLE ONLY public.cities
    ADD CONSTRAINT cities_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.city_counts
    ADD CONSTRAINT city_counts_pkey PRIMARY KEY (city_id);
ALTER TABLE ONLY public.companies
    ADD CONSTRAINT companies_external_id_key UNIQUE (external_id);
ALTER TABLE ONLY public.companies
    ADD CONSTRAINT companies_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.company_city_mapping
    ADD CONSTRAINT company_city_mapping_pkey PRIMARY KEY (company_id);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.event_outbox
    ADD CONSTRAINT event_outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.incidents
    ADD CONSTRAINT incidents_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.observations
    ADD CONSTRAINT observations_pkey PRIMARY KEY (at);
ALTER TABLE ONLY public.patches
    ADD CONSTRAINT patches_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.product_city_mapping
    ADD CONSTRAINT product_city_mapping_pkey PRIMARY KEY (product_id);
ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_external_id_key UNIQUE (external_id);
ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.removed_keys
    ADD CONSTRAINT removed_keys_pkey PRIMARY KEY (noun, id);
ALTER TABLE ONLY public.replay_keys
    ADD CONSTRAINT replay_keys_pkey PRIMARY KEY (task_id, noun, id);
ALTER TABLE ONLY public.replays
    ADD CONSTRAINT replays_pkey PRIMARY KEY (task_id);
ALTER TABLE ONLY public.task_runs
    ADD CONSTRAINT task_runs_pkey PRIMARY KEY (task_id);
ALTER TABLE ONLY public.wide_patches
    ADD CONSTRAINT wide_patches_pkey PRIMARY KEY (company_id);
CREATE INDEX audit_findings_found_at_idx ON public.audit_findings USING btree (found_at);
CREATE INDEX audit_findings_open_idx ON public.audit_findings USING btree (cache, key) WHERE (repaired_at IS NULL);
CREATE INDEX audit_log_at_idx ON public.audit_log USING btree (at);
CREATE INDEX companies_city_id_idx ON public.companies USING btree (city_id, id);
CREATE INDEX company_city_mapping_city_id_idx ON public.company_city_mapping USING btree (city_id, company_id);
CREATE INDEX dead_letters_closed_at_idx ON public.dead_letters USING btree (closed_at) WHERE (closed_at IS NOT NULL);
CREATE INDEX dead_letters_open_idx ON public.dead_letters USING btree (id) WHERE (closed_at IS NULL);
CREATE INDEX dead_letters_open_subject_idx ON public.dead_letters USING btree (subject) WHERE ((closed_at IS NULL) AND (subject IS NOT NULL));
CREATE INDEX incidents_began_at_idx ON public.incidents USING btree (began_at);
CREATE UNIQUE INDEX incidents_open_idx ON public.incidents USING btree (kind, subject) WHERE (ended_at IS NULL);
CREATE INDEX patches_patched_at_idx ON public.patches USING btree (patched_at);
CREATE INDEX product_city_mapping_city_id_idx ON public.product_city_mapping USING btree (city_id, product_id);
CREATE INDEX product_city_mapping_company_id_idx ON public.product_city_mapping USING btree (company_id, product_id);
CREATE INDEX products_company_id_idx ON public.products USING btree (company_id, id);
CREATE INDEX task_runs_active_idx ON public.task_runs USING btree (queued_at) WHERE (state = ANY (ARRAY['PENDING'::text, 'STARTED'::text, 'RETRY'::text]));
CREATE INDEX task_runs_queued_at_idx ON public.task_runs USING btree (queued_at DESC, task_id);
CREATE UNIQUE INDEX task_runs_schedule_idx ON public.task_runs USING btree (task, scheduled_for) WHERE (scheduled_for IS NOT NULL);
CREATE INDEX task_runs_task_idx ON public.task_runs USING btree (task, queued_at DESC);
CREATE INDEX task_runs_unsuccessful_idx ON public.task_runs USING btree (task, queued_at DESC) WHERE (state <> 'SUCCESS'::text);
CREATE TRIGGER capture_canary AFTER INSERT OR UPDATE ON public.canaries FOR EACH ROW EXECUTE FUNCTION public.capture_canary();
CREATE TRIGGER capture_deleted AFTER DELETE ON public.cities REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_deleted('city');
CREATE TRIGGER capture_deleted AFTER DELETE ON public.companies REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_deleted('company');
CREATE TRIGGER capture_deleted AFTER DELETE ON public.products REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_deleted('product');
CREATE TRIGGER capture_inserted AFTER INSERT ON public.cities REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_inserted('city');
CREATE TRIGGER capture_inserted AFTER INSERT ON public.companies REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_inserted('company');
CREATE TRIGGER capture_inserted AFTER INSERT ON public.products REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_inserted('product');
CREATE TRIGGER capture_truncated AFTER TRUNCATE ON public.companies FOR EACH STATEMENT EXECUTE FUNCTION public.capture_truncated('company');
CREATE TRIGGER capture_truncated AFTER TRUNCATE ON public.products FOR EACH STATEMENT EXECUTE FUNCTION public.capture_truncated('product');
CREATE TRIGGER capture_updated AFTER UPDATE ON public.cities REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_updated('city');
CREATE TRIGGER capture_updated AFTER UPDATE ON public.companies REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_updated('company');
CREATE TRIGGER capture_updated AFTER UPDATE ON public.products REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.capture_updated('product');
ALTER TABLE ONLY public.companies
    ADD CONSTRAINT companies_city_id_fkey FOREIGN KEY (city_id) REFERENCES public.cities(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_company_id_fkey FOREIGN KEY (company_id) REFERENCES public.companies(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.replay_keys
    ADD CONSTRAINT replay_keys_task_id_fkey FOREIGN KEY (task_id) REFERENCES public.replays(task_id) ON DELETE CASCADE;
