"""Rows chosen to train on: how much they have to teach, told by two runs."""
