"""The doctor: what this machine is, and whether SHARDS or a RUN are sound. It looks and changes nothing."""
