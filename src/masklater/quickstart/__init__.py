"""The whole main job on text that every machine has, to show that it works and what it looks like."""
