"""The recipe: everything that decides what a run computes, validated whole. No torch is imported here."""
