"""Parts: what a corpus is cut into, each made by itself, in any process or on any machine."""
