"""The corpus: text files to SHARDS, rows of token ids that training reads in place."""
