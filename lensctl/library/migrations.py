"""The catalog's schema, as named, append-only migrations; each runs in a transaction.

Paths are BLOBs: a file name is bytes, not text. Vectors are BLOBs of little-endian float16.
A content is a photo's bytes, named by their hash; a photo is a place where a content lies.
"""

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

migrations = Migrations("lensctl")


@migrations()
def m001_photos_and_vectors(db: Database) -> None:
    """Places, contents, models and their vectors."""
    for statement in _FIRST_SCHEMA.split(";"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m002_looks(db: Database) -> None:
    """Perceptual hashes; NULL where a photo is too flat to have one, no row where it is unknown."""
    db.execute(
        "CREATE TABLE looks (\n"
        "    content_id INTEGER PRIMARY KEY REFERENCES contents (id),\n"
        "    hash INTEGER\n"
        ")"
    )


@migrations()
def m003_heif_turned_twice(db: Database) -> None:
    """HEIF photos that were turned twice are forgotten by all models: the next index encodes them.

    libheif turns them, and up to version 2 what EXIF said turned them again.
    """
    turned = "SELECT id FROM contents WHERE format = 'HEIF' AND orientation > 1"
    if db.execute(f"{turned} LIMIT 1").fetchone() is None:
        return
    for table in ("targets", "embeddings", "looks"):
        db.execute(f"DELETE FROM {table} WHERE content_id IN ({turned})")
    db.execute(
        "UPDATE contents SET width = height, height = width"
        " WHERE format = 'HEIF' AND orientation > 4"
    )
    db.execute(
        "INSERT INTO facts_of_library VALUES ('epoch', 1)"
        " ON CONFLICT (key) DO UPDATE SET value = value + 1"
    )


_FIRST_SCHEMA = """
CREATE TABLE facts_of_library (
    key TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

CREATE TABLE roots (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    last_indexed TEXT
);

CREATE TABLE contents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE,
    format TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    taken TEXT,
    camera TEXT,
    lens TEXT,
    latitude REAL,
    longitude REAL,
    orientation INTEGER,
    rating INTEGER,
    keywords TEXT,
    problems TEXT,
    orphaned TEXT
);
CREATE INDEX contents_taken ON contents (taken) WHERE taken IS NOT NULL;
CREATE INDEX contents_place ON contents (latitude, longitude) WHERE latitude IS NOT NULL;
CREATE INDEX contents_orphaned ON contents (orphaned) WHERE orphaned IS NOT NULL;

CREATE TABLE photos (
    id INTEGER PRIMARY KEY,
    root_id INTEGER NOT NULL REFERENCES roots (id),
    path BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    content_id INTEGER REFERENCES contents (id),
    state TEXT NOT NULL CHECK (state IN ('present', 'excluded', 'offline')),
    error TEXT,
    CHECK (content_id IS NOT NULL OR error IS NOT NULL)
);
CREATE INDEX photos_content ON photos (content_id);
CREATE INDEX photos_inode ON photos (inode, size);
CREATE INDEX photos_error ON photos (id) WHERE error IS NOT NULL;

CREATE TABLE encoders (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    dim INTEGER NOT NULL
);

CREATE TABLE lenses (
    id INTEGER PRIMARY KEY,
    encoder_id INTEGER NOT NULL REFERENCES encoders (id),
    fingerprint TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    dim INTEGER NOT NULL
);

CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    encoder_id INTEGER NOT NULL REFERENCES encoders (id),
    content_id INTEGER NOT NULL REFERENCES contents (id),
    vector BLOB NOT NULL,
    precision TEXT NOT NULL,
    device TEXT NOT NULL,
    UNIQUE (content_id, encoder_id)
);
CREATE INDEX embeddings_order ON embeddings (encoder_id, id);

CREATE TABLE targets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    lens_id INTEGER NOT NULL REFERENCES lenses (id),
    content_id INTEGER NOT NULL REFERENCES contents (id),
    vector BLOB NOT NULL,
    UNIQUE (content_id, lens_id)
);
CREATE INDEX targets_order ON targets (lens_id, id)
"""
