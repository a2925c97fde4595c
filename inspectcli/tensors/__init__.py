"""What a tensor is: element types, where its bytes lie, and its values a block at a time."""
