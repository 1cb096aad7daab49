"""Pre-training: from SHARDS and a recipe to a RUN."""
