"""Recognition of initializers: fans, a table of distributions, and tests without fitted parameters."""
