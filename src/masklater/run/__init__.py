"""RUN: the folder of one pre-training run, as corpus/ is for SHARDS."""
