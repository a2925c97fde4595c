"""Reports as text: one module per format, which knows blocks and nothing else of the program."""
