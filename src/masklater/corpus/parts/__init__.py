"""Parts: pieces of a corpus, each processed by itself, in any process or on any machine."""
