"""Results for people and programs: table, thumbnails, JSON, HTML sheet."""
