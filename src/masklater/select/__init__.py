"""Selection of rows to train on, by how much they have to teach: two runs score them."""
