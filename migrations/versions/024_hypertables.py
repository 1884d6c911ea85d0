"""Tables that grow by week become hypertables, where the server has TimescaleDB.

A server that gets it later, or a better edition of it, is brought there by every ``otc-assets migrate``: the
forms of tables are in ``otc_assets.warehouse.timescale``.
"""

from alembic import op

from otc_assets.warehouse import timescale

revision = "024"
down_revision = "023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A symbol's history is read by this where weeks are not compressed. It takes a third of a load's time, and before
    # PostgreSQL 18, which skips through the key, all the weeks would be read without it (docs/benchmarks.md).
    op.execute("CREATE INDEX venue_volume_by_symbol ON otc.venue_volume (symbol, week_ending)")
    timescale.to_hypertables(op.get_bind())


def downgrade() -> None:
    timescale.to_tables(op.get_bind())
    op.execute("DROP INDEX otc.venue_volume_by_symbol")
