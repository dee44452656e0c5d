"""A trained model and its vectors in the formats of other tools, with a report of what is lost on the way."""
