"""Puts planner statistics into a database of our own, and clears the way for files to be changed.

PostgreSQL 18 restores statistics itself (pg_restore_relation_stats(), _attribute_stats()). Before,
they are written into its catalogs by functions of our own, which a plain role may call for what it
owns: they take text, run none of its functions (no type that holds a domain is read), and let
nothing in that the column's type does not say. What goes into pg_statistic: pg_statistic.h,
std_typanalyze() and its like.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import psycopg

from sqladvisor.catalog.stand_ins import array_items, array_text
from sqladvisor.catalog.statistics import FIELDS, ColumnStatistics, RelationStatistics
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.sandbox import ROLE

RESTORING_VERSION = 180000
"""server_version_num of the first PostgreSQL that restores statistics and evicts buffers."""
UNKNOWN_TUPLES_VERSION = 140000
"""server_version_num of the first PostgreSQL that says -1 for a table never counted, not 0."""
MULTIRANGE_VERSION = 140000
TOOLS = "sqladvisor_tools"
"""The schema of our own functions in a shadow."""
_ASIDE = "sqladvisor_aside"

# With a superuser's rights, for the plain role: what a catalog says of an index or a size.
_COMMON = f"""
CREATE SCHEMA {TOOLS};
GRANT USAGE ON SCHEMA {TOOLS} TO {ROLE};
CREATE FUNCTION {TOOLS}.show(indexes oid[], visible boolean) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS 'UPDATE pg_index SET indisvalid = visible WHERE indexrelid = ANY (indexes)';
CREATE FUNCTION {TOOLS}.resize(relation oid, pages integer, tuples float8, visible integer)
    RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS 'UPDATE pg_class SET relpages = pages, reltuples = tuples, relallvisible = visible
        WHERE oid = relation';
"""
# bare(): have the relation's pages in its file alone, and say which file that is.
_NEW = f"""
CREATE EXTENSION pg_buffercache SCHEMA {TOOLS};
CREATE FUNCTION {TOOLS}.bare(relation oid) RETURNS text
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS 'SELECT {TOOLS}.pg_buffercache_evict_relation(relation); SELECT pg_relation_filepath(relation)';
"""
# Before 18 nothing evicts a relation. Moved to another tablespace an index is copied file by file.
_OLD = f"""
CREATE FUNCTION {TOOLS}.bare(relation oid) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ BEGIN
        EXECUTE format('ALTER INDEX %s SET TABLESPACE {_ASIDE}', relation::regclass);
        RETURN pg_relation_filepath(relation);
    END $$;
CREATE FUNCTION {TOOLS}.plain(type oid) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog
    AS $$ BEGIN RETURN (SELECT CASE
        WHEN t.typtype = 'd' THEN {TOOLS}.plain(t.typbasetype)
        WHEN e.typarray = t.oid THEN (SELECT b.typarray FROM pg_type b WHERE b.oid = {TOOLS}.plain(e.oid))
        WHEN t.typtype = 'r' THEN (SELECT t.oid FROM pg_range r WHERE r.rngtypid = t.oid
                                   AND {TOOLS}.plain(r.rngsubtype) = r.rngsubtype)
        WHEN t.typtype = 'm' THEN (SELECT t.oid WHERE {TOOLS}.plain({TOOLS}.range_of(t.oid)) IS NOT NULL)
        WHEN t.typtype = 'c' THEN (SELECT t.oid WHERE NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            AND {TOOLS}.plain(a.atttypid) IS DISTINCT FROM a.atttypid))
        ELSE t.oid END
    FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = type); END $$;
CREATE FUNCTION {TOOLS}.operator(type oid, method text, strategy integer) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog
    AS $$ BEGIN RETURN (SELECT a.amopopr FROM (
        SELECT o.opcfamily, o.opcintype
        FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem
        CROSS JOIN pg_opclass o JOIN pg_type i ON i.oid = o.opcintype
        JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = method
        LEFT JOIN pg_cast c ON c.castsource = t.oid AND c.casttarget = i.oid
             AND c.castmethod = 'b' AND c.castcontext = 'i'
        WHERE t.oid = type AND o.opcdefault AND (i.oid = t.oid OR c.oid IS NOT NULL OR i.typname =
            CASE WHEN e.typarray = t.oid THEN 'anyarray' ELSE CASE t.typtype WHEN 'e' THEN 'anyenum'
                 WHEN 'r' THEN 'anyrange' WHEN 'm' THEN 'anymultirange' WHEN 'c' THEN 'record' END END)
        ORDER BY i.oid = t.oid DESC, i.typispreferred DESC LIMIT 1) AS of
    JOIN pg_amop a ON a.amopfamily = of.opcfamily AND a.amoplefttype = of.opcintype
         AND a.amoprighttype = of.opcintype AND a.amopstrategy = strategy); END $$;
CREATE FUNCTION {TOOLS}.column_type(relation oid, attribute smallint) RETURNS oid
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog
    AS $$ BEGIN RETURN (SELECT CASE
        WHEN coalesce(i.indkey[attribute - 1], 1) <> 0 THEN a.atttypid
        -- An expression: some methods store something else than its value.
        WHEN t.typtype <> 'p' THEN o.opcintype
        WHEN m.amname = 'gin' THEN (SELECT e.typarray FROM pg_type e WHERE e.oid = a.atttypid)
        WHEN m.amname <> 'hash' THEN a.atttypid END
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_am m ON m.oid = c.relam
    LEFT JOIN pg_opclass o ON o.oid = i.indclass[attribute - 1]
    LEFT JOIN pg_type t ON t.oid = o.opcintype
    WHERE a.attrelid = relation AND a.attnum = attribute); END $$;
CREATE FUNCTION {TOOLS}.clear_column(relation oid, attribute smallint, inherits boolean) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ DELETE FROM pg_statistic WHERE starelid = relation AND staattnum = attribute
          AND stainherit = inherits AND (SELECT pg_get_userbyid(c.relowner) = '{ROLE}'
                                         FROM pg_class c WHERE c.oid = relation) $$;
CREATE FUNCTION {TOOLS}.restore_relation(relation oid, pages integer, tuples real, visible integer)
    RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ UPDATE pg_class SET relpages = pages, reltuples = tuples, relallvisible = visible
          WHERE oid = relation AND pg_get_userbyid(relowner) = '{ROLE}' $$;
CREATE FUNCTION {TOOLS}.restore_column(relation oid, attribute smallint, inherits boolean, given jsonb)
    RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ BEGIN
    PERFORM {TOOLS}.clear_column(relation, attribute, inherits);
    INSERT INTO pg_statistic
    SELECT relation, attribute, inherits, coalesce((given ->> 'null_frac')::real, 0),
        coalesce((given ->> 'avg_width')::integer, 0), coalesce((given ->> 'n_distinct')::real, 0),
        -- kinds
        CASE WHEN common THEN 1 ELSE 0 END,
        CASE WHEN bounds THEN 2 WHEN ranges THEN 6 ELSE 0 END,
        CASE WHEN ordered THEN 3 WHEN ranges THEN 7 ELSE 0 END,
        CASE WHEN elements THEN 4 ELSE 0 END,
        CASE WHEN counts THEN 5 ELSE 0 END,
        -- operators
        CASE WHEN common THEN equal ELSE 0 END,
        CASE WHEN bounds THEN less WHEN ranges THEN {TOOLS}.operator('float8'::regtype, 'btree', 1) ELSE 0 END,
        CASE WHEN ordered THEN less ELSE 0 END,
        CASE WHEN elements THEN element_equal ELSE 0 END,
        CASE WHEN counts THEN element_equal ELSE 0 END,
        -- collations
        CASE WHEN common THEN sorted ELSE 0 END,
        CASE WHEN bounds THEN sorted ELSE 0 END,
        CASE WHEN ordered THEN sorted ELSE 0 END,
        CASE WHEN elements THEN element_sorted ELSE 0 END,
        CASE WHEN counts THEN element_sorted ELSE 0 END,
        -- numbers
        CASE WHEN common THEN frequencies END,
        CASE WHEN ranges AND NOT bounds THEN ARRAY[coalesce((given ->> 'range_empty_frac')::real, 0)] END,
        CASE WHEN ordered THEN ARRAY[(given ->> 'correlation')::real] END,
        CASE WHEN elements THEN element_frequencies END,
        CASE WHEN counts THEN (given ->> 'elem_count_histogram')::real[] END,
        -- values: of none of these types can a string call a function of the schema
        CASE WHEN common THEN common_values END,
        CASE WHEN bounds THEN array_in(textout(given ->> 'histogram_bounds'), type, -1)
             WHEN ranges THEN array_in(textout(given ->> 'range_length_histogram'), 'float8'::regtype, -1) END,
        CASE WHEN ranges AND NOT ordered
             THEN array_in(textout(given ->> 'range_bounds_histogram'), range_type, -1) END,
        CASE WHEN elements THEN element_values END,
        array_in(NULL::cstring, 'text'::regtype, -1)
    FROM (SELECT *,
            cardinality(common_values) = cardinality(frequencies) AND equal IS NOT NULL AS common,
            given ? 'histogram_bounds' AND less IS NOT NULL AS bounds,
            given ? 'correlation' AND less IS NOT NULL AS ordered,
            cardinality(element_values) < cardinality(element_frequencies) AND element_equal IS NOT NULL AS elements,
            given ? 'elem_count_histogram' AND element_equal IS NOT NULL AS counts,
            given ? 'range_bounds_histogram' AND given ? 'range_length_histogram'
                AND range_type IS NOT NULL AS ranges
        FROM (SELECT *,
                array_in(textout(given ->> 'most_common_vals'), type, -1) AS common_values,
                (given ->> 'most_common_freqs')::real[] AS frequencies,
                array_in(textout(given ->> 'most_common_elems'), element, -1) AS element_values,
                (given ->> 'most_common_elem_freqs')::real[] AS element_frequencies,
                {TOOLS}.operator(type, 'btree', 1) AS less,
                coalesce({TOOLS}.operator(type, 'btree', 3), {TOOLS}.operator(type, 'hash', 1)) AS equal,
                coalesce({TOOLS}.operator(element, 'btree', 3), {TOOLS}.operator(element, 'hash', 1)) AS element_equal
            FROM (SELECT t.oid AS type, a.attcollation AS sorted,
                    CASE WHEN t.typname = 'tsvector' THEN 'text'::regtype::oid
                         WHEN e.typarray = t.oid THEN e.oid END AS element,
                    CASE WHEN t.typname = 'tsvector' THEN '"default"'::regcollation::oid
                         ELSE a.attcollation END AS element_sorted,
                    CASE t.typtype WHEN 'r' THEN t.oid WHEN 'm' THEN {TOOLS}.range_of(t.oid) END AS range_type
                FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                JOIN pg_type t ON t.oid = {TOOLS}.plain({TOOLS}.column_type(a.attrelid, a.attnum))
                LEFT JOIN pg_type e ON e.oid = t.typelem
                WHERE a.attrelid = relation AND a.attnum = attribute
                  AND pg_get_userbyid(c.relowner) = '{ROLE}'
            ) AS types
        ) AS read
    ) AS slots;
    IF NOT FOUND THEN RAISE 'there are domains within its type'; END IF;
    END $$;
"""
# pg_range knows multiranges from 14 on.
_RANGE_OF = """
CREATE FUNCTION {}.range_of(type oid) RETURNS oid LANGUAGE plpgsql STABLE SET search_path = pg_catalog
    AS $$ BEGIN RETURN ({}); END $$;"""
_TYPES = dict.fromkeys(FIELDS, "text") | {
    "null_frac": "real", "avg_width": "integer", "n_distinct": "real", "correlation": "real",
    "range_empty_frac": "real", "most_common_freqs": "real[]", "most_common_elem_freqs": "real[]",
    "elem_count_histogram": "real[]",
}  # fmt: skip
# A field that is NULL is one that is not given.
_RESTORE_COLUMNS = (
    "SELECT pg_restore_attribute_stats('schemaname', n.nspname::text, 'relname', c.relname::text, "
    "'attname', v.attname, 'attnum', v.attnum, 'inherited', v.inherited, "
    + ", ".join(f"'{name}', v.{name}::{kind}" for name, kind in _TYPES.items())
    + ') FROM json_to_recordset(%s::json) AS v (schema text, "table" text, attname text, '
    "attnum smallint, inherited boolean, "
    + ", ".join(f"{name} text" for name in _TYPES)
    + ") JOIN pg_namespace n ON n.nspname = v.schema "
    "JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.table "
    "AND pg_get_userbyid(c.relowner) = user"
)
_WRITE_COLUMNS = f"""
SELECT {TOOLS}.restore_column(c.oid, a.attnum, v.inherited, v.given)
FROM json_to_recordset(%s::json) AS v (schema text, "table" text, attname text, attnum smallint,
    inherited boolean, given jsonb)
JOIN pg_namespace n ON n.nspname = v.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.table
    AND pg_get_userbyid(c.relowner) = user
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    AND (a.attnum = v.attnum OR a.attname = v.attname)"""
_SIZES = """
FROM json_to_recordset(%s::json) AS v (schema text, name text, relpages integer, reltuples real,
    relallvisible integer)
JOIN pg_namespace n ON n.nspname = v.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.name
    AND pg_get_userbyid(c.relowner) = user"""
_RESTORE_RELATIONS = f"""
SELECT pg_restore_relation_stats('schemaname', n.nspname::text, 'relname', c.relname::text,
    'relpages', v.relpages, 'reltuples', v.reltuples, 'relallvisible', v.relallvisible) {_SIZES}"""
_WRITE_RELATIONS = f"""
SELECT {TOOLS}.restore_relation(c.oid, v.relpages, v.reltuples, v.relallvisible) {_SIZES}"""
_OF_COLUMN = """
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND (a.attname = %s OR a.attnum = %s)
  AND a.attnum > 0 AND pg_catalog.pg_get_userbyid(c.relowner) = user"""
_TEXT = ("text", "varchar", "bpchar")


def install_tools(admin: psycopg.Connection, cluster: Cluster) -> None:
    """Make our functions in the database of a superuser's session."""
    admin.execute(_COMMON)
    if cluster.version_num >= RESTORING_VERSION:
        admin.execute(_NEW)
        return
    cluster.create_tablespace(_ASIDE)
    multi = "SELECT rngtypid FROM pg_range WHERE rngmultitypid = type"
    has_multi = cluster.version_num >= MULTIRANGE_VERSION
    admin.execute(_RANGE_OF.format(TOOLS, multi if has_multi else "NULL::oid").encode())
    admin.execute(_OLD)


def bare_all(admin: psycopg.Connection) -> None:
    """Have the pages of all indexes in their files alone: what shared buffers hold goes first."""
    admin.execute("CHECKPOINT")
    if admin.info.server_version >= RESTORING_VERSION:
        admin.execute(f"SELECT {TOOLS}.pg_buffercache_evict_all()").fetchall()
    else:
        # Else a commit would read small files into shared buffers, to log them (smgrDoPendingSyncs()).
        admin.execute("SET wal_skip_threshold = 0")
        admin.execute(f"ALTER INDEX ALL IN TABLESPACE pg_default SET TABLESPACE {_ASIDE}")


def bare(connection: psycopg.Connection, oid: int) -> str:
    """The same for one index; its file's path in the data directory, which may be another now."""
    row = connection.execute(f"SELECT {TOOLS}.bare(%s::oid)".encode(), [oid]).fetchone()
    assert row is not None
    return str(row[0])


def restore_relations(
    connection: psycopg.Connection, relations: Sequence[RelationStatistics], version: int
) -> None:
    """Restore sizes that a server of ``version`` had, of relations that the session's role owns."""
    own = connection.info.server_version
    rows = [
        {
            "schema": r.schema, "name": r.name, "relpages": r.relpages,
            "reltuples": _tuples(r, version, own), "relallvisible": r.relallvisible,
        }
        for r in relations
    ]  # fmt: skip
    restoring = own >= RESTORING_VERSION
    query = _RESTORE_RELATIONS if restoring else _WRITE_RELATIONS
    connection.execute(query.encode(), [json.dumps(rows)])


def _tuples(relation: RelationStatistics, version: int, own: int) -> float:
    """reltuples as this server says it: a table that was never counted has 0 before 14, then -1."""
    if own < UNKNOWN_TUPLES_VERSION:
        return max(relation.reltuples, 0.0)
    unknown = not relation.reltuples and not relation.relpages and version < UNKNOWN_TUPLES_VERSION
    return -1.0 if unknown else relation.reltuples


def restore_columns(connection: psycopg.Connection, columns: Sequence[ColumnStatistics]) -> None:
    """Restore rows of pg_stats, of relations that the session's role owns.

    Of an index the number counts, of a table the name.
    """
    restoring = connection.info.server_version >= RESTORING_VERSION
    rows: list[dict[str, object]] = []
    for column in columns:
        row: dict[str, object] = {
            "schema": column.schema, "table": column.table, "inherited": column.inherited,
            **({"attnum": column.number} if column.kind in "iI" else {"attname": column.column}),
        }  # fmt: skip
        given = {k: v for k, v in in_order(column.values, column.base).items() if v is not None}
        rows.append(row | (given if restoring else {"given": given}))
    query = _RESTORE_COLUMNS if restoring else _WRITE_COLUMNS
    connection.execute(query.encode(), [json.dumps(rows)])


def clear_column(connection: psycopg.Connection, schema: str, table: str, column: str) -> None:
    """Forget what is known of a table's column."""
    if connection.info.server_version >= RESTORING_VERSION:
        connection.execute(
            "SELECT pg_clear_attribute_stats(%s, %s, %s, false)", [schema, table, column]
        )
    else:
        connection.execute(
            f"SELECT {TOOLS}.clear_column(c.oid, a.attnum, false)" + _OF_COLUMN,
            [schema, table, column, None],
        )


def in_order(values: dict[str, str | None], base: str) -> dict[str, str | None]:
    """Statistics whose sorted lists are in the shadow's order: by code point, not by language.

    The planner searches histograms and items of arrays by halves; words lie by length first.
    """
    result = dict(values)
    bounds = values.get("histogram_bounds")
    if base in _TEXT and bounds:
        items = sorted((i or "" for i in array_items(bounds)), key=lambda i: i.rstrip(" "))
        result["histogram_bounds"] = array_text(items)
    elements, frequencies = values.get("most_common_elems"), values.get("most_common_elem_freqs")
    if elements and frequencies and (base == "tsvector" or base[1:] in _TEXT):
        words = [i or "" for i in array_items(elements)]
        shares = frequencies[1:-1].split(",")
        ordered = sorted(
            zip(words, shares, strict=False),
            key=(lambda p: (len(p[0].encode()), p[0].encode()))
            if base == "tsvector"
            else lambda p: p[0],
        )
        result["most_common_elems"] = array_text(w for w, _ in ordered)
        result["most_common_elem_freqs"] = (
            "{" + ",".join([*(s for _, s in ordered), *shares[len(words) :]]) + "}"
        )
    return result
