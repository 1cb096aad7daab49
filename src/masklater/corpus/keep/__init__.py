"""What is kept of a corpus: filters of single documents, duplicates, and what evaluation sets hold."""
