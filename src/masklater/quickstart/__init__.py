"""The whole main job on text that is on every machine, to show it works and how it looks."""
