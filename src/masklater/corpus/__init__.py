"""The corpus: from text files to SHARDS, rows of token ids on disk that training reads."""
