"""The recipe: everything that decides what a run computes, validated as a whole. No torch is imported here."""
