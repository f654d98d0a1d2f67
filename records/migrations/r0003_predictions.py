"""The table of predictions; MySQL and MariaDB compare the text of corrections byte by byte, as other databases do."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"

INDEXES = {
    "predictions_answer": ["answer", "number"],
    "predictions_model": ["model", "number"],
    "predictions_corrected": ["corrected", "number"],
}


def upgrade() -> None:
    """Create the table and its indexes; what is there is kept, as MySQL can't take back half of it."""
    bind = op.get_bind()
    there = sa.inspect(bind)
    indexes = set()
    if there.has_table("predictions"):
        indexes = {index["name"] for index in there.get_indexes("predictions")}
    else:
        op.create_table(
            "predictions",
            sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("answer", sa.String(200), nullable=False),
            sa.Column("model", sa.String(100), nullable=False),
            sa.Column("corrected", sa.SmallInteger, nullable=False),
            sa.Column("correction", sa.String(200)),
            sa.Column("corrected_by", sa.String(80)),
            sa.Column("corrected_at", sa.DateTime),
            sa.Column("confidence", sa.Double, nullable=False),
            sa.Column("milliseconds", sa.Double, nullable=False),
            sa.Column("model_hash", sa.String(64), nullable=False),
            sa.Column("size", sa.BigInteger, nullable=False),
            sa.Column("sha256", sa.String(64), nullable=False),
            sa.Column("name", sa.String(255), nullable=False),
            sa.Column(
                "classes", sa.Text().with_variant(mysql.MEDIUMTEXT, "mysql", "mariadb"), nullable=False
            ),
            sa.Column("image", sa.LargeBinary, nullable=False),
        )
    for table in ("corrections", "predictions") if bind.dialect.name in ("mysql", "mariadb") else ():
        # Their default takes "cat" and "Cat" for the same, and may not have every character.
        op.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    for name, columns in INDEXES.items():
        if name not in indexes:
            op.create_index(name, "predictions", columns)
