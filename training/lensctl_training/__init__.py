"""Web pages -> pairs -> instructions -> shards -> trained model -> benchmark tables."""
