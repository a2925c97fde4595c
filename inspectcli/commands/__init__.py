"""A folder for each command: its result, how it is made, what people see of it."""
