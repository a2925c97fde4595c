"""Rules with codes: what is wrong with these numbers, this file, this training. A file a family, a function a rule."""
