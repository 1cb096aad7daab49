"""The choice of documents to keep: filters of single documents, duplicates, and contamination by evaluation sets."""
