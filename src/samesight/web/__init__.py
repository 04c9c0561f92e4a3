"""A bundle as a web page: everything it needs in one folder, to be served from anywhere. Needs no torch."""
