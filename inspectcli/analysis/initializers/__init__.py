"""Which initializer do these numbers look like: fans, a table of families, and tests that fit no parameter."""
