"""Continuous aggregates name time_bucket in their queries: they are the same, so they are not built again.

Until now ``time_bucket`` was inserted into a text that views shared. Only the digest of the text differs.
"""

import sqlalchemy as sa
from alembic import op

revision = "054"
down_revision = "053"
branch_labels = None
depends_on = None

#: By name, the digest before and after.
DIGESTS = {
    "weekly_summary_agg": (
        "21613da89fe139ce3b1175110cb9e74a0b0a95c5fe85d8f0d5aae42a8b0b02b5",
        "24d96c4bc44c09c76056c95e769c8d2d2a2b6b7ecf9ee644f8b7e6def4857150",
    ),
    "monthly_summary_agg": (
        "a13009c9ea04b4a1dcadbddf4135cdc37991044dd6f79edf1ad340571c2744f7",
        "bdc8930459b681e25197a32674600bd25b78b6387cdb5cf96ff3f51b3df19e12",
    ),
}

REPLACE = sa.text("UPDATE otc.definition SET digest = :digest WHERE name = :name AND digest = :stored")


def upgrade() -> None:
    for name, (before, after) in DIGESTS.items():
        op.execute(REPLACE.bindparams(name=name, stored=before, digest=after))


def downgrade() -> None:
    for name, (before, after) in DIGESTS.items():
        op.execute(REPLACE.bindparams(name=name, stored=after, digest=before))
