"""Publications, their raw and rejected rows, venue volume with its revisions, FINRA's totals, summaries.

Primary keys of tables that grow by week begin with ``week_ending``: a week is what is loaded, read and
replaced, and a TimescaleDB hypertable on that column needs it in every unique key.
"""

from alembic import op

revision = "020"
down_revision = None
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.week_calendar (
    week_ending      date NOT NULL CHECK (extract(isodow FROM week_ending) = 5),
    tier             text NOT NULL,
    week_start       date NOT NULL,
    trading_days     integer NOT NULL CHECK (trading_days BETWEEN 0 AND 5),
    publication_date date NOT NULL,
    PRIMARY KEY (week_ending, tier)
);
COMMENT ON TABLE otc.week_calendar IS
    'The week by the NYSE''s calendar: days traded, and the day on which FINRA publishes each tier of it.';

CREATE TABLE otc.publication (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    week_ending            date NOT NULL CHECK (extract(isodow FROM week_ending) = 5),
    tier                   text NOT NULL CHECK (tier IN ('NMS Tier 1', 'NMS Tier 2', 'OTC')),
    scope                  text NOT NULL CHECK (scope IN ('FULL', 'ATS', 'NON_ATS', 'PARTIAL')),
    revision               integer NOT NULL CHECK (revision >= 1),
    digest                 text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    origin                 text NOT NULL,
    summary_type           text,
    layout                 text NOT NULL,
    bytes                  bigint NOT NULL,
    rows_received          bigint NOT NULL,
    rows_accepted          bigint NOT NULL,
    rows_rejected          bigint NOT NULL,
    rows_expected          bigint,
    complete               boolean NOT NULL,
    initial_published_date date,
    last_update_date       date,
    run_id                 text,
    captured_at            timestamptz NOT NULL DEFAULT now(),
    UNIQUE (week_ending, tier, scope, revision),
    CONSTRAINT nothing_lost CHECK (rows_received = rows_accepted + rows_rejected)
);
COMMENT ON TABLE otc.publication IS
    'A captured publication of a (week, tier), or a part of one; its bytes lie in the archive under digest.';
COMMENT ON COLUMN otc.publication.scope IS
    'FULL: all rows FINRA has. ATS, NON_ATS: a download file, one half. PARTIAL: records of a part.';
COMMENT ON COLUMN otc.publication.rows_expected IS 'Record-Total, where FINRA stated one.';

CREATE TABLE otc.raw_record (
    week_ending    date NOT NULL,
    publication_id bigint NOT NULL REFERENCES otc.publication (id),
    line           bigint NOT NULL,
    record         text NOT NULL,
    PRIMARY KEY (week_ending, publication_id, line)
);
COMMENT ON TABLE otc.raw_record IS 'Rows as FINRA sent them, verbatim, by line of the publication.';

CREATE TABLE otc.rejected_record (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    week_ending    date NOT NULL,
    publication_id bigint NOT NULL REFERENCES otc.publication (id),
    line           bigint,
    record         text NOT NULL,
    reason         text NOT NULL
);
CREATE INDEX rejected_record_by_publication ON otc.rejected_record (publication_id, line);
COMMENT ON TABLE otc.rejected_record IS 'Rows that were not accepted, verbatim, with the reason.';

CREATE TABLE otc.venue_volume (
    week_ending            date NOT NULL,
    tier                   text NOT NULL,
    symbol                 text NOT NULL,
    issue_name             text NOT NULL,
    product_type           text NOT NULL,
    venue_kind             text NOT NULL CHECK (venue_kind IN ('ATS', 'NON_ATS', 'DE_MINIMIS')),
    venue_id               text NOT NULL,
    mpid                   text,
    firm_crd               text,
    venue_name             text,
    share_volume           numeric(38, 6) NOT NULL,
    trade_count            bigint NOT NULL,
    notional               numeric(38, 6),
    avg_trade_size         numeric(38, 6),
    last_update_date       date,
    initial_published_date date,
    known_from             timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (week_ending, tier, symbol, issue_name, product_type, venue_id)
);
COMMENT ON TABLE otc.venue_volume IS
    'Shares and trades of each symbol at each venue in a week: FINRA''s *_W_SMBL_FIRM rows.';
COMMENT ON COLUMN otc.venue_volume.venue_id IS
    'The MPID of an ATS; the CRD number of a non-ATS firm; DE_MINIMIS for the group of small firms.';
COMMENT ON COLUMN otc.venue_volume.known_from IS 'When this became what we hold to be the truth.';

CREATE TABLE otc.venue_volume_revision (
    LIKE otc.venue_volume,
    known_to       timestamptz NOT NULL,
    change         text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, tier, symbol, issue_name, product_type, venue_id, known_to)
);
COMMENT ON TABLE otc.venue_volume_revision IS
    'What a row of venue_volume was before a revision, true from known_from until known_to.';

CREATE TABLE otc.published_total (
    week_ending  date NOT NULL,
    tier         text NOT NULL,
    total_of     text NOT NULL CHECK (total_of IN ('SYMBOL', 'VENUE', 'MARKET')),
    venue_kind   text NOT NULL CHECK (venue_kind IN ('ATS', 'NON_ATS')),
    symbol       text NOT NULL,
    issue_name   text NOT NULL,
    product_type text NOT NULL,
    venue_id     text NOT NULL,
    share_volume numeric(38, 6) NOT NULL,
    trade_count  bigint NOT NULL,
    notional     numeric(38, 6),
    PRIMARY KEY (week_ending, tier, total_of, venue_kind, symbol, issue_name, product_type, venue_id)
);
COMMENT ON TABLE otc.published_total IS 'FINRA''s own totals: the judge of our sums.';

CREATE TABLE otc.symbol_summary (
    week_ending         date NOT NULL,
    tier                text NOT NULL,
    symbol              text NOT NULL,
    issue_name          text NOT NULL,
    issue_count         bigint NOT NULL,
    total_volume        numeric(38, 6) NOT NULL,
    ats_volume          numeric(38, 6) NOT NULL,
    non_ats_volume      numeric(38, 6) NOT NULL,
    de_minimis_volume   numeric(38, 6) NOT NULL,
    total_trades        bigint NOT NULL,
    total_notional      numeric(38, 6),
    venue_count         bigint NOT NULL,
    avg_trade_size      numeric(38, 6),
    top_venue           text NOT NULL,
    top_venue_share_pct numeric(18, 6),
    PRIMARY KEY (week_ending, tier, symbol)
);
CREATE INDEX symbol_summary_by_symbol ON otc.symbol_summary (symbol, week_ending);

CREATE TABLE otc.venue_share (
    week_ending      date NOT NULL,
    tier             text NOT NULL,
    venue_id         text NOT NULL,
    venue_kind       text NOT NULL,
    venue_name       text,
    total_volume     numeric(38, 6) NOT NULL,
    total_trades     bigint NOT NULL,
    symbol_count     bigint NOT NULL,
    avg_trade_size   numeric(38, 6),
    market_share_pct numeric(18, 6),
    rank             bigint NOT NULL,
    kind_share_pct   numeric(18, 6),
    kind_rank        bigint NOT NULL,
    PRIMARY KEY (week_ending, tier, venue_id)
);
CREATE INDEX venue_share_by_venue ON otc.venue_share (venue_id, week_ending);

CREATE TABLE otc.week_quality (
    week_ending date NOT NULL,
    tier        text NOT NULL,
    grade       text NOT NULL CHECK (grade IN ('A', 'B', 'C', 'D', 'F')),
    score       integer NOT NULL CHECK (score BETWEEN 0 AND 100),
    findings    jsonb NOT NULL,
    version     text NOT NULL,
    judged_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (week_ending, tier)
);
COMMENT ON COLUMN otc.week_quality.version IS 'The version of venue_volume that was judged.';

CREATE TABLE otc.gap (
    week_ending   date NOT NULL,
    tier          text NOT NULL,
    status        text NOT NULL,
    due           date NOT NULL,
    fetchable     boolean NOT NULL,
    rows_loaded   bigint NOT NULL,
    rows_expected bigint,
    detail        text NOT NULL,
    reported_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (week_ending, tier)
);

CREATE TABLE otc.computed_week (
    table_name  text NOT NULL,
    week_ending date NOT NULL,
    version     text NOT NULL,
    rows        bigint NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, week_ending)
);
COMMENT ON TABLE otc.computed_week IS
    'From which inputs a week of a table was made: it is stale where the inputs'' version is another now.';
"""

DOWN = """
DROP TABLE otc.computed_week, otc.gap, otc.week_quality, otc.venue_share, otc.symbol_summary,
    otc.published_total, otc.venue_volume_revision, otc.venue_volume, otc.rejected_record, otc.raw_record,
    otc.publication, otc.week_calendar;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
