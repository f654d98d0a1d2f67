"""The table of corrections, which version 0.1 made without writing a revision."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the table, or keep the one of version 0.1 with its rows."""
    if sa.inspect(op.get_bind()).has_table("corrections"):
        return
    op.create_table(
        "corrections",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("corpus", sa.String(100), nullable=False),
        sa.Column("corpus_hash", sa.String(64), nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("by", sa.String(80), nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("corrections_of_image", "corrections", ["corpus", "partition", "row"])
