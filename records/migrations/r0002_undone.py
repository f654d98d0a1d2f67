"""Corrections that are undone stay, with the time and the name; indexes for the newest of each image and for names."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns, and indexes in place of the old one; what is there is kept, as MySQL can't take back half of it."""
    there = sa.inspect(op.get_bind())
    columns = {column["name"] for column in there.get_columns("corrections")}
    indexes = {index["name"] for index in there.get_indexes("corrections")}
    for column in (sa.Column("undone_at", sa.DateTime), sa.Column("undone_by", sa.String(80))):
        if column.name not in columns:
            op.add_column("corrections", column)
    newest = ["corpus", "corpus_hash", "partition", "row", "undone_at", "number"]
    for name, of in (("corrections_newest", newest), ("corrections_by", ["by", "at"])):
        if name not in indexes:
            op.create_index(name, "corrections", of)
    if "corrections_of_image" in indexes:
        op.drop_index("corrections_of_image", "corrections")
