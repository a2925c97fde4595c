"""What people see, before it is text: blocks, and how rows fold."""
