"""The doctor: what this machine is, and whether SHARDS or a RUN are sound. It reads and changes nothing."""
