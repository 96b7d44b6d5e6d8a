"""Training loops of one's own: what they report of each epoch becomes the rows of a trial."""
