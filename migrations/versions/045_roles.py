"""Roles of firms, and the share of each role in a week.

`migrate` writes the rows of `otc.firm`: they are those of the list in the package.
"""

from alembic import op

revision = "045"
down_revision = "044"
branch_labels = None
depends_on = None

UP = r"""
CREATE TABLE otc.firm (
    venue_id text PRIMARY KEY,
    name     text NOT NULL UNIQUE,
    role     text NOT NULL CHECK (role IN ('wholesaler', 'bank_desk', 'broker_dealer', 'exchange_affiliated')),
    source   text NOT NULL CHECK (source <> ''),
    reviewed date NOT NULL
);

CREATE FUNCTION otc.role_of(of_venue_id text, of_venue_name text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        (SELECT role FROM otc.firm WHERE venue_id = of_venue_id),
        (SELECT min(role) FROM otc.firm
         WHERE regexp_replace(upper(name), '[^A-Z0-9&]+', '', 'g')
             = regexp_replace(upper(of_venue_name), '[^A-Z0-9&]+', '', 'g')),
        'unattributed')
$$;

CREATE TABLE otc.role_share (
    week_ending             date NOT NULL,
    tier                    text NOT NULL,
    venue_scope             text NOT NULL CHECK (venue_scope IN ('ATS', 'NON_ATS')),
    role                    text NOT NULL CHECK (role IN
        ('wholesaler', 'bank_desk', 'broker_dealer', 'exchange_affiliated', 'unattributed')),
    firm_count              bigint NOT NULL,
    total_volume            numeric(38, 6) NOT NULL,
    total_trades            bigint NOT NULL,
    market_share_pct        numeric(18, 6),
    kind_share_pct          numeric(18, 6),
    kind_rank               bigint NOT NULL,
    total_notional          numeric(38, 6),
    notional_share_pct      numeric(18, 6),
    kind_notional_share_pct numeric(18, 6),
    kind_notional_rank      bigint,
    known_from              timestamptz NOT NULL,
    PRIMARY KEY (week_ending, tier, venue_scope, role)
);
CREATE TABLE otc.role_share_revision (
    LIKE otc.role_share,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, tier, venue_scope, role, known_to)
);
UPDATE otc.retention SET tables = tables || ARRAY['role_share', 'role_share_revision'] WHERE what = 'summaries';
"""

DOWN = """
DROP FUNCTION IF EXISTS otc.role_share_as_of(timestamptz);
DROP FUNCTION otc.role_of(text, text);
UPDATE otc.retention SET tables = ARRAY(
    SELECT unnest(tables) EXCEPT SELECT unnest(ARRAY['role_share', 'role_share_revision'])
) WHERE what = 'summaries';
DROP TABLE otc.role_share_revision;
DROP TABLE otc.role_share;
DROP TABLE otc.firm;
DELETE FROM otc.computed_week WHERE table_name = 'role_share';
DELETE FROM otc.definition WHERE name = 'firm' OR name LIKE '%role_share%';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
